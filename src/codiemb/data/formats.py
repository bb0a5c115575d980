"""What a training file is, by its first bytes; of another kind: named, with the way to make it one."""

import errno
import json
import re
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

import charset_normalizer

from codiemb.data.records import OTHER_COLUMNS
from codiemb.errors import UserError

WILD = re.compile(r"[*?[]")  # what makes a path a pattern of several
NO_FILE_HINT = "check data.files, or prepare the builtin data: `make data`, for all stages `make data-all`"
HEAD = 1 << 16  # bytes looked at
PARQUET = b"PAR1"
_PANDAS = (
    "pandas.read_{reader}({path!r}{how}).to_json({out!r}, orient='records', lines=True, force_ascii=False)"
)
_TABLES = {  # a mark in the first line, what it tells, and how to read it
    "\t": ("a table with tabs (TSV)", "tsv"),
    ";": ("a table with semicolons (CSV)", "csv2"),
    ",": ("a table with commas (CSV)", "csv"),
}
_EXPECTED = "a training file is JSON lines in UTF-8 (.gz and .zst too) or Parquet."
_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_MAGIC = [  # the first bytes, what begins with them, what to do
    (b"BZh", "bzip2 data", "unpack it first: bunzip2 -c {path} > {out}"),
    (b"\xfd7zXZ\x00", "xz data", "unpack it first: unxz -c {path} > {out}"),
    (b"\x04\x22\x4d\x18", "LZ4 data", "unpack it first: unlz4 {path}"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)", "unpack it, and name the JSON-lines file in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name the JSON-lines file in it"),
    (PARQUET, "a Parquet file", "unpack it first"),  # a packed one: else it is read
    (b"PARE", "an encrypted Parquet file", "write it without encryption"),
    (b"ARROW1", "an Arrow (Feather) file", "write it as JSON lines: {feather}"),
    (b"ORC", "an ORC file", "write it as JSON lines: {orc}"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write it as JSON lines"),
    (b"SQLite format 3\x00", "an SQLite database", "write its table as JSON lines"),
    (b"\x93NUMPY", "a numpy array", "write it as JSON lines"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "convert it: {iconv_32}"),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "convert it: {iconv_32}"),
    (b"\xff\xfe", "UTF-16 text", "convert it: {iconv_16}"),
    (b"\xfe\xff", "UTF-16 text", "convert it: {iconv_16}"),
    (b"%PDF", "a PDF document", "write its texts as JSON lines"),
]
_TAR = 257  # where a tar archive says what it is


class Packing(NamedTuple):
    """How a file is compressed."""

    name: str
    codec: str  # Arrow's name
    unpack: str  # a command that writes the content


_GZIP = Packing("gzip", "gzip", "gunzip -c")
_ZSTD = Packing("Zstandard", "zstd", "unzstd -c")
_SKIPPABLE = b"\x2a\x4d\x18"  # a Zstandard frame without data, which some writers put first


class FileState(NamedTuple):
    """What tells a file from what it was: ctime changes with every write, whatever mtime is set to."""

    size: int
    mtime_ns: int
    ctime_ns: int


def check_file(path: Path) -> FileState:
    """The state of a file that can be read.

    Raises:
        UserError: there is none, it is a folder or another thing without lines, or it may not be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: {_none_there(str(path))}") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{path}: a folder, not a file; {_files_of(path)}")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: no regular file (a pipe or a device); write it to a file first")
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def packing_of(head: bytes) -> Packing | None:
    """How what begins so is compressed, where it can be read as it is; None where it is not compressed."""
    if head.startswith(b"\x1f\x8b\x08"):
        return _GZIP
    is_skippable = head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F
    return _ZSTD if head.startswith(b"\x28\xb5\x2f\xfd") or is_skippable else None


def read_head(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        UserError: it may not be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise _unreadable(path, error) from error


def refuse_other_formats(path: Path, head: bytes, packing: Packing | None = None) -> None:
    """Judge a file by the first bytes of its (unpacked) content.

    One that holds a single JSON object among them is what it should be.

    Raises:
        UserError: this is an archive, an array, a table, another encoding ...; and what to do.
    """
    if inner := packing_of(head):
        raise _wrong(
            path,
            f"{inner.name} data",
            f"unpack it once: {{unpack}}{{path}} | {inner.unpack} > {{out}}",
            packing=packing,
        )
    for magic, kind, remedy in _MAGIC:
        if head.startswith(magic):
            raise _wrong(
                path,
                kind,
                "unpack it first: {unpack}{path} > {out}" if packing else remedy,
                packing=packing,
            )
    if head[_TAR : _TAR + 5] == b"ustar":
        raise _wrong(
            path,
            "a tar archive",
            "unpack it (tar -xf {path}), and name the JSON-lines file in it",
            packing=packing,
        )
    lines = [line for line in head.split(b"\n") if line.strip()]
    if not lines or (any(map(_is_object, lines)) and lines[0].strip() != b"["):
        return  # a list with a record a line: its last has no comma
    if b"\x00" in head:
        zeros = head[0::2].count(0), head[1::2].count(0)
        if max(zeros) > max(len(head) // 8, 4 * min(zeros)):  # of an archive's both halves have many
            code = "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
            raise _wrong(path, f"{code} text without a byte order mark", "convert it: {iconv}", code, packing)
        raise _wrong(path, "binary data, not text", "write its records as JSON lines", packing=packing)
    text = _decoded(path, head, packing)
    if other := _other_text(text.strip(), len(lines)):
        raise _wrong(path, *other, packing=packing)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode("utf-8-sig")), dict)
    except (ValueError, RecursionError):
        return False


def _decoded(path: Path, head: bytes, packing: Packing | None) -> str:
    """UTF-8 text; a character may be cut off at the end of the head."""
    try:
        return head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(head) - 4 and len(head) == HEAD:
            return head[: error.start].decode("utf-8-sig")
    # Cost: 0.01 s, once, in a file without a good line. A guess, and called one.
    best = charset_normalizer.from_bytes(head[: head.rfind(b"\n") + 1] or head).best()
    if best is None or best.encoding in ("utf_8", "ascii"):
        if head.lstrip()[:1] == b"{":
            return ""  # lines of JSON with bytes of no encoding: each line is named
        raise _wrong(path, "binary data, not text", "write its records as JSON lines", packing=packing)
    code = best.encoding.upper().replace("_", "-")
    raise _wrong(
        path, f"text in another encoding than UTF-8 (likely {code})", "convert it: {iconv}", code, packing
    )


def _other_text(text: str, num_lines: int) -> tuple[str, str] | None:
    """Kind and remedy, of text without a line that is a JSON object."""
    first = text.partition("\n")[0].strip()
    if text.startswith("["):
        if num_lines > 1 and _is_json(first):
            return None  # a list a line: each is a bad record
        return "one JSON array", "write one record a line: {jq_list}"
    if text.startswith("{"):
        if first.startswith("{'"):
            return "a Python dictionary a line, not JSON", "write them with json.dumps (double quotes)"
        if num_lines > 1 and first[-1] in "{[,":
            return "JSON spread over lines", "write one record a line: {jq}"
        return None
    if text.startswith("<"):
        return (
            "a page of HTML or XML (a download that failed looks so too)",
            "write its records as JSON lines",
        )
    for mark, (kind, key) in _TABLES.items():
        if mark in first and num_lines > 1 and '"task_type":' not in first:
            return kind, f"{OTHER_COLUMNS}; a table of such records: {{{key}}}"
    if text.startswith(("---", "- ")) or first.rstrip().endswith(":"):
        return "YAML", "write one JSON object a line"
    return None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _wrong(path: Path, kind: str, remedy: str, code: str = "", packing: Packing | None = None) -> UserError:
    name, out = str(path), str(path.with_suffix("").with_suffix(".jsonl"))
    if out == name:
        out = str(path.with_suffix(".utf8.jsonl" if code else ".lines.jsonl"))
    in_shell, out_in_shell = shlex.quote(name), shlex.quote(out)
    how = f", compression={packing.codec!r}" if packing else ""
    pandas = {
        key: _PANDAS.format(reader=reader, path=name, how=how, out=out)
        for key, reader in (("feather", "feather"), ("orc", "orc"), ("csv", "csv"), ("tsv", "table"))
    }
    pandas["csv2"] = _PANDAS.format(reader="csv", path=name, how=f", sep=';'{how}", out=out)
    source = f"{packing.unpack} {in_shell} | " if packing else ""
    target = f"> {out_in_shell}" if packing else f"{in_shell} > {out_in_shell}"
    pipes = {
        key: f"{source}{command} {target}"
        for key, command in (
            ("jq", "jq -c ."),
            ("jq_list", "jq -c '.[]'"),
            ("iconv", f"iconv -f {code} -t UTF-8"),
            ("iconv_16", "iconv -f UTF-16 -t UTF-8"),
            ("iconv_32", "iconv -f UTF-32 -t UTF-8"),
        )
    }
    unpack = f"{packing.unpack} " if packing else ""
    what_to_do = remedy.format(path=in_shell, out=out_in_shell, unpack=unpack, **pandas, **pipes)
    within = f"{kind}, as {packing.name}" if packing else kind
    return UserError(f"{path}: this is {within}; {_EXPECTED} {what_to_do}")


def _none_there(path: str) -> str:
    """Of a pattern also what lies in the folder that it begins with."""
    if not WILD.search(path):
        return f"no such file; {NO_FILE_HINT}"
    folder = Path(WILD.split(path)[0] + "x").parent
    if not folder.is_dir():
        return f"no file matches; there is no folder {folder}"
    inside = files_in(folder)[:3]
    return "no file matches; " + (f"{folder} has {', '.join(inside)}, ..." if inside else NO_FILE_HINT)


def files_in(folder: Path) -> list[str]:
    """Names in a folder that a training file may have, sorted; none where the folder cannot be listed."""
    try:
        names = [child.name for child in folder.iterdir()]
    except OSError:
        return []
    return sorted(name for name in names if name.endswith(_ENDINGS) and not name.startswith("."))


def _files_of(folder: Path) -> str:
    """What a folder's user may have meant."""
    inside = files_in(folder)
    if not inside:
        return "name the files in it (JSON lines, .gz and .zst too, or Parquet)"
    pattern = folder / ("*" + next(ending for ending in _ENDINGS if inside[0].endswith(ending)))
    return f"name the files in it ({', '.join(inside[:3])}, ...), or all as one source: '{pattern}'"


def _unreadable(path: Path, error: OSError) -> UserError:
    if error.errno == errno.ELOOP:
        return UserError(f"{path}: a symbolic link that leads back to itself; name the file itself")
    advice = _ADVICE.get(error.errno or 0, "check data.files")
    return UserError(f"{path}: cannot be read ({error.strerror or error}); {advice}")


_ADVICE = {
    errno.EACCES: "give your user the right to read it and to enter its folders (chmod)",
    errno.EPERM: "give your user the right to read it and to enter its folders (chmod)",
    errno.ENAMETOOLONG: "a name has at most 255 bytes; check data.files",
    errno.EIO: "the disk does not give it; restore the file",
    errno.ENOTDIR: "a part of its path is a file, not a folder; check data.files",
}
