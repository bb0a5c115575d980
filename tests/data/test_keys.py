"""Keys that nobody reads are named once a file, with their count and what was meant."""

import logging

import pytest

from codiemb.data import SourceFile, convert
from codiemb.errors import UserError

RECORD = {"task_type": "ir", "query": "q", "positives": ["p"]}


@pytest.fixture
def said(tmp_path, write_lines, caplog):
    def convert_and_listen(records, runs=1):
        files = [SourceFile("docs", write_lines(records))]
        for _ in range(runs):
            caplog.clear()
            with caplog.at_level(logging.INFO):
                convert(files, tmp_path / "cache", skip_bad=False)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return convert_and_listen


def test_a_slip_is_named_once_with_its_count_and_the_key_that_was_meant_in_every_run(said, tmp_path):
    records = [RECORD | {"negative": ["n"]}] * 3 + [RECORD | {"negatives": ["n"], "Positive_score": [1]}]
    expected = (
        f"{tmp_path / 'train.jsonl'}: keys that are not read: 'negative' in 3 of 4 records (did you mean "
        "negatives?), 'Positive_score' in 1 of 4 records (did you mean positive_scores?)"
    )
    for runs in (1, 2):
        assert said(records, runs) == [("WARNING", expected)]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("neg", "negatives"),
        ("hard_negatives", "negatives"),
        ("pos", "positives"),
        ("positive", "positives"),
        ("score", "positive_scores"),
        ("Query", "query"),
        ("querry", "query"),
        ("task-type", "task_type"),
        ("zzz", None),
    ],
)
def test_what_was_meant_is_guessed_where_it_can_be(said, key, meant):
    ((level, message),) = said([RECORD | {key: "x"}])
    assert level == "WARNING"
    assert f"{key!r} in 1 of 1 records" in message
    assert ("did you mean" in message) == (meant is not None)
    assert meant is None or f"did you mean {meant}?" in message


def test_bookkeeping_is_a_remark_and_no_warning(said):
    ((level, message),) = said([RECORD | {"id": 1, "meta": {"a": 1}, "_origin": "x"}, RECORD])
    assert level == "INFO"
    for key in ("id", "meta", "_origin"):
        assert f"{key!r} in 1 of 2 records" in message


def test_a_key_of_another_task_is_not_read(said):
    ((_, message),) = said([{"task_type": "lm", "text": "a", "negatives": ["n"]}])
    assert "'negatives' in 1 of 1 records" in message
    ((_, message),) = said([RECORD | {"text": "a"}])
    assert "'text' in 1 of 1 records" in message


def test_records_that_are_all_read_say_nothing(said):
    assert said([RECORD, {"task_type": "lm", "text": "a"}]) == []


def test_the_ids_that_data_prep_exports_are_worth_no_line(said):
    assert said([RECORD | {"id": "a", "positive_ids": ["b"], "negative_ids": []}]) == []


def test_a_slip_that_makes_every_line_bad_is_named_beside_them(said, caplog):
    with pytest.raises(UserError, match="2 bad records"):
        said([{"task_type": "ir", "query": "q", "positive": ["p"]}] * 2)
    assert "'positive' in 2 of 2 records (did you mean positives?)" in caplog.text


def test_a_file_of_random_keys_does_not_fill_the_memory(said):
    ((_, message),) = said([RECORD | {f"key {i}": 1} for i in range(1_500)])
    assert len(message) < 2_000
