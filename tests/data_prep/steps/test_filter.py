"""Filter marks and deletes nothing: pairs by rank and score, texts by language."""

import pyarrow.parquet as pq
import pytest

from codiemb.errors import UserError
from data_prep.options import build
from data_prep.runner import load_step, run_step
from tests.support.sources import make_source

QUERIES = [{"id": "q1", "text": "ein Haus", "lang": "latin"}, {"id": "q2", "text": "房子", "lang": "zh"}]
DOCUMENTS = [
    {"id": "d1", "text": "a house", "lang": "latin"},
    {"id": "d2", "text": "дом", "lang": "cyrillic"},
    {"id": "d3", "text": "1, 2, 3"},  # of no language
    {"id": "d4", "text": "屋", "lang": "zh", "dropped_by": "clean", "reason": "too_short"},
]
QRELS = [("q1", "d1", 1), ("q1", "d2", 1), ("q2", "d3", 1), ("q2", "d1", 0), ("q2", "d4", 1)]
FOUND = [("q1", "d1", 1, 0.9), ("q1", "d2", 4, 0.8), ("q2", "d3", None, 0.7), ("q2", "d4", 1, 0.2)]


def verdicts(tmp_path, table, candidates=None, **values):
    source = make_source(tmp_path / "source", QUERIES, DOCUMENTS, QRELS, candidates or {"bm25": FOUND})
    run_step("filter", [source], tmp_path / "out", build(load_step("filter").parameters, values, "test"))
    rows = pq.read_table(tmp_path / "out" / f"{table}.parquet").to_pylist()
    return [f"{row['dropped_by']}: {row['reason']}" if row["dropped_by"] else "" for row in rows]


def test_a_positive_stays_if_a_search_finds_it_early_and_a_judged_negative_stays_anyway(tmp_path):
    # d3 was scored and not found; a document with grade 0 is not asked for its rank
    assert verdicts(tmp_path, "qrels", max_rank=3) == ["", "filter: rank", "filter: rank", "", ""]


def test_a_positive_stays_if_it_scores_enough(tmp_path):
    assert verdicts(tmp_path, "qrels", min_score=0.75) == ["", "", "filter: score", "", "filter: score"]


def test_a_positive_that_the_scorer_has_not_seen_is_not_judged_by_the_score_of_another(tmp_path):
    # a teacher's null: the pairs beside it in the table score enough and too little
    seen = [row for row in FOUND if row[:2] != ("q1", "d2")]
    found = ["", "filter: no score", "filter: score", "", "filter: score"]
    assert verdicts(tmp_path / "low", "qrels", {"given": seen}, min_score=0.75) == found
    found = ["", "filter: no score", "", "", ""]
    assert verdicts(tmp_path / "high", "qrels", {"given": seen}, min_score=0.1) == found
    assert verdicts(tmp_path / "rank", "qrels", {"given": seen}, max_rank=3)[1] == "filter: rank"


def test_a_language_is_asked_for_by_its_script_and_an_earlier_verdict_stays(tmp_path):
    assert verdicts(tmp_path, "corpus", languages=["en"]) == ["", "filter: language", "", "clean: too_short"]
    assert verdicts(tmp_path, "queries", languages=["en"]) == ["", "filter: language"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_rank": 3, "scorer": "dense"}, "scorer=dense; there are bm25, other"),
        ({"max_rank": 3}, "scorer=null; there are bm25, other"),
        ({"languages": ["klingon"]}, "'klingon' is none"),
    ],
)
def test_what_cannot_be_asked_is_one_error(tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        verdicts(tmp_path, "qrels", {"bm25": FOUND, "other": FOUND}, **values)


def test_a_source_without_languages_is_one_error(tmp_path):
    plain = make_source(tmp_path / "plain", {"q": "a"}, {"d": "b"}, [("q", "d")])
    options = build(load_step("filter").parameters, {"languages": ["zh"]}, "test")
    with pytest.raises(UserError, match="no row has a language"):
        run_step("filter", [plain], tmp_path / "out", options)
