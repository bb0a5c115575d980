"""A file that is no JSON lines in UTF-8 is named for what it is, with the way to make it one."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import subprocess
import tarfile
import zipfile

import pandas as pd
import pyarrow as pa
import pytest

from codiemb.data import SourceFile, convert, open_sources, read_records
from codiemb.data.formats import check_file
from codiemb.errors import UserError

RECORD = {"task_type": "ir", "query": "东京在哪里？", "positives": ["日本的首都", "b"]}
LINES = "".join(json.dumps(RECORD | {"id": i}, ensure_ascii=False) + "\n" for i in range(30))
KOREAN = LINES.replace("东京在哪里？", "안녕하세요 오늘 날씨가").replace("日本的首都", "좋습니다 그리고")
WESTERN = LINES.replace("东京在哪里？", "Gefälschte Größe").replace("日本的首都", "für Übung")
FRAME = pd.DataFrame({"query": ["a", "b"], "text": ["c", "d"]})


def _tar() -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("ir.jsonl"))
    return buffer.getvalue()


def _zip() -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("ir.jsonl", LINES)
    return buffer.getvalue()


OTHERS = {
    "bzip2": (bz2.compress(LINES.encode()), "bzip2 data.*bunzip2"),
    "xz": (lzma.compress(LINES.encode()), "xz data.*unxz"),
    "zip": (_zip(), "zip archive"),
    "feather": (b"ARROW1\0\0" + bytes(99), r"Arrow .*read_feather\('\S*ir\.data'\)\.to_json\('\S*ir\.jsonl'"),
    "encrypted Parquet": (b"PARE" + bytes(99), "an encrypted Parquet file"),
    "gzip in gzip": (
        gzip.compress(gzip.compress(LINES.encode())),
        r"gzip data, as gzip.*gunzip -c \S*ir\.data \| gunzip -c > \S*ir\.jsonl",
    ),
    "Parquet in gzip": (gzip.compress(FRAME.to_parquet()), r"Parquet file, as gzip.*gunzip -c \S* > \S*"),
    "array in gzip": (
        gzip.compress(json.dumps([RECORD] * 3).encode()),
        r"gunzip -c \S* \| jq -c '\.\[\]' > ",
    ),
    "GBK in zstd": (pa.compress(LINES.encode("gbk"), "zstd", asbytes=True), r"unzstd -c \S* \| iconv -f GB"),
    "csv in gzip": (
        gzip.compress(FRAME.to_csv(index=False).encode()),
        r"read_csv\('\S*ir\.data', compression='gzip'\)",
    ),
    "tar in gzip": (_tar(), "a tar archive, as gzip.*tar -xf"),
    "sqlite": (b"SQLite format 3\0" + bytes(99), "SQLite database"),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "array": (
        json.dumps([RECORD] * 3).encode(),
        r"one JSON array.*jq -c '\.\[\]' \S*ir\.data > \S*ir\.jsonl",
    ),
    "long array": (json.dumps([RECORD] * 3_000).encode(), "one JSON array"),
    "indented array": (json.dumps([RECORD] * 3, indent=2).encode(), "one JSON array"),
    "indented objects": (json.dumps(RECORD, indent=2).encode() * 2, r"JSON spread over lines.*jq -c \."),
    "python": (repr(RECORD).encode() + b"\n" + repr(RECORD).encode(), "a Python dictionary a line"),
    "csv": (FRAME.to_csv(index=False).encode(), r"a table with commas \(CSV\).*read_csv"),
    "csv with semicolons": (
        FRAME.to_csv(index=False, sep=";").encode(),
        r"a table with semicolons \(CSV\).*read_csv\('\S*ir\.data', sep=';'\)",
    ),
    "tsv": (FRAME.to_csv(index=False, sep="\t").encode(), r"a table with tabs \(TSV\).*read_table"),
    "html": (b"<!DOCTYPE html>\n<html><body>404, not found</body></html>\n", "HTML or XML"),
    "UTF-16": (LINES.encode("utf-16"), "UTF-16 text.*iconv -f UTF-16 -t UTF-8"),
    "UTF-16, no mark": (LINES.encode("utf-16-le"), "UTF-16LE text without .*iconv -f UTF-16LE"),
    "UTF-16, big": (LINES.encode("utf-16-be"), "UTF-16BE text without"),
    "UTF-32": (LINES.encode("utf-32"), "UTF-32 text"),
    "GBK": (LINES.encode("gbk"), r"another encoding than UTF-8 \(likely GB.*iconv -f GB"),
    "one line of GB18030": (LINES.splitlines()[0].encode("gb18030"), "another encoding"),
    "Korean": (KOREAN.encode("euc_kr"), "another encoding"),
    "western": (WESTERN.encode("cp1252"), "another encoding"),
    "array, a record a line": (
        f"[\n{LINES.strip()}\n]".replace("}\n{", "},\n{").encode(),
        "one JSON array.*jq -c",
    ),
    "archive of zeros": (b"ir.jsonl" + bytes(92) + b"0000644" + bytes(400), "binary data"),
    "noise": (bytes(range(128, 256)) * 9, "binary data|another encoding"),
    "tensors": (b"\x40\x01\0\0\0\0\0\0" + b'{"weight":{"dtype":"F32"}}' + os.urandom(4_000), "binary data"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_format_is_named_with_what_to_do(tmp_path, kind):
    content, expected = OTHERS[kind]
    path = tmp_path / "ir.data"
    path.write_bytes(content)
    for skip_bad in (False, True):
        with pytest.raises(UserError, match=f"^{re.escape(str(path))}: this is .*({expected})") as error:
            convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=skip_bad)
        assert "a training file is JSON lines in UTF-8 (.gz and .zst too) or Parquet. " in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_the_command_to_type_is_right_for_any_name(tmp_path):
    path = tmp_path / "my data" / "it's.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(LINES.encode("utf-16-le")))
    with pytest.raises(UserError, match="gunzip") as error:
        list(read_records(path))
    command = "gunzip" + str(error.value).rpartition("gunzip")[2]
    subprocess.run(command, shell=True, check=True)
    assert len(list(read_records(path.with_suffix("")))) == 30


@pytest.mark.parametrize(
    "start",
    ["[1, 2]\n[3]\n", "a, b\nc, d\n", "<html>\n", "{'a': 1}\n", "---\n", '{"task_type":\n', "\x00\n", "\n\n"],
)
def test_a_file_with_a_record_near_its_start_is_not_judged_by_its_bad_lines(tmp_path, start):
    path = tmp_path / "ir.jsonl"
    path.write_text(start + LINES, "utf-8")
    if start.strip():
        with pytest.raises(UserError, match=r"^\d bad record"):
            list(read_records(path))
    files = [SourceFile("ir", path)]
    convert(files, tmp_path / "cache", skip_bad=True)
    assert len(open_sources(files, tmp_path / "cache")[0]) == 30


@pytest.mark.parametrize(
    "lines", [["bad", "worse"], ["[1]", "[2]"], ['{"task_type": "ir"', '{"task_type": "i'], ["{}"]]
)
def test_bad_lines_of_no_known_format_are_named_one_by_one(tmp_path, lines):
    path = tmp_path / "ir.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"{len(lines)} bad record"):
        list(read_records(path))


def test_a_long_line_and_a_character_at_the_edge_of_the_head_are_no_other_format(tmp_path):
    path = tmp_path / "ir.jsonl"
    for shift in range(4):
        record = RECORD | {"query": "x" * shift + "东" * 60_000}
        path.write_text(json.dumps(record, ensure_ascii=False) + "\n" + LINES, "utf-8")
        assert len(list(read_records(path))) == 31


def test_a_path_that_is_no_readable_file_is_named(tmp_path, monkeypatch):
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ir.jsonl").write_text(LINES, "utf-8")
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (loop, "a symbolic link that leads back to itself"),
        (
            tmp_path / "folder",
            r"a folder, not a file; name the files in it \(ir\.jsonl, \.\.\.\), or all .*/\*\.jsonl'",
        ),
        (tmp_path / "pipe", "no regular file"),
        (tmp_path / ("x" * 300), "cannot be read .*at most 255 bytes"),
        (tmp_path / "folder" / "ir.jsonl" / "x", "cannot be read .*is a file, not a folder"),
        (tmp_path / "no", "no such file"),
    ):
        with pytest.raises(UserError, match=f"{path}: {message}"):
            convert([SourceFile("ir", path)], tmp_path / "cache", skip_bad=False)
    assert not (tmp_path / "cache").exists()

    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "folder" / "ir.jsonl"
    check_file(path)
    monkeypatch.setattr(type(path), "open", denied)  # root, who may run the tests, reads everything
    with pytest.raises(UserError, match=r"cannot be read .Permission denied.; give your user the"):
        list(read_records(path))
