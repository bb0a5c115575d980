"""The step: each text once, bad rows told together, nothing half-written; killed, it goes on."""

import hashlib
import json

import pytest

from codiemb.data import content_hash
from codiemb.errors import UserError
from data_prep.fetch import sink
from data_prep.fetch.seen import Seen, keys_of
from data_prep.layout import SCHEMAS, read_source, schema_of
from data_prep.steps import fetch as step
from tests.support.fetching import fetch, judged, table, write_all, write_raw

PAIRS = [{"anchor": f"q{n % 7}", "positive": f"p{n % 5}", "negative": f"n{n % 3}"} for n in range(40)]


def bytes_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_source_has_each_text_once_and_the_layouts_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(sink, "_BLOCK", 6)  # blocks that end inside a record
    write_raw(tmp_path / "raw/a.jsonl", PAIRS)
    out = fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw", language="en", instruction="Find")
    assert [row["text"] for row in table(out, "queries")] == [f"q{n}" for n in range(7)]
    assert sorted(row["text"] for row in table(out, "corpus")) == [
        *(f"n{n}" for n in range(3)),
        *(f"p{n}" for n in range(5)),
    ]
    assert judged(out) == {(f"q{n % 7}", f"p{n % 5}", 1) for n in range(40)} | {
        (f"q{n % 7}", f"n{n % 3}", 0) for n in range(40)
    }
    assert len(table(out, "qrels")) == len(judged(out))
    for name in ("queries.parquet", "corpus.parquet", "qrels.parquet"):
        assert list(table(out, name.removesuffix(".parquet"))[0]) == schema_of(name).names
    assert {row["hash"] for row in table(out, "corpus")} == {
        content_hash(row["text"]) for row in table(out, "corpus")
    }
    assert "candidates" in SCHEMAS
    assert not (out / "candidates").exists()
    assert read_source(out)["task"] == "ir"


def test_the_manifest_knows_the_raw_files_and_no_token(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_mine")
    raw = write_raw(tmp_path / "raw/a.jsonl", PAIRS)
    out = fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["raw"] == {
        "a.jsonl": {"bytes": raw.stat().st_size, "sha256": hashlib.sha256(raw.read_bytes()).hexdigest()}
    }
    assert manifest["bad_rows"] == 0
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hf_secret" not in written + "".join(capfd.readouterr()).encode()


def test_the_first_bad_rows_are_told_together_and_nothing_is_written(tmp_path):
    rows = [{"anchor": "q", "positive": "p"} if n % 2 else {"anchor": n, "positive": "p"} for n in range(60)]
    write_raw(tmp_path / "raw/a.jsonl", rows)
    with pytest.raises(UserError) as error:
        fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("20 bad rows; correct them, or go on without them: --on-error skip")
    assert [line.partition(": ")[0] for line in lines[1:]] == [
        f"{tmp_path}/raw/a.jsonl:{n}" for n in range(1, 41, 2)
    ]
    assert not (tmp_path / "out").exists()
    write_raw(tmp_path / "raw/a.jsonl", PAIRS)  # corrected in place: nothing of the bad run is used
    assert len(judged(fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw"))) > 20


def test_bad_rows_may_be_left_out_and_are_kept_beside(tmp_path):
    write_raw(tmp_path / "raw/a.jsonl", [{"anchor": "q", "positive": "p"}, {"anchor": "q"}])
    out = fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw", on_error="skip")
    assert judged(out) == {("q", "p", 1)}
    (bad,) = map(json.loads, (out / "bad_rows.jsonl").read_text().splitlines())
    assert bad["where"].endswith("a.jsonl:2")
    assert json.loads((out / "manifest.json").read_text())["bad_rows"] == 1


BEIR = {
    "corpus.jsonl": [{"_id": "d1", "text": "x"}, {"_id": "d2", "text": "y"}],
    "queries.jsonl": [{"_id": "q1", "text": "ask"}],
    "qrels/train.tsv": [["query-id", "corpus-id", "score"], ["q1", "d1", "1"]],
}


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("qrels/train.tsv", ["q1", "d9", "1"], "train.tsv:3: no row has the document 'd9'"),
        ("qrels/train.tsv", ["q9", "d1", "1"], "train.tsv:3: no row has the query 'q9'"),
        ("qrels/train.tsv", ["q1", "d1"], "train.tsv:3: 2 fields, not 3 (query-id, corpus-id, score)"),
        (
            "corpus.jsonl",
            {"_id": "d1", "text": "z"},
            "corpus.jsonl:3: document 'd1' has another text in an earlier row",
        ),
        (
            "queries.jsonl",
            {"_id": "q1", "text": "z"},
            "queries.jsonl:2: query 'q1' has another text in an earlier row",
        ),
        ("corpus.jsonl", {"text": "z"}, "corpus.jsonl:3: no column '_id'; it has text"),
    ],
)
def test_ids_that_contradict_or_are_not_there_are_told(name, row, told, tmp_path):
    raw = write_all(tmp_path / "raw", BEIR | {name: [*BEIR[name], row]})
    with pytest.raises(UserError) as error:
        fetch(tmp_path / "out", importer="beir", from_=raw)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            BEIR | {"queries.jsonl": [], "qrels/train.tsv": [["query-id", "corpus-id", "score"]]},
            "not one query",
        ),
        (
            BEIR | {"qrels/train.tsv": [["query-id", "corpus-id", "score"], ["q1", "d1", "0"]]},
            "no query has a positive",
        ),
    ],
)
def test_an_empty_result_is_an_error(files, told, tmp_path):
    raw = write_all(tmp_path / "raw", files)
    with pytest.raises(UserError, match=told):
        fetch(tmp_path / "out", importer="beir", from_=raw)
    assert not (tmp_path / "out").exists()


def test_a_file_that_no_pattern_fits_is_told_with_those_that_are_there(tmp_path):
    write_raw(tmp_path / "raw/other.jsonl", PAIRS)
    with pytest.raises(UserError, match=r"no file fits 'corpus\.jsonl\*'; there are other\.jsonl"):
        fetch(tmp_path / "out", importer="beir", from_=tmp_path / "raw")
    with pytest.raises(UserError, match="nowhere: no such folder; --from names the folder"):
        fetch(tmp_path / "out", recipe="t2ranking", from_=tmp_path / "nowhere")


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    for name in "abc":
        write_raw(tmp_path / f"raw/{name}.jsonl", [row | {"anchor": name} for row in PAIRS] + PAIRS)
    whole = bytes_of(fetch(tmp_path / "whole", importer="pairs", from_=tmp_path / "raw"))
    read, real = [], step.read_items

    def until_killed(recipe, file, *rest):
        read.append(file.origin)
        for number, item in enumerate(real(recipe, file, *rest)):
            if file.origin == "b.jsonl" and number == 50 and read.count("b.jsonl") == 1:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(step, "read_items", until_killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    assert not (tmp_path / "out").exists()
    out = fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    assert read == ["a.jsonl", "b.jsonl", "b.jsonl", "c.jsonl"]
    assert bytes_of(out) == whole


def test_another_raw_file_is_another_result(tmp_path, capsys):
    write_raw(tmp_path / "raw/a.jsonl", PAIRS)
    fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    assert "has not changed" in capsys.readouterr().out
    write_raw(tmp_path / "raw/a.jsonl", [{"anchor": "new", "positive": "p", "negative": "n"}])
    assert judged(fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")) == {
        ("new", "p", 1),
        ("new", "n", 0),
    }


def test_seen_is_a_set_whatever_the_blocks():
    seen, known = Seen(), set()
    for start, stop in ((0, 5), (3, 4), (2, 40), (40, 40), (10, 90), (0, 90), (85, 200)):
        numbers = [number * 31 % 97 for number in range(start, stop)]
        keys = keys_of([(str(number),) for number in numbers])
        before, new = seen.has(keys).tolist(), seen.add(keys).tolist()
        assert before == [number in known for number in numbers]
        for number, is_new in zip(numbers, new, strict=True):
            assert is_new == (number not in known)
            known.add(number)
        assert seen.has(keys).all()
