"""Parquet with the unified columns gives the records that the same rows give as JSON lines."""

import json
import math
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codiemb.data import SourceFile, convert, open_sources, read_records
from codiemb.data.scan import Scan
from codiemb.errors import UserError

PARTS = ("task_instruction", "instance_instruction", "text")


def row(i: int) -> dict:
    return {
        "task_type": "ir",
        "query": ["find", "in: ", f"query {i}"],
        "positives": [["", "", f"positive {i}.{k}"] for k in range(1 + i % 3)],
        "negatives": [["", "", f"negative {i}.{k}"] for k in range(i % 4)],
    }


def sts(i: int) -> dict:
    pair = {"query": ["match", "", f"left {i}"], "positives": [["match", "", f"right {i}"]]}
    return {"task_type": "sts", "positive_scores": [i % 5 / 4]} | pair


def bare(fields: dict) -> dict:
    return fields | {
        "query": fields["query"][2],
        "positives": [text[2] for text in fields["positives"]],
        "negatives": [text[2] for text in fields["negatives"]],
    }


def struct(fields: dict) -> dict:
    sides = {
        side: [dict(zip(PARTS, text, strict=True)) for text in fields[side]]
        for side in ("positives", "negatives")
    }
    return fields | {"query": dict(zip(PARTS, fields["query"], strict=True))} | sides


@pytest.fixture
def write(tmp_path):
    def write_rows(rows, name="ir.parquet", schema=None, **options):
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)
        return path

    return write_rows


def as_lines(rows, folder):
    path = folder / "as_lines.jsonl"
    path.write_text("".join(json.dumps(fields) + "\n" for fields in rows), "utf-8")
    return list(read_records(path))


ROWS = [row(i) for i in range(600)]


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (ROWS, {"row_group_size": 300}),
        (ROWS, {"compression": "zstd", "use_dictionary": False, "data_page_version": "2.0"}),
        ([bare(fields) for fields in ROWS], {}),
        ([sts(i) for i in range(50)], {}),
        ([{"task_type": "lm", "text": f"a text {i}"} for i in range(5)], {}),
        ([sts(1), row(1), {"task_type": "lm", "text": "raw"}, sts(2)], {}),  # absent keys are null
    ],
)
def test_the_rows_are_those_of_the_same_json_lines(write, tmp_path, rows, options):
    columns = {key: None for fields in rows for key in fields}
    path = write([columns | fields for fields in rows], **options)
    assert list(read_records(path)) == as_lines(rows, tmp_path)


def test_a_text_may_be_a_struct_of_its_parts(write, tmp_path):
    path = write([struct(fields) for fields in ROWS[:50]], row_group_size=1)
    assert list(read_records(path)) == as_lines(ROWS[:50], tmp_path)


def test_other_types_of_the_same_values_are_read(write, tmp_path):
    text = pa.dictionary(pa.int32(), pa.large_string())
    schema = pa.schema(
        [
            ("task_type", pa.dictionary(pa.int8(), pa.string())),
            ("query", pa.list_(pa.large_string(), 3)),
            ("positives", pa.large_list(text)),
            ("negatives", pa.null()),
            ("positive_scores", pa.list_(pa.float32())),
            ("negative_scores", pa.list_(pa.null())),
        ]
    )
    rows = [
        {
            "task_type": "sts",
            "query": ["a", "", "b"],
            "positives": ["c"],
            "positive_scores": [0.5],
            "negative_scores": [],
        }
    ]
    assert list(read_records(write(rows, schema=schema))) == as_lines(rows, tmp_path)


def test_bad_rows_are_named_by_their_number_over_all_row_groups(write):
    rows = [row(i) for i in range(600)]
    rows[299]["positives"] = []
    rows[599]["query"][2] = " "
    rows[7]["task_type"] = None
    path = write(rows, row_group_size=100)
    with pytest.raises(UserError) as error:
        list(read_records(path))
    assert str(error.value).split("\n")[1:] == [
        f"{path}:row 8: task_type is missing",
        f"{path}:row 300: positives is missing or empty; a record needs at least one positive",
        f"{path}:row 600: query has an empty text",
    ]


def test_a_score_that_is_none_is_the_error_of_its_row(write):
    path = write([sts(0), sts(1) | {"positive_scores": [math.nan]}, sts(2) | {"positive_scores": [None]}])
    with pytest.raises(
        UserError, match=r"(?s)2 bad.*row 2: .*is nan, not.*row 3: .*is None, not a finite number"
    ):
        list(read_records(path))


def test_bytes_that_are_no_utf8_are_the_error_of_their_row(tmp_path):
    texts = pa.array([b"one", b"\xff\xfe", b"three"], pa.binary()).view(pa.string())
    columns = {"task_type": ["ir"] * 3, "query": texts, "positives": [["p"]] * 3}
    path = tmp_path / "ir.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=rf"^1 bad record; .*\n{path}:row 2: query: not UTF-8 text$"):
        list(read_records(path))
    files = [SourceFile("ir", path)]
    convert(files, tmp_path / "cache", skip_bad=True, rejects=tmp_path / "rejects")
    (source,) = open_sources(files, tmp_path / "cache")
    assert [source[i].query.text for i in range(len(source))] == ["one", "three"]
    assert json.loads((tmp_path / "rejects").read_text("utf-8"))["where"] == f"{path}:row 2"


def test_columns_that_nobody_reads_are_named_once_and_not_read(write, tmp_path, caplog):
    path = write([row(i) | {"negative": ["n"], "id": str(i)} for i in range(30)])
    convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=False)
    assert caplog.messages == [
        f"{path}: keys that are not read: 'negative' in 30 of 30 records (did you mean negatives?)"
    ]


NEEDED = r"a training file has the columns task_type, query and positives.*data_prep fetch --importer pairs"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"query": ["a"], "pos": [["b"]], "neg": [["c"]]},
            f"no column 'task_type'; it has query, pos, neg. {NEEDED}",
        ),
        ({"task_type": ["ir"], "anchor": ["a"]}, f"no column 'query'; it has task_type, anchor. {NEEDED}"),
        (
            {"task_type": ["ir"], "query": ["a"], "pos": [["b"]]},
            f"no column 'positives'; it has .*pos. {NEEDED}",
        ),
        ({f"c{i}": [0] for i in range(30)}, "no column 'task_type'; it has c0, .*, c19 and 10 more"),
        (
            {"task_type": ["ir"], "query": [1], "positives": [["b"]]},
            "column 'query' is of type int64; it must be a",
        ),
        (
            {"task_type": ["ir"], "query": ["a"], "positives": ["b"]},
            "column 'positives' is of type .*string; it must",
        ),
        (
            {"task_type": ["sts"], "query": ["a"], "positives": [["b"]], "positive_scores": [0.5]},
            "column 'positive_scores' is of type double; it must be a list of numbers",
        ),
        (
            {"task_type": ["ir"], "query": [{"text": "a", "prompt": "b"}], "positives": [["b"]]},
            "column 'query' is of type struct",
        ),
    ],
)
def test_a_table_with_other_columns_is_refused_with_those_that_it_has(tmp_path, columns, says):
    path = tmp_path / "ir.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=f"^{path}: (the )?{says}"):
        convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=True)
    assert not (tmp_path / "cache").exists()


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "ir.parquet"
    table = pa.Table.from_arrays([pa.array(["ir"]), pa.array(["a"]), pa.array([["b"]]), pa.array(["c"])],
                                 names=["task_type", "query", "positives", "query"])  # fmt: skip
    pq.write_table(table, path)
    with pytest.raises(UserError, match="the column 'query' stands 2 times"):
        list(read_records(path))


@pytest.mark.parametrize("cut", [4, 9, 0.5, -1])
def test_a_truncated_file_is_one_error_and_leaves_nothing(write, tmp_path, cut):
    path = write(ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole)) if cut == 0.5 else cut])
    with pytest.raises(
        UserError, match=f"^{path}: the Parquet file ends early .*copy, download or write it again$"
    ):
        convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=True)
    assert not (tmp_path / "cache").exists()


def test_a_damaged_page_is_one_error_with_its_place_and_leaves_nothing(write, tmp_path):
    path = write(ROWS, row_group_size=300, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).dictionary_page_offset
    content[start + 50] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: after row 300, the Parquet file cannot be read .*; copy"):
        convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=True)
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_empty_table_is_refused(write):
    schema = pa.schema(
        [("task_type", pa.string()), ("query", pa.string()), ("positives", pa.list_(pa.string()))]
    )
    with pytest.raises(UserError, match="the file has no row"):
        list(read_records(write([], schema=schema)))


def test_a_table_that_is_touched_is_hashed_and_one_that_changes_is_refused(write, tmp_path, monkeypatch):
    path = write(ROWS)
    files = [SourceFile("ir", path)]
    convert(files, tmp_path / "cache", skip_bad=False)
    path.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr("codiemb.data.conversion.Scan", None)
        convert(files, tmp_path / "cache", skip_bad=False)
    records = iter(Scan(path, (0.0, 1.0)))
    next(records)
    write(ROWS[:-1])
    with pytest.raises(UserError, match="changed while it was read"):
        list(records)


READ = """
import resource, sys
from codiemb.data.scan import Scan
count = lambda: sum(1 for _ in Scan(sys.argv[1], (0.0, 1.0)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert count() == 2_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_memory_does_not_grow_with_a_row_group(write):
    texts = [f"{i:06}" * 8_000 for i in range(2_000)]
    rows = [{"task_type": "ir", "query": "q", "positives": [text]} for text in texts]
    path = write(rows, row_group_size=2_000, compression="none", use_dictionary=False)
    assert path.stat().st_size > 90 << 20
    run = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, timeout=300)
    assert int(run.stdout) < 60, run.stderr  # MiB
