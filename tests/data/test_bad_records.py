"""read_records names every bad line with file, line and remedy."""

import json
import math
import re

import pytest

from codiemb.data import read_records
from codiemb.errors import UserError
from tests.support.released_records import RELEASED_IR, RELEASED_STS, ir, sts, without

BAD_LINES = {
    "not JSON": ("{'task_type': 'ir'}", "not JSON .* at column 2"),
    "cut off": ('{"task_type": "ir", "query": "a', "not JSON"),
    "two objects": ("{} {}", "not JSON .*Extra data"),
    "not UTF-8": (b'{"task_type": "ir", "query": "\xff", "positives": ["p"]}', "not UTF-8"),
    "GB18030": (json.dumps(RELEASED_STS, ensure_ascii=False).encode("gb18030"), "not UTF-8"),
    "UTF-16": (json.dumps(RELEASED_IR).encode("utf-16"), "not UTF-8"),
    "surrogates in bytes": (b'{"task_type": "ir", "query": "\xed\xa0\x80", "positives": ["p"]}', "not UTF-8"),
    "half a surrogate pair": (
        r'{"task_type": "ir", "query": "\ud800", "positives": ["p"]}',
        "query has half of a surrogate pair",
    ),
    "surrogate in a document": (
        r'{"task_type": "ir", "query": "q", "positives": ["p"], "negatives": ["\udc01"]}',
        r"negatives\[0\] has half of a surrogate pair",
    ),
    "a list": ([1, 2], "must be a JSON object, not a list of 2"),
    "a string": ('"text"', "must be a JSON object, not a string"),
    "null": ("null", "must be a JSON object, not null"),
    "deep": ("[" * 100_000, "not a record"),
    "endless number": ('{"task_type": ' + "9" * 5_000 + "}", "not a record"),
    "no task": (without(RELEASED_IR, "task_type"), "task_type is missing"),
    "unknown task": (ir(task_type="sst"), "task_type is 'sst'; known tasks: ir, lm, mixed, sts"),
    "task is a list": (ir(task_type=["ir"]), r"task_type is \['ir'\]; known tasks"),
    "no query": (without(RELEASED_IR, "query"), "query is missing"),
    "query null": (ir(query=None), "query must be .* not null"),
    "query a pair": (ir(query=["a", "b"]), "query must be .*three strings, not a list of 2"),
    "query with a number": (ir(query=["", "", 3]), "query must be .*three strings"),
    "query an object": (ir(query={"text": "a"}), "query must be .*not an object"),
    "query empty": (ir(query=""), "query has an empty text"),
    "query blank": (ir(query=["instruction", "", " \t\u3000"]), "query has an empty text"),
    "query invisible": (ir(query="\ufeff\u200b"), "query has an empty text"),
    "no positives": (without(RELEASED_IR, "positives"), "positives is missing or empty"),
    "positives empty": (ir(positives=[]), "positives is missing or empty"),
    "positives a string": (ir(positives="a"), "positives must be a list of texts, not a string"),
    "positive empty": (ir(positives=["a", ["x", "", ""]]), r"positives\[1\] has an empty text"),
    "one triple instead of a list": (ir(positives=["task", "", "text"]), r"positives\[1\] has an empty text"),
    "negative empty": (ir(negatives=["a", " "]), r"negatives\[1\] has an empty text"),
    "negative a number": (ir(negatives=[1]), r"negatives\[0\] must be .*not a number"),
    "negatives an object": (ir(negatives={}), "negatives must be a list of texts, not an object"),
    "sts without scores": (without(RELEASED_STS, "positive_scores"), "positive_scores is missing or empty"),
    "sts with empty scores": (sts(positive_scores=[]), "positive_scores is missing or empty"),
    "sts negatives unscored": (sts(negatives=["n"]), "negative_scores is missing or empty"),
    "too many scores": (sts(positive_scores=[1.0, 0.5]), "positive_scores must be a list of 1 numbers"),
    "too few scores": (ir(positive_scores=[1.0]), "positive_scores must be a list of 2 numbers"),
    "scores a number": (sts(positive_scores=1.0), "positive_scores must be a list"),
    "score a string": (sts(positive_scores=["1.0"]), r"positive_scores\[0\] is '1.0', not a finite number"),
    "score a boolean": (sts(positive_scores=[True]), r"positive_scores\[0\] is True, not a finite"),
    "score null": (sts(positive_scores=[None]), r"positive_scores\[0\] is None, not a finite"),
    "score NaN": (json.dumps(sts(positive_scores=[math.nan])), "is nan, not a finite number"),
    "score Infinity": (json.dumps(sts(positive_scores=[math.inf])), "is inf, not a finite number"),
    "score -Infinity": (json.dumps(ir(positive_scores=[0, -math.inf])), "is -inf, not a finite number"),
    "score above the range": (sts(positive_scores=[4.5]), r"4.5, outside the declared range \[0.0, 1.0\]"),
    "score below the range": (sts(positive_scores=[-0.1]), "-0.1, outside the declared range"),
    "a text on both sides": (ir(negatives=["n", "Ann opened it."]), r"negatives\[1\] is also positives\[1\]"),
    "both sides but for spaces": (
        ir(positives=["a", " p\n"], negatives=["p"]),
        r"negatives\[0\] is also positives\[1\]: one text, both positive and negative",
    ),
    "mixed, on both sides": (
        ir(task_type="mixed", positives=["p"], negatives=["p"]),
        "both positive and neg",
    ),
    "mixed, negatives alone with scores": (
        ir(task_type="mixed", negatives=["n"], negative_scores=[0.1]),
        "positive_scores is missing or empty; this task needs one score for each text",
    ),
    "two scores": (
        sts(positives=["a", "b", "a"], positive_scores=[1, 0.5, 0]),
        r"positives\[2\] and positives\[0\] are one text with two scores",
    ),
    "two scores, two sides": (
        sts(positives=["a"], positive_scores=[1], negatives=["a"], negative_scores=[0]),
        r"negatives\[0\] and positives\[0\] are one text with two scores",
    ),
    "scores of nothing": (
        ir(negatives=[], negative_scores=[0.0]),
        "negative_scores must be a list of 0 numbers",
    ),
    "a key twice": (
        '{"task_type": "ir", "query": "q", "positives": ["a"], "positives": []}',
        "'positives' stands",
    ),
    "two scores of a teacher": (
        ir(positives=["a", "b", "a"], positive_scores=[7.5, 1, 7.25]),
        r"positives\[2\] and positives\[0\] are one text with two scores",
    ),
    "a teacher's scores, a text on both sides": (
        ir(positives=["a"], positive_scores=[7], negatives=["a"], negative_scores=[7]),
        r"negatives\[0\] is also positives\[0\]: one text, both positive and negative",
    ),
    "a teacher's score beyond single precision": (
        ir(positive_scores=[0, -1e39]),
        r"positive_scores\[1\] is -1e\+39, beyond single precision",
    ),
    "a teacher's score beyond floats": (ir(positive_scores=[0, 10**400]), "beyond single precision"),
    "a teacher's score a string": (ir(positive_scores=[0, "1"]), r"positive_scores\[1\] is '1', not a fin"),
    "mixed, score null": (
        ir(task_type="mixed", positive_scores=[0.5, None]),
        r"positive_scores\[1\] is None, not a finite",
    ),
    "score beyond floats": (sts(positive_scores=[10**400]), "outside the declared range"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_one_error_that_names_file_line_problem_and_remedy(write_lines, kind):
    line, problem = BAD_LINES[kind]
    if isinstance(line, bytes):
        line = line.replace(b"\n", b"")
    path = write_lines([RELEASED_IR, "", line, RELEASED_IR])
    with pytest.raises(UserError, match=problem) as error:
        list(read_records(path))
    message = str(error.value)
    assert message.startswith("1 bad record; correct them, or set data.on_error=skip")
    assert f"\n{path}:3: " in message
    assert len(message.splitlines()) == 2


def test_good_lines_are_yielded_before_the_error(write_lines):
    records = read_records(write_lines(["bad", RELEASED_IR, "bad"]))
    assert next(records).task == "ir"
    with pytest.raises(UserError, match="2 bad records"):
        next(records)


def test_twenty_bad_lines_are_shown_and_the_others_counted(write_lines):
    path = write_lines([RELEASED_IR, *["bad"] * 25])
    with pytest.raises(UserError) as error:
        list(read_records(path))
    lines = str(error.value).splitlines()
    assert lines[0].startswith("25 bad records")
    assert [line.split(": ")[0] for line in lines[1:21]] == [f"{path}:{number}" for number in range(2, 22)]
    assert lines[21:] == ["... and 5 more"]


@pytest.mark.parametrize("content", [b"", b"\n \r\n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: the file is empty; every line must be one JSON record"):
        list(read_records(path))


def test_a_missing_file_is_an_error_with_a_remedy(tmp_path):
    path = tmp_path / "no.jsonl"
    with pytest.raises(UserError, match=rf"{path}: no such file; check data.files, or .*make data"):
        list(read_records(path))


@pytest.mark.parametrize("score_range", [(1.0, 0.0), (0.5, 0.5), (0.0, math.inf), (math.nan, 1.0)])
def test_a_score_range_must_be_a_range(write_lines, score_range):
    with pytest.raises(UserError, match=r"score_range=.* must be \[lowest, highest\]"):
        list(read_records(write_lines([RELEASED_STS]), score_range=score_range))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "text is missing"),
        ({"query": "a"}, "text is missing"),
        ({"text": None}, "text must be a string, not null"),
        ({"text": ["", "", "a"]}, "text must be a string, not a list of 3"),
        ({"text": 3}, "text must be a string, not a number"),
        ({"text": " \u200b "}, "text is empty"),
        ({"text": "\ud800"}, "text has half of a surrogate pair"),
    ],
)
def test_bad_raw_text_is_named_with_file_and_line(write_lines, fields, problem):
    path = write_lines([{"task_type": "lm", "text": "a"}, json.dumps({"task_type": "lm", **fields})])
    with pytest.raises(UserError, match=re.escape(f"{path}:2: {problem}")):
        list(read_records(path))
