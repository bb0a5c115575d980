"""Compressed JSON lines are read as they are, by their content; damage is one error that leaves nothing."""

import gzip
import json
import logging
import os
import random

import pyarrow as pa
import pytest

from codiemb.data import SourceFile, convert, open_sources, read_records
from codiemb.data.scan import Scan
from codiemb.errors import UserError

DRAW = random.Random(0)
RECORDS = [
    {"task_type": "ir", "query": f"query {i} \u2028 {DRAW.random()}", "positives": [str(DRAW.random())]}
    for i in range(2_000)
]
LINES = [json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in RECORDS]
TEXT = b"".join(LINES)
EMPTY_FRAME = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"


def zst(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


PACKED = {
    "gzip": gzip.compress(TEXT),
    "members of gzip": gzip.compress(b"".join(LINES[:7])[:-5])
    + gzip.compress(TEXT[len(b"".join(LINES[:7])) - 5 :]),
    "zstd": zst(TEXT),
    "frames of zstd": EMPTY_FRAME + zst(TEXT[:999]) + zst(TEXT[999:]) + EMPTY_FRAME,
}


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_file_holds_what_it_holds_unpacked_whatever_it_is_called(tmp_path, kind):
    plain, packed = tmp_path / "plain", tmp_path / "packed.jsonl"
    plain.write_bytes(TEXT)
    packed.write_bytes(PACKED[kind])
    assert list(read_records(packed)) == list(read_records(plain))
    files = [SourceFile("packed", packed)]
    convert(files, tmp_path / "cache", skip_bad=False)
    (source,) = open_sources(files, tmp_path / "cache")
    assert [source[i].query.text for i in range(2_000)] == [record["query"] for record in RECORDS]


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_lines_of_a_packed_file_are_counted_in_its_text(tmp_path, pack):
    path = tmp_path / "ir.jsonl.gz"
    path.write_bytes(pack(b"".join([*LINES[:1_000], b"\n", b"bad\n", b'"\xff"\n', *LINES[1_000:]])))
    with pytest.raises(
        UserError, match=rf"(?s)^2 bad records.*{path}:1002: not JSON.*{path}:1003: not UTF-8"
    ):
        list(read_records(path))


def test_what_was_read_of_a_packed_file_are_its_packed_bytes(tmp_path):
    path = tmp_path / "ir.jsonl.gz"
    rows = [RECORDS[0] | {"query": DRAW.randbytes(4_000).hex()} for _ in range(40)]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    scan = Scan(path, (0.0, 1.0))
    shares = [scan.share for _ in scan]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.9
    assert (scan.num_bytes, scan.share) == (path.stat().st_size, 1.0)


def test_a_packed_file_that_was_only_touched_is_not_converted_again(tmp_path, caplog):
    path = tmp_path / "ir.jsonl.zst"
    path.write_bytes(PACKED["zstd"])
    files = [SourceFile("ir", path)]
    convert(files, tmp_path / "cache", skip_bad=False)
    folder = next((tmp_path / "cache").iterdir())
    before = (folder / "ir.arrow").stat().st_ino
    path.chmod(0o600)  # another ctime: its bytes are hashed
    with caplog.at_level(logging.INFO):
        convert(files, tmp_path / "cache", skip_bad=False)
    assert caplog.messages == []
    assert (folder / "ir.arrow").stat().st_ino == before


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("kind", "cut", "says"),
    [
        (
            "gzip",
            0.7,
            r"the file ends early: its gzip data is cut off; line [1-9]\d* and all before it are whole",
        ),
        ("zstd", 0.7, "the file ends early: its Zstandard data is cut off; line [1-9]"),
        ("gzip", 9, "the file ends early: its gzip data is cut off; line 0 and"),
        ("gzip", -3, "the file ends early"),
        ("zstd", -3, "the file ends early"),
        ("gzip", b"rest", "its gzip data is damaged"),
        ("zstd", b"rest", "its Zstandard data is damaged"),
    ],
)
def test_a_damaged_packed_file_is_one_error_and_leaves_nothing(tmp_path, kind, cut, says, skip_bad):
    path = tmp_path / "ir.jsonl"
    whole = PACKED[kind]
    path.write_bytes(
        whole + cut if isinstance(cut, bytes) else whole[: int(cut * len(whole)) if cut == 0.7 else cut]
    )
    with pytest.raises(UserError, match=rf"^{path}: .*{says}.*; copy, download or write the file again$"):
        convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=skip_bad)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_file_and_the_bad_lines_of_others_are_told_together(tmp_path):
    for name, content in (("a", gzip.compress(TEXT)[:-9]), ("b", b"bad\n" + LINES[0]), ("c", zst(TEXT)[:-9])):
        (tmp_path / name).write_bytes(content)
    files = [SourceFile(name, tmp_path / name) for name in "abc"]
    with pytest.raises(UserError) as error:
        convert(files, tmp_path / "cache", skip_bad=False)
    lines = str(error.value).split("\n")
    starts = [
        f"{tmp_path}/a: the file ends early",
        f"{tmp_path}/c: the file ends early",
        "1 bad record; ",
        f"{tmp_path}/b:1: not",
    ]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 4


def test_a_packed_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "ir.jsonl.gz"
    path.write_bytes(PACKED["gzip"])
    records = read_records(path)
    next(records)
    os.truncate(path, 30_000)
    with pytest.raises(UserError, match=r"changed while it was read .* start again when it is written whole"):
        list(records)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b""), gzip.compress(b"\n \n"), zst(b""), b"\n"],
    ids=["gzip of nothing", "gzip of blank lines", "zst of nothing", "a blank line"],  # gzip holds the time
)
def test_a_file_of_nothing_is_empty_packed_or_not(tmp_path, content):
    path = tmp_path / "ir.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="the file is empty; every line must be one JSON record"):
        list(read_records(path))


def test_an_error_of_the_disk_is_told_as_such(tmp_path, monkeypatch):
    path = tmp_path / "ir.jsonl.gz"
    path.write_bytes(PACKED["gzip"])
    scan = Scan(path, (0.0, 1.0))

    def broken(*_args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("codiemb.data.lines._HashedFile.readinto", broken)
    with pytest.raises(UserError, match=r"cannot be read to its end \(Input/output error\)"):
        list(scan)
