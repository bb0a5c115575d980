"""What the other stages train on: raw text and weak pairs, of training modules and templates only."""

import json
from pathlib import Path

import pytest

from codiemb.data import read_records
from data_prep.docs.build import build_docs
from data_prep.docs.other_stages import build_docs_extra
from data_prep.docs.parse import source_files
from data_prep.docs.raw import parse_raw
from data_prep.docs.select import split_of
from data_prep.frames.build import build_frames
from data_prep.frames.grammar import load_grammar
from data_prep.frames.other_stages import ExtraSizes, build_frames_extra
from data_prep.frames.sizes import Sizes
from data_prep.held_out import HeldOut
from data_prep.records import write_jsonl

SMALL = ExtraSizes(lm=120, pairs=60, classification=60, pair_classification=40, reranking=20)


def read(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts_of(record):
    if "text" in record:
        return [record["text"]]
    return [t[2] for t in [record["query"], *record["positives"], *record.get("negatives", [])]]


# One file

SOURCE = '''# Copyright 2020 The Authors, licensed under the Apache License, version two.
"""A module about kettles and the water that is boiled in them."""
import os  # a comment behind code is no prose

# This explains at some length
# why kettles must be descaled every month.
# noqa: E501
kettle = 1  # type: ignore

# if kettle == 1:
#     return kettle
SIZE = 3


def boil(water):
    """Boil the given water until it is hot enough.

    Args:
        water: how much of it, in litres, and not more than the kettle holds, which is about two of them.
    """
    # Too short.

    def inner():
        """Count the bubbles that rise while the water boils."""

    return [water for water in range(3)]


class Kettle:
    """Keeps water warm for as long as somebody wants tea."""

    def pour(self):
        """Pour the water into every cup on the table.

        # This line of the docstring is no comment
        """

    def _leak(self):
        """Lose water slowly and without anybody noticing it."""
'''


@pytest.fixture
def parsed(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(SOURCE, encoding="utf-8")
    return parse_raw(("p", "p.m", str(path)))


def test_raw_text_is_every_docstring_and_the_prose_of_all_comments(parsed):
    *docstrings, comments = parsed.texts
    assert [text.split()[0] for text in docstrings] == ["A", "Boil", "Count", "Keeps", "Pour", "Lose"]
    assert comments == "This explains at some length why kettles must be descaled every month."


def test_definitions_are_public_with_a_summary_and_a_body_where_there_is_one(parsed):
    found = {d.name: (d.is_class, d.summary, bool(d.body)) for d in parsed.definitions}
    assert found == {
        "boil": (False, "Boil the given water until it is hot enough.", True),
        "Kettle": (True, "Keeps water warm for as long as somebody wants tea.", False),
        "Kettle.pour": (False, "Pour the water into every cup on the table.", False),
    }


@pytest.mark.parametrize("source", [b"def f(:\n", b"\xff\xfe broken", b"a = 1\x00"])
def test_a_file_that_is_not_python_has_nothing(tmp_path, source):
    (tmp_path / "m.py").write_bytes(source)
    parsed = parse_raw(("p", "p.m", str(tmp_path / "m.py")))
    assert (parsed.texts, parsed.definitions) == ([], [])


# Docs

FILES = ("docs_lm", "docs_name", "docs_body", "docs_methods")


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """A real, small package, with its evaluation sets."""
    out = tmp_path_factory.mktemp("docs")
    packages = ("networkx", "no_such_package")
    build_docs(out, 0, packages, max_files=100, workers=1)
    return out, build_docs_extra(out, packages, max_files=100, workers=1)


def test_every_file_is_written_and_holds_valid_records(docs):
    out, counts = docs
    assert set(counts) == {f"train/{name}.jsonl" for name in FILES}
    for name, count in counts.items():
        records = list(read_records(out / name))
        assert len(records) == count > 0
        assert {record.task for record in records} == {"lm" if name.endswith("_lm.jsonl") else "ir"}


def test_no_text_of_the_test_side_is_in_any_file(docs):
    out, counts = docs
    held_out = HeldOut.of(out, "DocsRetrieval")
    assert len(held_out.texts) > 50
    assert all(held_out.has(text) for text in held_out.texts)
    for name in counts:
        for record in read(out / name):
            assert not any(map(held_out.has, texts_of(record)))


def test_only_training_modules_are_read(docs):
    out, _ = docs
    modules = {split: set() for split in ("train", "dev", "test")}
    for _, module, _ in source_files("networkx", 100):
        modules[split_of(module)].add(module)
    assert all(modules.values())
    for record in read(out / "train/docs_name.jsonl"):
        name = record["query"][2]
        parents = {name.rsplit(".", depth)[0] for depth in (1, 2)}  # of a function or class, of a method
        assert parents & modules["train"]


def test_a_held_out_text_in_a_training_module_is_left_out(docs, tmp_path):
    """Copies of documentation stand in many modules."""
    out, _ = docs
    leaked = read(out / "train/docs_body.jsonl")[0]
    texts = [leaked["query"][2], leaked["positives"][0][2]]
    rows = read(out / "eval/test/DocsRetrieval/corpus.jsonl")
    write_jsonl(
        tmp_path / "eval/test/DocsRetrieval/corpus.jsonl",
        [*rows, *({"id": str(i), "text": text.upper()} for i, text in enumerate(texts))],
    )
    build_docs_extra(tmp_path, ("networkx",), max_files=100, workers=1)
    for name in FILES:
        said = {text for record in read(tmp_path / f"train/{name}.jsonl") for text in texts_of(record)}
        assert not said & set(texts)


def test_a_class_has_all_its_methods_as_positives(docs):
    out, _ = docs
    records = read(out / "train/docs_methods.jsonl")
    assert max(len(record["positives"]) for record in records) > 3
    for record in records:
        names = [text.split(":")[0] for text in texts_of(record)[1:]]
        assert len(set(names)) == len(names)


def test_the_same_packages_give_the_same_bytes(docs, tmp_path):
    out, counts = docs
    for file in (out / "eval").rglob("*.jsonl"):
        write_jsonl(tmp_path / file.relative_to(out), read(file))
    assert build_docs_extra(tmp_path, ("networkx",), max_files=100, workers=1) == counts
    for name in counts:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


# Frames


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    out = tmp_path_factory.mktemp("frames")
    build_frames(out, seed=3, size=Sizes.small(ir=10, sts=10, by=20))
    return out, build_frames_extra(out, seed=3, size=SMALL)


def test_frames_files_are_valid_records_of_the_sizes_asked_for(frames):
    out, counts = frames
    assert list(counts.values()) == [120, 60, 60, 40, 20]
    tasks = {name: {record.task for record in read_records(out / name)} for name in counts}
    assert list(tasks.values()) == [{"lm"}, {"ir"}, {"ir"}, {"sts"}, {"ir"}]


def test_raw_frames_text_is_distinct_in_both_languages_and_kinds(frames):
    out, _ = frames
    texts = [record["text"] for record in read(out / "train/frames_lm.jsonl")]
    assert len(set(texts)) == len(texts)
    chinese = sum(any("\u4e00" <= char <= "\u9fff" for char in text) for text in texts)
    assert chinese >= len(texts) / 2


def test_a_labelled_text_has_its_intent_as_positive_and_others_of_its_domain_as_negatives(frames):
    out, _ = frames
    labels = {frame.name.replace(".", ": ").replace("_", " ") for frame in load_grammar()}
    for record in read(out / "train/frames_classification.jsonl"):
        _, positive, *negatives = texts_of(record)
        assert {positive, *negatives} <= labels
        assert positive not in negatives
        assert len(negatives) == 4
        assert {text.split(":")[0] for text in negatives} == {positive.split(":")[0]}


def test_pair_classification_is_scored_one_and_zero_in_equal_numbers(frames):
    out, _ = frames
    scores = [record["positive_scores"][0] for record in read(out / "train/frames_pair_classification.jsonl")]
    assert sorted(scores) == [0.0] * 20 + [1.0] * 20


def test_a_reranking_record_has_ten_candidates(frames):
    out, _ = frames
    for record in read(out / "train/frames_reranking.jsonl"):
        assert len(record["positives"]) + len(record["negatives"]) == 10
        assert 1 <= len(record["positives"]) <= 3


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(frames, tmp_path):
    out, counts = frames
    for seed, same in ((3, True), (4, False)):
        build_frames_extra(tmp_path / str(seed), seed=seed, size=SMALL)
        for name in counts:
            assert ((tmp_path / str(seed) / name).read_bytes() == (out / name).read_bytes()) == same


def test_a_text_of_the_test_side_stops_the_build_and_nothing_is_written(frames, tmp_path):
    row = read(frames[0] / "train/frames_lm.jsonl")[5]
    write_jsonl(tmp_path / "eval/test/FramesClustering/texts.jsonl", [row])
    with pytest.raises(ValueError, match="test text would be in frames_lm"):
        build_frames_extra(tmp_path, seed=3, size=SMALL)
    assert not (tmp_path / "train").exists()
