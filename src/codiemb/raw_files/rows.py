"""Read files row by row: JSON lines, a JSON array, csv, tsv, Parquet, and what .gz and .zst hold.

A row is a mapping from the file's own column names. Memory: one row, one block of a Parquet file, or one
megabyte of a JSON array.
"""

import codecs
import csv
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from codiemb.errors import UserError
from codiemb.raw_files.problems import Problem, one_of_each
from codiemb.raw_files.unpacked import CHUNK, Unpacked, open_unpacked, refuse_pages

Row = tuple[int, Mapping[str, Any] | Problem]  # its number from 1, and its fields or what is wrong

KINDS = ("jsonl", "json", "csv", "tsv", "words", "parquet")
PACKED = (".gz", ".zst")
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_BATCH = 1024  # rows of a Parquet file that are Python objects at once
_BROKEN = (OSError, EOFError, zlib.error, pa.ArrowException)
_BETWEEN = re.compile(r"[\s,]*")

csv.field_size_limit(2**31 - 1)  # a passage may be longer than the module's 128 KiB


def kind_of(path: Path) -> str:
    """How a file is read, by its name.

    Raises:
        UserError: the name does not tell.
    """
    if not is_readable(path):
        raise UserError(f"{path}: its name does not say what it is; give its kind: {', '.join(KINDS)}")
    return _SUFFIXES[_suffix(path)]


def is_readable(path: Path) -> bool:
    """Whether a file's name says how it is read."""
    return _suffix(path) in _SUFFIXES


def _suffix(path: Path) -> str:
    """The last one, but for that of a packed file."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in PACKED]
    return suffixes[-1] if suffixes else ""


def read_rows(
    paths: Sequence[Path],
    kind: str = "",
    header: Sequence[str] = (),
    columns: Sequence[str] = (),
    advance: Callable[[int], object] = int,
) -> Iterator[Row]:
    """The rows of one file, or of one that lies in several pieces, cut at any byte.

    Args:
        paths: the pieces, in order.
        kind: one of KINDS; "" goes by the name. `words` are fields with any white space between (TREC).
        header: the fields of a table whose first row is data already.
        columns: patterns of the names to read of a Parquet file; none reads all.
        advance: told how many bytes of the file have been read since it was told last.

    Raises:
        UserError: the file cannot be read to its end: cut off, damaged, another format; after which row.
    """
    kind = kind or kind_of(paths[0])
    number = 0
    try:
        if kind == "parquet":
            yield from _parquet(paths[0], columns, advance)
            return
        with open_unpacked(paths, advance) as file:
            refuse_pages(paths[0], file)
            for number, row in _READERS[kind](file, header):
                yield number, row
    except Problem as problem:
        raise UserError(f"{paths[0]}: {problem}") from None
    except (UnicodeDecodeError, *_BROKEN, JSONDecodeError, csv.Error) as error:
        raise _broken(paths[0], f"after row {number}", error) from error


def table_head(path: Path) -> list[str]:
    """The fields of a table's first row, which are its columns unless it has no header; of other files none.

    Raises:
        UserError: the file cannot be read so far.
    """
    kind = kind_of(path)
    if kind not in ("csv", "tsv"):
        return []
    try:
        with open_unpacked([path], int) as file:
            refuse_pages(path, file)
            if kind == "csv":
                return next(csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline="")), [])
            first = next((line for _, line in _lines(file)), "")
            return first.split("\t") if isinstance(first, str) else []
    except (UnicodeDecodeError, *_BROKEN, csv.Error) as error:
        raise _broken(path, "in its first row", error) from error


def _broken(path: Path, where: str, error: Exception) -> UserError:
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{path}: not UTF-8 ({error.reason}) {where}; convert the file: iconv -t UTF-8")
    if isinstance(error, JSONDecodeError):
        return UserError(f"{path}: no JSON ({error.msg}) {where}; get the file again")
    said = str(error).partition("\n")[0] or type(error).__name__
    return UserError(f"{path}: cannot be read further ({said}) {where}; get the file again")


def _lines(file: Unpacked) -> Iterator[tuple[int, str | Problem]]:
    for number, raw in enumerate(file, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield number, Problem("not UTF-8 text; convert the file: iconv -t UTF-8")
            continue
        if line.strip():
            yield number, line


def _jsonl(file: Unpacked, header: Sequence[str]) -> Iterator[Row]:
    for number, line in _lines(file):
        yield number, line if isinstance(line, Problem) else _object(line)


def _object(line: str) -> Mapping[str, Any] | Problem:
    try:
        value = json.loads(line, object_pairs_hook=_unless_twice)
    except (ValueError, RecursionError) as error:
        return Problem(f"not JSON ({getattr(error, 'msg', error)}); one JSON object a line")
    return value if isinstance(value, dict | Problem) else Problem(f"{line[:40]!r} is no JSON object")


def _unless_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Problem:
    """An object; of one that is wrong, or holds one that is, why. Not raised: an array goes on behind it."""
    try:
        fields = one_of_each(pairs)
    except Problem as problem:
        return problem
    values = (each for value in fields.values() for each in (value if isinstance(value, list) else [value]))
    return next((value for value in values if isinstance(value, Problem)), fields)


def _json(file: Unpacked, header: Sequence[str]) -> Iterator[Row]:
    """An array of objects; a file of that name with an object a line is read as such."""
    head = file.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] != b"[":
        yield from _jsonl(file, header)
        return
    for number, value in enumerate(_elements(file), start=1):
        is_row = isinstance(value, dict | Problem)
        yield number, value if is_row else Problem(f"{str(value)[:40]!r} is no JSON object")


def _elements(file: Unpacked) -> Iterator[Any]:
    """The elements of an array, with no more text at hand than a chunk and one of them."""
    decoder, size = JSONDecoder(object_pairs_hook=_unless_twice), CHUNK
    text = codecs.getincrementaldecoder("utf-8-sig")()
    rest, ended = text.decode(file.read(size)), False
    at, number = rest.index("[") + 1, 0
    while True:
        at = cast(re.Match[str], _BETWEEN.match(rest, at)).end()
        if rest.startswith("]", at):
            _refuse_more(rest[at + 1 :], file, number)
            return
        try:
            value, at = decoder.raw_decode(rest, at)
        except JSONDecodeError:
            if ended:
                raise
            chunk, size = file.read(size), min(2 * size, 64 * CHUNK)
            rest, at, ended = rest[at:] + text.decode(chunk, final=not chunk), 0, not chunk
            continue
        number += 1
        yield value


def _refuse_more(rest: str, file: Unpacked, number: int) -> None:
    """Read what is behind an array, which must be nothing: it would be lost without a word."""
    more = rest.strip().encode()
    while not more and (chunk := file.read(CHUNK)):
        more = chunk.strip()
    if more:
        raise Problem(f"something stands behind the array of {number} rows; a file has one array")


def _tsv(file: Unpacked, header: Sequence[str]) -> Iterator[Row]:
    """Fields with a tab between them, and no quoting: a quote is a character."""
    rows = ((n, line if isinstance(line, Problem) else line.split("\t")) for n, line in _lines(file))
    yield from _table(rows, header)


def _words(file: Unpacked, header: Sequence[str]) -> Iterator[Row]:
    rows = ((n, line if isinstance(line, Problem) else line.split()) for n, line in _lines(file))
    yield from _table(rows, header)


def _csv(file: Unpacked, header: Sequence[str]) -> Iterator[Row]:
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(lines, strict=True)
    yield from _table(((reader.line_num, fields) for fields in reader if fields), header)


def _table(rows: Iterator[tuple[int, list[str] | Problem]], header: Sequence[str]) -> Iterator[Row]:
    """Name the fields of a table by its header, which is its first row unless it is given."""
    names = list(header)
    for number, fields in rows:
        if isinstance(fields, Problem):
            yield number, fields
        elif not names:
            names = _names([name.strip() for name in fields])
        elif len(fields) != len(names):
            yield number, Problem(f"{len(fields)} fields, not {len(names)} ({', '.join(names)})")
        else:
            yield number, dict(zip(names, fields, strict=True))


def _names(names: list[str]) -> list[str]:
    """Of the columns; of two with one name only the last would be read.

    Raises:
        Problem: there are two.
    """
    for name in names:
        if names.count(name) > 1:
            raise Problem(f"the column {name!r} stands {names.count(name)} times; write it once")
    return names


def _parquet(path: Path, columns: Sequence[str], advance: Callable[[int], object]) -> Iterator[Row]:
    number, size = 0, path.stat().st_size
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if not columns or _wanted(name, columns)]
            _names(names)
            for batch in file.iter_batches(_BATCH, columns=names or None):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
                advance(size * len(batch) // max(file.metadata.num_rows, 1))
    except _BROKEN as error:
        raise _broken(path, f"after row {number}", error) from error


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_READERS = {"jsonl": _jsonl, "json": _json, "csv": _csv, "tsv": _tsv, "words": _words}
