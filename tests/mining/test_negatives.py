"""Negatives mined anew: those of a plain loop in float64 over all texts, by the rules in words."""

import json
import math

import numpy as np
import pytest
import torch

from codiemb.data import Source, SourceFile, content_hash, convert, open_sources
from codiemb.data.mined import NONE, texts_at
from codiemb.mining.miner import Miner
from codiemb.mining.spec import RefreshSpec

WIDTH = 3
RECORDS = 40


class Toy:
    """A random unit vector for every distinct text, drawn by `seed`; a query has another than a document."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def vector(self, text: str, side: str, instruction: str = "") -> np.ndarray:
        key = abs(content_hash(f"{side} {instruction} {text} {self.seed}"))
        value = np.random.default_rng(key).standard_normal(WIDTH)
        return (value / np.linalg.norm(value)).astype(np.float32)

    def encode(self, texts, *, instruction="", side=None, progress=False):
        return np.stack([self.vector(text, side, instruction) for text in texts])


@pytest.fixture(scope="module")
def records() -> list[dict]:
    """Texts stand in several records, some in capitals; some records ask the same; a query is a document."""
    rng = np.random.default_rng(0)
    words = [f"text {number}" for number in range(60)]
    made = []
    for number in range(RECORDS):
        chosen = rng.permutation(60)[: int(rng.integers(1, 7))].tolist()
        num_positives = min(len(chosen), int(rng.integers(1, 3)))
        texts = [words[i].upper() if (number + i) % 3 == 0 else words[i] for i in chosen]
        query = f"question {number // 2 if number < 10 else number}"
        made.append({
            "task_type": "ir",
            "query": ["find" if number % 2 else "", "", "text 7" if number == 30 else query],
            "positives": texts[:num_positives],
            "negatives": texts[num_positives:],
        })  # fmt: skip
    return made


@pytest.fixture(scope="module")
def source(records, tmp_path_factory) -> Source:
    folder = tmp_path_factory.mktemp("mined")
    file = folder / "toy.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    files = [SourceFile("toy", file)]
    convert(files, folder / "cache", skip_bad=False)
    return open_sources(files, folder / "cache")[0]


class Oracle:
    """The rules, one record and one text at a time, in float64."""

    def __init__(self, records: list[dict]) -> None:
        self.records = records
        texts = [text for record in records for text in record["positives"] + record["negatives"]]
        self.texts = list(dict.fromkeys(text.lower() for text in texts))  # where each first stands

    def scores(self, toy: Toy, number: int) -> dict[str, float]:
        instruction, _, query = self.records[number]["query"]
        vector = toy.vector(query, "query", instruction).astype(np.float64)
        documents = {text: toy.vector(text, "document").astype(np.float64) for text in self.texts}
        return {text: float(np.float32(vector @ document)) for text, document in documents.items()}

    def candidates(self, toy: Toy, number: int, spec: RefreshSpec) -> list[str]:
        """Texts that may be a negative, the best first."""
        score = self.scores(toy, number)
        ask = self.records[number]["query"][2].lower()
        right = {ask}
        for record in self.records:
            if record["query"][2].lower() == ask:
                right |= {text.lower() for text in record["positives"]}
        positive = min(score[text.lower()] for text in self.records[number]["positives"])
        ranked = sorted(score, key=lambda text: -score[text])  # equal scores: who stands first
        window = ranked[spec.min_rank - 1 : spec.max_rank]
        limit = math.inf if spec.percent is None else positive - (1 - spec.percent) * abs(positive)
        return [text for text in window if text not in right and score[text] <= limit]


SPECS = [
    RefreshSpec(5, num_negatives=3, percent=None),
    RefreshSpec(5, num_negatives=4, max_rank=20, percent=0.95),
    RefreshSpec(5, num_negatives=2, min_rank=10, max_rank=400, percent=0.5),
]


def mined(source: Source, spec: RefreshSpec, toy: Toy, table=None):
    miner = Miner({0: source}, spec)
    return miner.search(0, miner.queries(0, toy), table, toy)


def as_texts(source: Source, codes_RK: np.ndarray) -> list[list[str]]:
    return [[text.lower() for _, text in texts_at(source, row[row != NONE])] for row in codes_RK]


@pytest.mark.parametrize("spec", SPECS)
def test_the_best_allowed_texts_replace_what_there_was(source, records, spec):
    oracle, toy = Oracle(records), Toy(1)
    codes, first = mined(source, spec, toy)
    expected = [oracle.candidates(toy, n, spec)[: spec.num_negatives] for n in range(RECORDS)]
    assert as_texts(source, codes) == expected
    assert any(len(row) < spec.num_negatives for row in expected) or spec.percent is None
    for number, row in enumerate(expected):
        scores = oracle.scores(toy, number)
        np.testing.assert_array_equal(first[number][: len(row)], np.float32([scores[t] for t in row]))


def test_the_precision_that_texts_are_encoded_in_is_not_that_of_the_search(source):
    """A run in bf16 searches within its autocast."""
    spec = RefreshSpec(5, num_negatives=3, percent=None)
    with torch.autocast("cpu", torch.bfloat16):
        within = mined(source, spec, Toy(3))
    without = mined(source, spec, Toy(3))
    for ours, theirs in zip(within, without, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_right_answer_is_a_negative_whichever_record_of_the_query_has_it_in_whatever_case(source, records):
    spec = RefreshSpec(5, num_negatives=60, max_rank=60, percent=None)
    found = as_texts(source, mined(source, spec, Toy(2))[0])
    all_texts = set(Oracle(records).texts)
    for number, record in enumerate(records):
        ask = record["query"][2].lower()
        same = [other for other in records if other["query"][2].lower() == ask]
        right = {text.lower() for other in same for text in other["positives"]} | {ask}
        assert set(found[number]) == all_texts - right


def test_conan_replaces_a_negative_once_its_score_times_the_factor_is_below_its_first(source, records):
    """Two searches after the first scores, each with other weights, by the formula for each negative."""
    spec, oracle = RefreshSpec(5, rule="conan", num_negatives=3, max_rank=60, factor=1.15), Oracle(records)
    table = mined(source, spec, Toy(0))
    expected = []
    for number, record in enumerate(records):
        scores = oracle.scores(Toy(0), number)
        expected.append([(text.lower(), scores[text.lower()]) for text in record["negatives"][:3]])
    assert as_texts(source, table[0]) == [[text for text, _ in row] for row in expected]
    changed = kept = 0
    for toy in (Toy(1), Toy(2)):
        table = mined(source, spec, toy, table)
        for number, row in enumerate(expected):
            scores, old = oracle.scores(toy, number), [text for text, _ in row]
            new = [text for text in oracle.candidates(toy, number, spec) if text not in old]
            slots = [*row, *[None] * (3 - len(row))]
            for place, slot in enumerate(slots):
                easy = slot is None or scores[slot[0]] * 1.15 < slot[1]
                if easy and new:
                    slots[place] = (new[0], scores[new.pop(0)])
                changed, kept = changed + easy, kept + (not easy)
            expected[number] = [slot for slot in slots if slot is not None]
        assert as_texts(source, table[0]) == [[text for text, _ in row] for row in expected]
        for row, first in zip(expected, table[1], strict=True):
            np.testing.assert_array_equal(first[~np.isnan(first)], np.float32([score for _, score in row]))
    assert changed > 20
    assert kept > 20
