"""Raw files: whatever they are packed in gives the same rows; what cannot be read is told with its place."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.errors import UserError
from codiemb.raw_files import rows as reading
from codiemb.raw_files import unpacked
from codiemb.raw_files.problems import Problem
from codiemb.raw_files.rows import kind_of, read_rows
from tests.support.fetching import write_raw

ROWS = [{"a": "x\u2028y", "b": "1,5"}, {"a": '"quoted"', "b": "中文"}]
TABLE = [["a", "b"], *([row["a"], row["b"]] for row in ROWS)]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_every_kind_and_packing_gives_the_same_rows(kind, packed, tmp_path):
    path = write_raw(tmp_path / f"a.{kind}{packed}", TABLE if kind in ("csv", "tsv") else ROWS)
    assert [row for _, row in read_rows([path])] == ROWS


def test_a_table_without_a_header_and_words(tmp_path):
    path = write_raw(tmp_path / "a.txt", [["1", "0", "11", "1"]])
    assert list(read_rows([path], "tsv", ["q", "zero", "d", "grade"])) == [
        (1, {"q": "1", "zero": "0", "d": "11", "grade": "1"})
    ]
    path.write_text("1 Q0  d1\t2\n")
    assert [row for _, row in read_rows([path], "words", ["q", "zero", "d", "grade"])] == [
        {"q": "1", "zero": "Q0", "d": "d1", "grade": "2"}
    ]


objects = st.dictionaries(
    st.text(max_size=3), st.recursive(st.text(max_size=9) | st.integers(), st.lists, max_leaves=5)
)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(objects, max_size=6), indent=st.sampled_from([None, 1]), chunk=st.integers(4, 40))
def test_an_array_is_read_in_pieces_of_any_size(rows, indent, chunk):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK", chunk)
        patch.setattr(unpacked, "CHUNK", chunk)
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), "utf-8")
        assert [row for _, row in read_rows([path])] == rows


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=4), packed=st.sampled_from(["", ".gz"]))
def test_pieces_cut_at_any_byte_are_one_file(cuts, packed):
    with tempfile.TemporaryDirectory() as folder:
        data = write_raw(Path(folder) / f"a.jsonl{packed}", ROWS).read_bytes()
        ends = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        pieces = [Path(folder) / f"piece{number}.jsonl" for number in range(len(ends) - 1)]
        for piece, (start, end) in zip(pieces, pairwise(ends), strict=True):
            piece.write_bytes(data[start:end])
        assert [row for _, row in read_rows(pieces, "jsonl")] == ROWS


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_that_was_cut_off_is_told(name, tmp_path):
    rows = [{"a": f"{number * 7919 % 100_003} some text", "b": "b"} for number in range(3000)]
    path = write_raw(tmp_path / name, rows)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{path}: .*after row \d+; get the file again"):
        list(read_rows([path]))


def test_a_table_in_another_encoding_says_how_to_convert_it(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n文,1\n", "utf-16")
    with pytest.raises(UserError, match=r"a.csv: not UTF-8 \(.*\) after row 0; .*iconv -t UTF-8"):
        list(read_rows([tmp_path / "a.csv"]))


def test_bad_rows_are_told_one_by_one_and_the_others_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\xff\xfe{"a"\n[1]\n\n{"a": 2\n{"a": 3}\n')
    found = [(number, str(row)) for number, row in read_rows([tmp_path / "a.jsonl"])]
    assert [number for number, _ in found] == [1, 2, 3, 5, 6]
    assert "not UTF-8" in found[1][1]
    assert "no JSON object" in found[2][1]
    assert "not JSON" in found[3][1]


def test_a_row_with_other_fields_is_told_with_the_header(tmp_path):
    path = write_raw(tmp_path / "a.tsv", [["qid", "pid"], ["1"], ["2", "3", "4"], ["5", "6"]])
    found = list(read_rows([path]))
    assert [number for number, row in found if isinstance(row, Problem)] == [2, 3]
    assert str(found[1][1]) == "3 fields, not 2 (qid, pid)"
    assert found[2] == (4, {"qid": "5", "pid": "6"})


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", b"a,b\n1,\xff\n", "not UTF-8"),
        ("a.csv", b'a,b\n"1,2\n', "cannot be read further"),
        ("a.json", b'[{"a": 1}, {"a": }]', "no JSON"),
        ("a.json", b'[{"a": 1}', "no JSON"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid x\n", "a Git LFS pointer"),
        ("a.jsonl", b"<!DOCTYPE html><html>", "a page of HTML"),
        ("a.parquet", b"PAR1 no", "cannot be read further"),
    ],
)
def test_a_file_of_another_kind_is_told(name, data, told, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{tmp_path / name}: .*{told}"):
        list(read_rows([tmp_path / name]))


def test_a_name_that_says_nothing_needs_a_kind(tmp_path):
    assert kind_of(Path("train.jsonl.gz")) == "jsonl"
    with pytest.raises(
        UserError, match=r"queries\.txt: .*give its kind: jsonl, json, csv, tsv, words, parquet"
    ):
        kind_of(Path("queries.txt"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_all_bytes_of_a_file_are_counted(name, tmp_path):
    path, counted = write_raw(tmp_path / name, ROWS * 50), []
    list(read_rows([path], advance=counted.append))
    assert sum(counted) == path.stat().st_size


@pytest.mark.parametrize(
    "inside", ['"a": ["x"], "a": ["y"]', '"b": [{"a": 1, "a": 2}]', '"b": {"a": 1, "a": 2}']
)
def test_a_key_that_stands_twice_is_a_bad_row_of_which_no_half_is_read(inside, tmp_path):
    lines, array = f'{{{inside}}}\n{{"a": "z"}}\n', f'[{{{inside}}}, {{"a": "z"}}]'
    for name, text in (("a.jsonl", lines), ("a.json", array)):
        (tmp_path / name).write_text(text, "utf-8")
        (_, bad), (_, good) = read_rows([tmp_path / name])
        assert isinstance(bad, Problem)
        assert str(bad) == "the key 'a' stands twice in one object"
        assert good == {"a": "z"}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet"])
def test_a_table_with_two_columns_of_one_name_is_refused(name, tmp_path):
    if name.endswith("parquet"):
        pq.write_table(
            pa.table([["q"], ["n"], ["m"]], names=["query", "negative", "negative"]), tmp_path / name
        )
    else:
        write_raw(tmp_path / name, [["query", "negative", "negative"], ["q", "n", "m"]])
    with pytest.raises(UserError, match="column 'negative' stands 2 times; write it once"):
        list(read_rows([tmp_path / name]))


@pytest.mark.parametrize("behind", ['[{"a": 3}]', "x", "}", "\n\n]", " " * 300 + "[]"])
@pytest.mark.parametrize("chunk", [16, 1 << 20])
def test_what_stands_behind_an_array_is_not_lost_without_a_word(behind, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"a": 2}]\n' + behind)
    with pytest.raises(UserError, match=r"a\.json: something stands behind the array of 2 rows"):
        list(read_rows([path]))
    path.write_text('[{"a": 1}, {"a": 2}]\n \r\n' + " " * 300)
    assert len(list(read_rows([path]))) == 2
