"""A record's way ends at the raw line where a test has planted it, and says what each step did."""

import json
import os
import re

import pyarrow.parquet as pq
import pytest

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.options import build
from data_prep.runner import load_step, run_step
from tests.support.chat_server import serving
from tests.support.fetching import fetch, write_raw
from tests.support.sources import make_source

NUMBERS = ("one", "two", "three", "four", "five", "six")
ASKED, TOLD = [f"what is {n}" for n in NUMBERS], [f"{n} is a number, {n} times" for n in NUMBERS]


def codiemb(folder):
    rows = [
        {"task_type": "ir", "query": ["", "", q], "positives": [["", "", d]]}
        for q, d in zip(ASKED, TOLD, strict=True)
    ]
    lines = [json.dumps(row) for row in rows]
    path = folder / "own.jsonl"
    path.write_text("\n".join([lines[0], "", "", *lines[1:]]) + "\n")  # two blank lines behind the first
    return {"importer": "codiemb", "from_": path}, [f"{path}:{line}" for line in (1, 4, 5, 6, 7, 8)]


def pairs_csv(folder):
    path = folder / "own.csv"
    rows = [["question", "answer"], *map(list, zip(ASKED, TOLD, strict=True))]
    rows[1][1] = f"{TOLD[0]}\nand\nmore"  # three lines of the file
    write_raw(path, rows)
    return {"importer": "pairs", "from_": path}, [f"{path}:{line}" for line in (4, 5, 6, 7, 8, 9)]


def pairs_parquet(folder):
    rows = [{"anchor": q, "positive": d} for q, d in zip(ASKED, TOLD, strict=True)]
    path = write_raw(folder / "own.parquet", rows)
    return {"importer": "pairs", "from_": path}, [f"{path}:{row}" for row in range(1, 7)]


def packed_json(folder):
    rows = [{"query": q, "pos": [d]} for q, d in zip(ASKED, TOLD, strict=True)]
    path = write_raw(folder / "own.jsonl.gz", rows)
    return {"importer": "flag_embedding", "from_": path}, [f"{path}:{row}" for row in range(1, 7)]


def tevatron(folder):
    rows = [
        {
            "query_id": f"q{n}",
            "query": ASKED[n],
            "positive_passages": [{"docid": f"d{n}", "title": "", "text": TOLD[n]}],
            "negative_passages": [],
        }
        for n in range(6)
    ]
    path = write_raw(folder / "own.jsonl", rows)
    return {"importer": "tevatron", "from_": path}, [f"{path}:{row}" for row in range(1, 7)]


def messages(folder):
    said = [[{"role": "user", "content": text}] for text in (*ASKED, *TOLD)]
    rows = [{"messages": q, "positive_messages": [d]} for q, d in zip(said[:6], said[6:], strict=True)]
    path = write_raw(folder / "own.jsonl", rows)
    return {"importer": "messages", "from_": path}, [f"{path}:{row}" for row in range(1, 7)]


RECORDS = (codiemb, pairs_csv, pairs_parquet, packed_json, tevatron, messages)


def step(name, sources, out, **values):
    run_step(name, sources, out, build(load_step(name).parameters, values, "test"))
    return out


def lineage(capsys, file, line):
    capsys.readouterr()
    main(["lineage", str(file), str(line)])
    return capsys.readouterr().out


def records(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("planted", RECORDS, ids=lambda planted: planted.__name__)
def test_every_record_leads_to_the_line_where_it_was_planted(planted, tmp_path, capsys):
    options, places = planted(tmp_path)
    fetch(tmp_path / "fetch", **options)
    out = step("export", [tmp_path / "fetch"], tmp_path / "export")
    file = out / "own.jsonl"
    for line, record in enumerate(records(file), start=1):
        place = places[ASKED.index(record["query"][2])]
        assert f"\n  query, positive 1: {place}\n" in lineage(capsys, file, line)
        assert f"\n  positive 1: judged at {place}\n" in lineage(capsys, file, line)


def test_a_beir_folder_names_the_line_of_each_of_its_files(tmp_path, capsys):
    raw = tmp_path / "beir"
    write_raw(raw / "corpus.jsonl", [{"_id": f"d{n}", "title": "t", "text": TOLD[n]} for n in range(6)])
    write_raw(raw / "queries.jsonl", [{"_id": f"q{n}", "text": ASKED[n]} for n in (3, 1, 5)])
    head = ["query-id", "corpus-id", "score"]
    write_raw(raw / "qrels/train.tsv", [head, ["q5", "d5", "1"], ["q3", "d3", "2"]])
    fetch(tmp_path / "fetch", importer="beir", from_=raw)
    file = step("export", [tmp_path / "fetch"], tmp_path / "export", format="jsonl.gz") / "beir.jsonl.gz"
    printed = lineage(capsys, file, 1)  # queries stand in their file's order
    assert f"query: {raw}/queries.jsonl:1\n" in printed
    assert f"positive 1: {raw}/corpus.jsonl:4\n" in printed
    assert f"positive 1: judged at {raw}/qrels/train.tsv:3\n" in printed


def test_what_an_importer_has_made_up_is_found_though_no_row_mentions_it(tmp_path, capsys):
    """The class of a text is a document, and stands in the recipe; a pattern parts the instruction."""
    write_raw(tmp_path / "raw/rows.jsonl", [{"text": f"text {n}", "label": n % 2} for n in range(4)])
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "importer: labelled\ntask: ir\nlicence: own\nlabels: {0: even, 1: odd}\n"
        "files: {records: {path: rows.jsonl}}\n"
    )
    fetch(tmp_path / "fetch", recipe=recipe, from_=tmp_path / "raw")
    file = step("export", [tmp_path / "fetch"], tmp_path / "export") / "own.jsonl"
    rows = tmp_path / "raw/rows.jsonl"
    printed = lineage(capsys, file, 4)  # text 3, of class odd
    assert f"query, positive 1, negative 1: {rows}:4\n" in printed
    assert f"positive 1, negative 1: judged at {rows}:4\n" in printed
    assert f"document: {rows}:1\n" in lineage(capsys, tmp_path / "fetch/corpus.parquet", 2)


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """fetch, clean, mine, filter and export of six records, whose first query and document need cleaning."""
    root = tmp_path_factory.mktemp("road")
    options, _ = codiemb(root)
    own = root / "own.jsonl"
    own.write_text(
        own.read_text().replace("what is two", "  what is\\ttwo").replace("two times", "two  times")
    )
    fetch(root / "fetch", **options)
    step("clean", [root / "fetch"], root / "clean")
    step("mine", [root / "clean"], root / "mine", search="bm25", max_rank=3, num_negatives=1)
    step("filter", [root / "mine"], root / "filter", max_rank=3)
    step("export", [root / "filter"], root / "export", format="parquet")
    return root


def sections(printed):
    """What each step says, by the step's name; "" is the head."""
    parts = re.split(r"\n\n(\w+)  .*", printed)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def test_each_step_says_what_it_did(road, capsys):
    file = road / "export/own.parquet"
    row = next(n for n, each in enumerate(pq.read_table(file).to_pylist(), 1) if "two" in each["query"][2])
    record = pq.read_table(file).to_pylist()[row - 1]
    said = sections(lineage(capsys, file, row))
    assert list(said) == ["", "export", "filter", "mine", "clean", "fetch"]
    assert all(key in said[""] for key in (record["id"], *record["positive_ids"], *record["negative_ids"]))
    found = pq.read_table(road / "mine/candidates/bm25.parquet").to_pylist()
    pair = {"query": record["id"], "document": record["negative_ids"][0]}
    mined = next(each for each in found if pair.items() <= each.items())
    candidate = f"negative 1: candidate of bm25, rank {mined['rank']}, score {mined['score']:.4g}"
    assert candidate in said["export"]
    assert candidate.replace(": ", ": added: ") in said["mine"]
    assert re.search(
        r"positive 1: added: candidate of bm25, rank 1, .*; dropped by mine: positive", said["mine"]
    )
    assert said["filter"].strip() == "nothing changed"
    assert 'query: text changed, was "what is two"' in said["clean"]  # blanks are shown as one
    assert 'positive 1: text changed, was "two is a number, two times"' in said["clean"]
    assert f"query, positive 1: {road}/own.jsonl:4\n" in said["fetch"]
    negative = next(n for n, text in enumerate(TOLD) if text == record["negatives"][0][2])
    assert f"negative 1: {road}/own.jsonl:{(1, 4, 5, 6, 7, 8)[negative]}" in said["fetch"]


def test_a_row_of_a_table_has_a_way_too(road, capsys):
    said = sections(lineage(capsys, road / "mine/candidates/bm25.parquet", 1))
    first = pq.read_table(road / "mine/candidates/bm25.parquet").to_pylist()[0]
    assert first["query"] in said[""]
    assert "candidate of bm25, rank 1" in said["mine"]
    assert f"query, document: {road}/own.jsonl:1" in said["fetch"]
    said = sections(lineage(capsys, road / "clean/queries.parquet", 3))
    assert said["fetch"].strip() == f"query: {road}/own.jsonl:5"
    said = sections(lineage(capsys, road / "clean/corpus.parquet", 6))
    assert said["fetch"].strip() == f"document: {road}/own.jsonl:8"


def test_of_what_dedup_made_one_every_copy_leads_to_its_own_line(tmp_path, capsys):
    """Two sources with a query and two documents in common; those of the first stay."""
    long = " ".join(f"word{n}" for n in range(40))
    files = {
        "a": [("what is one", TOLD[0]), ("a question", long)],
        "b": [("other", TOLD[1]), ("What is ONE", f"{long} more"), ("last", TOLD[0].upper())],
    }
    for name, pairs in files.items():
        write_raw(tmp_path / f"{name}.csv", [["query", "positive"], *map(list, pairs)])
        fetch(tmp_path / name, importer="pairs", from_=tmp_path / f"{name}.csv")
    step("dedup", [tmp_path / "a", tmp_path / "b"], tmp_path / "dedup")
    file = step("export", [tmp_path / "dedup"], tmp_path / "export") / "merged.jsonl"
    line, record = next((n, r) for n, r in enumerate(records(file), 1) if r["query"][2] == "what is one")
    assert {text for _, _, text in record["positives"]} == {TOLD[0], long}
    printed = lineage(capsys, file, line)
    numbers = {text: n for n, (_, _, text) in enumerate(record["positives"], 1)}
    one, near = numbers[TOLD[0]], numbers[long]
    assert re.search(rf"copy of positive {near}: .*dropped by dedup: near duplicate", printed)
    assert re.search(rf"copy of positive {one}: .*dropped by dedup: same text", printed)
    assert re.search(r"copy of query: .*dropped by dedup: same text", printed)
    in_a, in_b = printed.partition(f"{tmp_path}/b ")[::2]
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    assert f"query, positive {one}: {a}:2\n" in in_a
    assert f"positive {near}: {a}:3\n" in in_a
    assert f"copy of query, copy of positive {near}: {b}:3\n" in in_b
    assert f"copy of positive {one}: {b}:4" in in_b
    assert f"copy of positive {near}: judged at {b}:3" in in_b


def test_raw_files_of_an_archive_are_named_in_it(tmp_path, capsys):
    import tarfile

    rows = [{"query": q, "pos": [d]} for q, d in zip(ASKED, TOLD, strict=True)]
    write_raw(tmp_path / "made/data/rows.jsonl", rows)
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "made/data", "data")
    raw = tmp_path / "raw"
    raw.mkdir()
    os.replace(tmp_path / "whole.tar.gz", raw / "whole.tar.gz")
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "importer: flag_embedding\ntask: ir\nlicence: own\nunpack: [whole.tar.gz]\n"
        "files: {records: {path: data/rows.jsonl}}\n"
    )
    fetch(tmp_path / "fetch", recipe=recipe, from_=raw)
    printed = lineage(capsys, tmp_path / "fetch/queries.parquet", 2)
    assert f"query: {raw}/whole.tar.gz: data/rows.jsonl:2" in printed


def chain(tmp_path):
    options, _ = codiemb(tmp_path)
    fetch(tmp_path / "fetch", **options)
    step("filter", [tmp_path / "fetch"], tmp_path / "filter", languages=[])
    return step("export", [tmp_path / "filter"], tmp_path / "export") / "own.jsonl"


def change(path):
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda at: os.rename(at / "fetch", at / "other"), "{at}/fetch, which it read, is gone"),
        (lambda at: change(at / "fetch/manifest.json"), "{at}/fetch, which it read, has changed since"),
        (
            lambda at: change(at / "fetch/corpus.parquet"),
            "{at}/fetch/corpus.parquet, which it read, was changed",
        ),
        (lambda at: change(at / "own.jsonl"), "{at}/own.jsonl has changed since it was fetched"),
        (lambda at: os.remove(at / "own.jsonl"), "{at}/own.jsonl is gone"),
    ],
)
def test_what_has_changed_or_is_gone_is_said_and_nothing_behind_it_is_claimed(tmp_path, capsys, harm, words):
    file = chain(tmp_path)
    before = sections(lineage(capsys, file, 1))
    for table in (tmp_path / "fetch").glob("*.parquet"):  # links: a change of one would be of all
        _unlink(table)
    harm(tmp_path)
    printed = lineage(capsys, file, 1)
    assert words.format(at=tmp_path) in printed
    assert "cannot be followed further" in printed
    assert f"{tmp_path}/own.jsonl:" in before["fetch"]
    assert f"{tmp_path}/own.jsonl:1" not in printed


def _unlink(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("own.jsonl", 1, "own.jsonl: no step wrote it"),
        ("export/own.jsonl", 7, "own.jsonl: has 6 lines, and no line 7"),
        ("fetch/qrels.parquet", 7, "qrels.parquet: has 6 rows, and no row 7"),
        ("export/own.jsonl", 0, "lines and rows count from 1"),
        ("export/none.jsonl", 1, "none.jsonl: no such file"),
        ("export/source.json", 1, "source.json: holds no records"),
        ("edited/own.jsonl", 2, "own.jsonl: was changed since its step wrote it"),
    ],
)
def test_a_file_or_line_that_has_no_way_is_one_error(tmp_path, file, line, words):
    chain(tmp_path)
    step("export", [tmp_path / "filter"], tmp_path / "edited")
    change(tmp_path / "edited/own.jsonl")
    with pytest.raises(UserError, match=re.escape(words)):
        main(["lineage", str(tmp_path / file), str(line)])


def test_rows_are_found_over_the_ends_of_blocks(tmp_path, capsys):
    documents = {f"d{n}": f"text {n}" for n in range(20)}
    source = make_source(tmp_path / "in", {"q": "asked"}, documents, [("q", "d13")], block_rows=3)
    assert 'document    d13  "text 13"' in lineage(capsys, source / "corpus.parquet", 14)


def test_a_query_that_a_model_wrote_leads_to_the_step_that_asked_and_its_passage_to_the_raw_line(
    tmp_path, capsys
):
    options, places = codiemb(tmp_path)
    fetch(tmp_path / "fetch", **options)
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "about: x\nreads: document\nmakes: query\nask:\n"
        "  - {name: query, prompt: 'Of: {passage}', answer: {query: {at_least: 1}}}\n"
    )
    with serving() as server:
        server.answer = lambda body: json.dumps(
            {"query": "asked of " + body["messages"][-1]["content"].split()[1]}
        )
        asked = {"endpoint": server.url, "model": "small", "recipe": str(recipe), "key_variable": "none"}
        step("synthesise", [tmp_path / "fetch"], tmp_path / "synthesise", **asked)
    file = step("export", [tmp_path / "synthesise"], tmp_path / "export") / "own.jsonl"
    line = next(n for n, each in enumerate(records(file), 1) if each["query"][2] == "asked of three")
    said = sections(lineage(capsys, file, line))
    assert list(said) == ["", "export", "synthesise", "fetch"]
    assert 'query: added: "asked of three"' in said["synthesise"]
    assert "positive 1: added: judged 1, origin synthesise own" in said["synthesise"]
    assert said["fetch"].strip() == f"positive 1: {places[2]}"
    assert f"{tmp_path}/synthesise recipe={recipe} model=small" in lineage(capsys, file, line)
