"""An audit shows what was chosen, and its rate of false negatives is counted by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codiemb.errors import UserError
from data_prep.auditing.rates import Rate
from data_prep.runner import run_step
from data_prep.steps.audit import STEP, Parameters
from tests.support.sources import make_source

QUERIES = {f"q{i}": f"query {i}" for i in range(6)}
DOCUMENTS = [{"id": f"d{i}", "title": "", "text": f"document {i} <b>&"} for i in range(30)] + [
    {"id": "gone", "text": "x", "dropped_by": "clean", "reason": "empty"}
]
# of each query: ranks 1 to 4 by bm25, the first dropped; rank 12 by dense, which also has bm25's rank 2
BM25 = [
    (f"q{i}", f"d{4 * i + rank}", rank, 10.0 - rank, *(("mine", "margin") if rank == 1 else (None, None)))
    for i in range(6)
    for rank in range(1, 5)
]
DENSE = [
    row for i in range(6) for row in ((f"q{i}", f"d{4 * i + 2}", 1, 0.9), (f"q{i}", f"d{4 * i + 5}", 12, 0.2))
]
DENSE.append(("q0", "gone", 2, 0.8))
DENSE.append(("q0", "d20", None, 0.7))  # scored, and not searched for: no negative


@pytest.fixture
def source(tmp_path: Path) -> Path:
    qrels = [(f"q{i}", f"d{4 * i + 1}") for i in range(6)]
    return make_source(tmp_path / "in", QUERIES, DOCUMENTS, qrels, {"bm25": BM25, "dense": DENSE})


def audited(source: Path, options: Parameters) -> dict:
    out = source.parent / "out"
    run_step("audit", [source], out, options)
    return json.loads((out / "audit.json").read_text())


def test_grades_are_counted_over_the_pairs_that_are_chosen_each_once(source: Path) -> None:
    # q0 d2 stands with both scorers; q0 d1 was dropped; q1 d0 is not chosen; q9 is nobody
    grades = "query-id\tcorpus-id\tscore\nq0\td2\t1\nq0\td3\t0\nq0\td1\t1\nq1\td0\t1\nq9\td1\t1\nq1\td9\t2\n"
    file = source.parent / "test.tsv"
    file.write_text(grades)
    about = audited(source, Parameters(judgements=str(file)))
    assert about["chosen"] == 6 * 4  # ranks 2 to 4, and one more of dense; "gone" is gone
    found = about["false_negatives"]["grades"]
    assert (found["judged"], found["right"]) == (3, 2)
    assert found["of_chosen"] == 2 / 24
    assert {label: each["judged"] for label, each in found["by_rank"].items()} == {
        "1 to 10": 2,
        "11 to 20": 1,
    }
    page = (source.parent / "out" / "audit.html").read_text()
    assert "Judgements of queries or documents that this source does not have: 1." in page


def test_another_scorer_judges_from_its_threshold_on(source: Path) -> None:
    options = Parameters(negatives=["bm25"], judge="dense", judge_above=0.5)
    found = audited(source, options)["false_negatives"]["dense"]
    assert (found["judged"], found["right"], found["rate"]) == (6, 6, 1.0)  # rank 2 of bm25 only
    stricter = Parameters(negatives=["bm25"], judge="dense", judge_above=0.95)
    assert audited(source, stricter)["false_negatives"]["dense"]["right"] == 0


def test_parquet_grades_of_a_pair_that_was_judged_twice(source: Path) -> None:
    file = source.parent / "grades.parquet"
    columns = {"query": ["q0", "q0", "q0"], "document": ["d2", "d2", "d3"], "grade": [0.0, 3.0, 2.0]}
    pq.write_table(pa.table(columns), file)
    found = audited(source, Parameters(judgements=str(file), min_grade=3.0))["false_negatives"]["grades"]
    assert (found["judged"], found["right"]) == (2, 1)


def test_the_sample_is_drawn_by_its_seed_and_its_texts_are_escaped(source: Path) -> None:
    options = Parameters(num_queries=2, num_negatives=2, seed=3)
    audited(source, options)
    page = (source.parent / "out" / "audit.html").read_text()
    assert page.count('class="query"') == 2
    assert page.count('<td class="positive">') == 2
    assert page.count('<td class="hard_negative">') == 4
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    other = Parameters(num_queries=2, num_negatives=2, seed=4)
    audited(source, other)
    assert (source.parent / "out" / "audit.html").read_text() != page
    audited(source, options)
    assert (source.parent / "out" / "audit.html").read_text() == page


# Wilson's interval in R: binom::binom.confint(x, n, methods = "wilson")
@pytest.mark.parametrize(
    ("false", "judged", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),
        (1, 10, 0.01787621, 0.4041500),
        (5, 10, 0.2365931, 0.7634069),
        (10, 10, 0.7224672, 1.0),
    ],
)
def test_wilsons_interval(false: int, judged: int, low: float, high: float) -> None:
    assert Rate(judged, false).interval == pytest.approx((low, high), abs=1e-6)
    assert Rate(0, 0).value is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": "dense"}, "belong together"),
        ({"judge_above": 0.5}, "belong together"),
        ({"judgements": "nowhere.tsv"}, "nowhere.tsv: no such file"),
    ],
)
def test_a_mistake_in_the_options_is_one_clear_error(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        STEP.depends_on(Parameters(**options))


def test_what_cannot_be_audited_says_so(source: Path) -> None:
    with pytest.raises(UserError, match="no scorer 'cross'; there are bm25, dense"):
        audited(source, Parameters(judge="cross", judge_above=0.5))
    file = source.parent / "bad.tsv"
    file.write_text("q0\td2\t1\nq0\td2\n")
    with pytest.raises(UserError, match=r"bad.tsv:2: 2 fields \['q0', 'd2'\]"):
        audited(source, Parameters(judgements=str(file)))
    bare = make_source(source.parent / "bare", QUERIES, DOCUMENTS)
    with pytest.raises(UserError, match="no candidates to audit"):
        run_step("audit", [bare], source.parent / "never", Parameters())
