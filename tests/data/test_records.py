"""read_records: the released trainer's files as they are, and raw text."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codiemb.data import Record, Text, read_records
from tests.support.released_records import RELEASED_IR, RELEASED_STS, ir, sts, without


def test_the_released_sts_record_is_read_verbatim(write_lines):
    assert list(read_records(write_lines([RELEASED_STS]))) == [
        Record(
            "sts",
            Text("为通用领域句子生成表示", "重生鸿蒙类小说"),
            [Text("为通用领域句子生成表示", "重生鸿蒙类小说、")],
            [],
            [1.0],
            [],
        )
    ]


def test_documents_of_ir_lose_their_instruction_and_keep_all_positives(write_lines):
    record = ir(
        positives=[["task", " about ", "one "], ["task", "", "two"], "three"], negatives=[["t", "", "n"]]
    )
    (read,) = read_records(write_lines([record]))
    assert read.query == Text("Given a question, retrieve passages", "who opened the bank?")
    assert read.positives == [Text("", "about one"), Text("", "two"), Text("", "three")]
    assert read.negatives == [Text("", "n")]
    assert read.positive_scores == []
    assert read.negative_scores == []


@pytest.mark.parametrize(
    "record",
    [
        without(RELEASED_IR, "negatives", "positive_scores", "negative_scores"),
        ir(negatives=None, positive_scores=None, negative_scores=None),
        ir(negatives=[]),
        ir(positive_scores=[1.0, 0.9], negative_scores=[0]),
        ir(positive_scores=[70, 12]),  # of a reranker, on its own scale
        ir(positives=["a", "a"], positive_scores=[2.5, None], negatives=["n", "n"], negative_scores=[1, 1]),
        without(RELEASED_STS, "negatives", "negative_scores"),
        sts(positive_scores=[1]),
        sts(positive_scores=[0]),
        sts(negatives=["other"], negative_scores=[0.25]),
        ir(positives=["who opened the bank?"]),  # the query's own text: positives by dropout
        ir(negatives=["who opened the bank?"]),  # a document that only repeats the question
        ir(positives=["a", "a"], negatives=["n", "n"]),
        sts(positives=["重生鸿蒙类小说"], positive_scores=[1]),
        sts(positives=["a", "a"], positive_scores=[0.5, 0.5], negatives=["a"], negative_scores=[0.5]),
        sts(positives=["a"], positive_scores=[0.25], negatives=["b"], negative_scores=[0.5]),
        ir(comment="unknown fields are somebody's bookkeeping", id=7),
    ],
)
def test_missing_and_empty_optional_fields_are_read(write_lines, record):
    assert len(list(read_records(write_lines([record])))) == 1


def test_scores_are_mapped_from_the_declared_range(write_lines):
    record = sts(positives=["a", "b"], positive_scores=[0, 5], negatives=["c"], negative_scores=[1.25])
    (read,) = read_records(write_lines([record]), score_range=(0.0, 5.0))
    assert read.positive_scores == [0.0, 1.0]
    assert read.negative_scores == [0.25]


def test_scores_of_ir_are_a_teachers_and_stay_as_they_are(write_lines):
    records = [ir(positive_scores=[70, -11.25], negative_scores=[None]), ir(positive_scores=[0.1, 1e30])]
    one, other = read_records(write_lines(records), score_range=(0.0, 5.0))
    assert one.positive_scores == [70.0, -11.25]
    assert [math.isnan(score) for score in one.negative_scores] == [True]
    assert (other.positive_scores, other.negative_scores) == ([0.1, 1e30], [])


texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
triples = st.tuples(texts, st.just(""), texts).map(list)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    queries=st.lists(triples, min_size=1, max_size=5),
    data=st.data(),
    low=st.floats(-10, 10),
    width=st.floats(0.5, 10),
)
def test_what_was_written_is_what_is_read(write_lines, queries, data, low, width):
    high = low + width
    records = []
    for query in queries:
        documents = data.draw(st.lists(triples, min_size=1, max_size=4, unique_by=tuple))
        scores = data.draw(st.lists(st.floats(low, high), min_size=len(documents), max_size=len(documents)))
        records.append(sts(query=query, positives=documents, positive_scores=scores))
    read = list(read_records(write_lines(records), score_range=(low, high)))
    assert len(read) == len(records)
    for record, written in zip(read, records, strict=True):
        assert record.query == (written["query"][0], written["query"][2])
        assert [list(text) for text in record.positives] == [[a, c] for a, _, c in written["positives"]]
        for score, original in zip(record.positive_scores, written["positive_scores"], strict=True):
            assert 0 <= score <= 1
            assert low + score * (high - low) == pytest.approx(original, abs=1e-9)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n  \n"])
def test_byte_order_mark_windows_line_ends_and_blank_lines_are_no_mistakes(write_lines, start, end):
    line = json.dumps(RELEASED_STS, ensure_ascii=False).encode()
    path = write_lines([start + line, line], end=end)
    assert len(list(read_records(path))) == 2


def test_the_last_line_needs_no_line_end(write_lines):
    assert len(list(read_records(write_lines([RELEASED_IR], end=b"")))) == 1


def test_line_separators_inside_a_text_do_not_end_the_line(write_lines):
    (read,) = read_records(write_lines([ir(query="one\u2028two\x85three")]))
    assert read.query.text == "one\u2028two\x85three"


def test_raw_text_is_one_string_and_nothing_else(write_lines):
    lines = [
        {"task_type": "lm", "text": "  Raw, 原文\nin two lines. "},
        {"task_type": "lm", "text": "b", "id": 7},
    ]
    records = list(read_records(write_lines(lines)))
    assert records[0] == Record("lm", Text("", "Raw, 原文\nin two lines."), [], [], [], [])
    assert records[1].query.text == "b"
