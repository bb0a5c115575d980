"""The frames corpus keeps its promises: valid grammar, known similarity, disjoint splits, exact shapes."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.frames import Sizes, build_frames
from data_prep.frames.grammar import GRAMMAR_DIR, GrammarError, load_grammar
from data_prep.frames.meaning import Meaning, similarity
from data_prep.frames.sampler import Sampler, check_disjoint
from data_prep.frames.sizes import EvalSizes
from data_prep.frames.train_sets import INSTRUCTION_IR, INSTRUCTION_STS, scored_pairs
from data_prep.frames.values import SPLITS, chinese_numeral, english_ordinal, english_words

FRAMES = load_grammar()
SMALL = Sizes(
    ir=60,
    sts=240,
    test=EvalSizes(
        retrieval_queries=30,
        retrieval_documents=150,
        reranking_queries=12,
        sts_pairs=60,
        classification_pairs=60,
        classification=96,
        clustering=288,
    ),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("frames")
    return out, build_frames(out, seed=3, size=SMALL)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts_in(value):
    """Every string of a record that is a rendered text, found by its length."""
    if isinstance(value, str):
        return {value} - {INSTRUCTION_IR, INSTRUCTION_STS, ""}
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key not in ("id", "label", "task_type")]
    return set().union(*map(texts_in, value)) if isinstance(value, list) else set()


@st.composite
def meanings(draw, frame=None):
    frame = frame or draw(st.sampled_from(FRAMES))
    values = tuple(draw(st.sampled_from(slot_type.values)) for slot_type in frame.slots.values())
    return Meaning(frame, values, not frame.polar or draw(st.booleans()))


@st.composite
def pairs_of_one_frame(draw):
    """Two meanings of a frame in which each slot may agree."""
    frame = draw(st.sampled_from(FRAMES))
    a, b = draw(meanings(frame)), draw(meanings(frame))
    same = [draw(st.booleans()) for _ in a.values]
    values = tuple(x if keep else y for x, y, keep in zip(a.values, b.values, same, strict=True))
    return a, replace(b, values=values)


any_pair = st.one_of(pairs_of_one_frame(), st.tuples(meanings(), meanings()))


@given(any_pair)
def test_similarity_is_symmetric_and_bounded(pair):
    a, b = pair
    assert similarity(a, b) == similarity(b, a)
    assert 0.0 <= similarity(a, b) <= 1.0


@given(any_pair)
def test_similarity_is_one_exactly_for_the_same_meaning(pair):
    a, b = pair
    assert similarity(a, a) == 1.0
    assert (round(similarity(a, b), 4) == 1.0) == (a == b)


@given(pairs_of_one_frame(), st.data())
def test_each_further_difference_lowers_the_similarity(pair, data):
    a, b = pair
    slot = data.draw(st.integers(0, len(b.values) - 1))
    agreeing = replace(b, values=(*b.values[:slot], a.values[slot], *b.values[slot + 1 :]))
    if agreeing != b:
        assert similarity(a, b) < similarity(a, agreeing)


@given(pairs_of_one_frame())
def test_denial_costs_more_than_half(pair):
    a, b = pair
    if a.frame.polar:
        kept, denied = replace(b, affirmed=a.affirmed), replace(b, affirmed=not a.affirmed)
        assert similarity(a, denied) < 0.5 * similarity(a, kept)


@given(meanings(), meanings())
def test_other_frames_are_slightly_similar_within_a_domain_and_not_at_all_across(a, b):
    if a.frame.domain != b.frame.domain:
        assert similarity(a, b) == 0.0
    elif a.frame != b.frame:
        assert 0.1 <= similarity(a, b) <= 0.2


def test_numbers_are_scored_by_distance():
    frame = next(frame for frame in FRAMES if frame.name == "bank.transfer_arrival")
    payee, amount, date = (slot_type.values for slot_type in frame.slots.values())
    base = Meaning(frame, (payee[0], amount[100], date[100]))
    for slot, pool in ((1, amount), (2, date)):
        near, far = (
            replace(base, values=(*base.values[:slot], pool[i], *base.values[slot + 1 :])) for i in (103, 125)
        )
        assert similarity(base, far) < similarity(base, near) < 1.0


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_one_off_always_changes_the_meaning_but_never_the_frame(seed, split):
    sampler = Sampler(FRAMES, split, str(seed))
    meaning = sampler.meaning()
    other = sampler.one_off(meaning)
    assert other.frame == meaning.frame
    assert other != meaning
    assert len({id(v) for v in other.values}) == len(other.values)


def test_the_grammar_is_as_broad_as_promised():
    domains = Counter(frame.domain for frame in FRAMES)
    assert len(domains) >= 8
    assert min(domains.values()) >= 6
    for frame in FRAMES:
        for language in ("zh", "en"):
            assert sum(t.language == language and t.kind == "short" for t in frame.templates) >= 6
            assert sum(t.language == language and t.kind == "passage" for t in frame.templates) >= 2
    assert 0.3 < sum(frame.polar for frame in FRAMES) / len(FRAMES) < 0.7


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_every_template_says_every_slot_and_leaves_no_markup(frame):
    rng = random.Random(0)
    for template in frame.templates:
        rendered = set()
        for affirmed in (True, False) if frame.polar else (True,):
            for _ in range(4):
                surfaces = {
                    slot: rng.choice(rng.choice(slot_type.values).forms[template.language])
                    for slot, slot_type in frame.slots.items()
                }
                text = template.render(surfaces, affirmed, rng)
                assert not set("{}[]<>|") & set(text), f"{template.id}: {text}"
                assert "  " not in text
                assert not re.search(r" [,.?!;]", text) or template.language == "zh", text
                for surface in surfaces.values():
                    assert surface.lower() in text.lower(), f"{template.id}: {surface!r} not in {text!r}"
            rendered.add(template.render(surfaces, affirmed, random.Random(1)))
        assert len(rendered) == 1 + frame.polar, f"{template.id} says the same affirmed and denied"


def test_templates_of_one_frame_never_share_a_text_across_splits():
    for frame in FRAMES:
        surfaces = {slot: f"({slot})" for slot in frame.slots}
        said = {}
        for template in frame.templates:
            for seed in range(6):
                for affirmed in (True, False):
                    text = template.render(surfaces, affirmed, random.Random(seed))
                    assert said.setdefault(text, template.id) == template.id


@pytest.mark.parametrize(
    ("spell", "n", "expected"),
    [
        (english_words, 21, "twenty-one"),
        (english_words, 40, "forty"),
        (english_ordinal, 11, "11th"),
        (english_ordinal, 22, "22nd"),
        (chinese_numeral, 2, "两"),
        (chinese_numeral, 10, "十"),
        (chinese_numeral, 12, "十二"),
        (chinese_numeral, 40, "四十"),
    ],
)
def test_numbers_are_spelled_as_people_do(spell, n, expected):
    assert spell(n) == expected


VALID = """
slots:
  thing: {numbers: [1, 20, 1], zh: ["{n}"], en: ["{n}"]}
frames:
  buy:
    slots: {what: thing}
    polarity: true
    zh_short: |
      甲[买|不买]{what}
      乙[买|不买]{what}
      丙[买|不买]{what}
      丁[买|不买]{what}
    zh_passage: |
      甲先生[买|不买]{what}
      乙先生[买|不买]{what}
      丙先生[买|不买]{what}
      丁先生[买|不买]{what}
    en_short: |
      A [buys|skips] {what}
      B [buys|skips] {what}
      C [buys|skips] {what}
      D [buys|skips] {what}
    en_passage: |
      Mr A [buys|skips] {what}
      Mr B [buys|skips] {what}
      Mr C [buys|skips] {what}
      Mr D [buys|skips] {what}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("C [buys|skips] {what}", "C [buys|skips] it", "missing"),
        ("C [buys|skips] {what}", "C [buys|skips] {what} in {where}", "unknown placeholder"),
        ("C [buys|skips] {what}", "C <sees {what}|[buys|skips]>", "stray"),
        ("C [buys|skips] {what}", "C <sees|buys {what}> [it|not]", "missing from some alternative"),
        ("C [buys|skips] {what}", "C buys {what}", "polarity"),
        ("C [buys|skips] {what}", "C [buys] {what}", "exactly two options"),
        ("      D [buys|skips] {what}\n", "", "give 4 or more"),
        ("C [buys|skips] {what}", "B [buys|skips] {what}", "same template twice"),
        ("{what: thing}", "{what: object}", "unknown slot type"),
        ("polarity: true", "polarty: true", "may only have the keys"),
        ("polarity: true", "weights: {who: 2}", "weights"),
        ("[1, 20, 1]", "[1, 6, 1]", "10 values"),
    ],
)
def test_a_broken_grammar_names_file_and_frame(tmp_path, old, new, message):
    path = tmp_path / "shop.yaml"
    path.write_text(VALID, encoding="utf-8")
    assert [frame.name for frame in load_grammar(tmp_path)] == ["shop.buy"]
    assert old in VALID
    head, _, tail = VALID.partition("en_short") if "skips" in old else ("", "", VALID)
    broken = head + ("en_short" if head else "") + tail.replace(old, new, 1)
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(GrammarError, match=message) as error:
        load_grammar(tmp_path)
    assert str(path) in str(error.value)
    assert "'buy'" in str(error.value)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ("thing: {values: '猫 = cat\n\n  狗 = cat'}", "belongs to both|same id"),
        ("thing: {values: '猫 cat'}", "not of the form"),
        ("thing: {words: 3}", "give one of values"),
    ],
)
def test_a_broken_slot_type_names_the_file(tmp_path, slots, message):
    (tmp_path / "shop.yaml").write_text(f"slots:\n  {slots}\nframes: {{}}\n", encoding="utf-8")
    with pytest.raises(GrammarError, match=message) as error:
        load_grammar(tmp_path)
    assert "shop.yaml: slot type 'thing'" in str(error.value)


def test_every_shipped_domain_file_loads():
    files = {path.stem for path in GRAMMAR_DIR.glob("*.yaml")} - {"_shared"}
    assert {frame.domain for frame in FRAMES} == files


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_bytes(corpus, tmp_path):
    out, counts = corpus
    assert build_frames(tmp_path / "again", seed=3, size=SMALL) == counts
    build_frames(tmp_path / "other", seed=4, size=SMALL)
    for name in counts:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    name = "train/frames_ir.jsonl"
    assert (out / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_the_counts_are_the_lines_and_nothing_half_written_is_left(corpus):
    out, counts = corpus
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == set(counts)
    assert all(len(read(out / name)) == count for name, count in counts.items())


def test_no_text_is_in_two_splits(corpus):
    out, counts = corpus
    said = {split: set() for split in SPLITS}
    for name in counts:
        split = "train" if name.startswith("train") else Path(name).parts[1]
        if not name.endswith(("qrels.jsonl", "top_ranked.jsonl")):
            said[split] |= set().union(*map(texts_in, read(out / name)))
    assert all(len(texts) > 200 for texts in said.values())
    assert not said["train"] & said["dev"]
    assert not said["train"] & said["test"]
    assert not said["dev"] & said["test"]


def test_a_text_has_one_meaning():
    meaning_of = {}
    for split in SPLITS:
        sampler = Sampler(FRAMES, split, "one meaning")
        for i in range(6000):
            meaning = sampler.meaning()
            text = sampler.must_text(meaning, ("zh", "en")[i % 2], ("short", "passage")[i % 3 == 0])
            assert meaning_of.setdefault(text, meaning) == meaning


def test_values_and_templates_are_split_without_overlap_or_loss():
    for frame in FRAMES:
        assert {t.split for t in frame.templates} == set(SPLITS)
        for slot_type in frame.slots.values():
            parts = [slot_type.values_of(split) for split in SPLITS]
            if not slot_type.closed:
                assert Counter(value for part in parts for value in part) == Counter(slot_type.values)


def test_an_overlap_of_splits_stops_the_build():
    train, test = Sampler(FRAMES, "train", "a"), Sampler(FRAMES, "test", "b")
    for sampler in (train, test):
        sampler.must_text(sampler.meaning(), "en")
    check_disjoint([train, test])
    test.used_templates |= train.used_templates
    with pytest.raises(ValueError, match="train and test share 1 items"):
        check_disjoint([train, test])


def test_asking_for_more_than_there_is_stops_with_a_reason():
    few = [frame for frame in FRAMES if frame.name == "law.contract_validity"]
    with pytest.raises(ValueError, match="no new texts left"):
        list(scored_pairs(Sampler(few, "test", "x"), 100_000))


def test_ir_records_have_the_exact_shape(corpus):
    out, _ = corpus
    for record in read(out / "train/frames_ir.jsonl"):
        assert list(record) == [
            "task_type", "query", "positives", "negatives", "positive_scores", "negative_scores",
        ]  # fmt: skip
        assert record["task_type"] == "ir"
        assert record["query"][:2] == [INSTRUCTION_IR, ""]
        assert 2 <= len(record["positives"]) <= 4
        assert 4 <= len(record["negatives"]) <= 6
        documents = record["positives"] + record["negatives"]
        assert all(document[:2] == ["", ""] and document[2] for document in documents)
        assert len({record["query"][2], *(d[2] for d in documents)}) == 1 + len(documents)
        assert record["positive_scores"] == [1.0] * len(record["positives"])
        assert record["negative_scores"] == [0.0] * len(record["negatives"])


def test_sts_records_have_the_exact_shape_and_an_even_gold(corpus):
    out, _ = corpus
    records = read(out / "train/frames_sts.jsonl")
    for record in records:
        (positive,) = record["positives"]
        assert record["task_type"] == "sts"
        assert record["query"][:2] == positive[:2] == [INSTRUCTION_STS, ""]
        assert record["negatives"] == record["negative_scores"] == []
    tenths = Counter(int(record["positive_scores"][0] * 10) for record in records)
    assert set(tenths) == set(range(11))
    assert max(tenths.values()) < 2 * len(records) / 11
    assert min(tenths.values()) > 0.5 * len(records) / 11


def test_texts_are_written_as_characters_in_both_languages(corpus):
    out, _ = corpus
    text = (out / "train/frames_ir.jsonl").read_text(encoding="utf-8")
    assert "\\u" not in text
    chinese = [
        bool(re.search("[\u4e00-\u9fff]{3}", r["query"][2])) for r in read(out / "train/frames_ir.jsonl")
    ]
    assert 0.3 < sum(chinese) / len(chinese) < 0.7


@pytest.mark.parametrize("split", ["dev", "test"])
def test_retrieval_and_reranking_refer_to_existing_texts(corpus, split):
    out, _ = corpus
    for task in ("FramesRetrieval", "FramesReranking"):
        folder = out / "eval" / split / task
        documents = {row["id"]: row["text"] for row in read(folder / "corpus.jsonl")}
        queries = {row["id"]: row["text"] for row in read(folder / "queries.jsonl")}
        relevant = {name: set() for name in queries}
        for row in read(folder / "qrels.jsonl"):
            assert row["score"] == 1
            assert row["corpus_id"] in documents
            relevant[row["query_id"]].add(row["corpus_id"])
        assert all(relevant.values())
        assert len(set(documents.values())) == len(documents)
        assert not set(queries.values()) & set(documents.values())
    for row in read(folder / "top_ranked.jsonl"):
        assert len(set(row["corpus_ids"])) == 10
        assert 1 <= len(relevant[row["query_id"]] & set(row["corpus_ids"])) <= 3
        assert relevant[row["query_id"]] <= set(row["corpus_ids"])


@pytest.mark.parametrize("split", ["dev", "test"])
def test_labels_are_balanced_and_sides_are_apart(corpus, split):
    out, _ = corpus
    folder = out / "eval" / split
    labels = Counter(row["label"] for row in read(folder / "FramesPairClassification/pairs.jsonl"))
    assert labels[0] == labels[1]
    train, test = (read(folder / f"FramesClassification/{side}.jsonl") for side in ("train", "test"))
    assert not {row["text"] for row in train} & {row["text"] for row in test}
    assert {row["label"] for row in test} <= {frame.name for frame in FRAMES}
    if split == "test":
        assert {row["label"] for row in train} == {row["label"] for row in test}
    domains = Counter(row["label"] for row in read(folder / "FramesClustering/texts.jsonl"))
    assert len(domains) == 8
    assert max(domains.values()) <= 1.5 * min(domains.values())
    assert all(0 <= row["score"] <= 1 for row in read(folder / "FramesSTS/pairs.jsonl"))
