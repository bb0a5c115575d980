"""The way of a record in print: step by step from a file back to the raw lines."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from codiemb.json_files import read_json
from data_prep.fetch.sink import GIVEN
from data_prep.layout import QRELS, SOURCE
from data_prep.lineage.changes import changes
from data_prep.lineage.merged import with_merged
from data_prep.lineage.raw_lines import raw_lines
from data_prep.lineage.start import find_start
from data_prep.lineage.subjects import Subject, Subjects, described, of_source
from data_prep.lineage.tables import Row, Rows, Tables
from data_prep.manifest import inputs_of, read_manifest

# what of a step's options says how it made something new
_SAID = ("recipe", "importer", "from", "search", "encoder", "cross_encoder", "judge", "judge_scores")
_ASKED = ("strong", "strong_scores", "model")

_STANDS = {QRELS: "judged at ", GIVEN: "scored at "}


def print_lineage(file: Path, line: int) -> None:
    """Print the way of what stands at a line of a file that export wrote, or in a row of a step's table.

    Each step back to fetch says what it did; raw lines are found by reading the raw files again.

    Raises:
        UserError: no such file or line, a file that no step wrote, or one that was changed since.
    """
    start = find_start(file, line)
    print(f"{file}:{line}")
    print("".join(f"  {each}\n" for each in start.lines), end="")
    for text in way(start.folder, start.subjects):
        print(text)


def way(folder: Path, subjects: Subjects, tables: Tables | None = None) -> Iterator[str]:
    """The lines of print for what is followed in a folder, from its step back to fetch."""
    tables = tables or Tables()
    manifest = read_manifest(folder)
    step, options = str(manifest["step"]), manifest["parameters"]
    said = "".join(f" {name}={options[name]}" for name in (*_SAID, *_ASKED) if options.get(name))
    yield f"\n{step}  {folder}{said}"
    if changed := tables.changed(folder, subjects):
        yield _stop(f"{folder / changed[0]} was changed since the step wrote it")
        return
    rows = tables.rows(folder, subjects)
    if step == "dedup":
        subjects = with_merged(folder, subjects, rows)
        rows = tables.rows(folder, subjects)
    inputs = inputs_of(folder)
    if not inputs and step != "fetch":  # made from nothing
        yield from _what_became(subjects, rows, {}, "")
    elif not inputs:
        yield from _from_raw(folder, subjects, rows)
    for each in inputs:
        if each.problem:
            yield _stop(f"{each.folder}, which it read, {each.problem}")
            continue
        prefix = f"{_name(each.folder)}:" if len(inputs) > 1 else ""
        inside = of_source(subjects, prefix)
        if changed := tables.changed(each.folder, inside):
            yield _stop(f"{each.folder / changed[0]}, which it read, was changed since")
        elif inside:
            before = tables.rows(each.folder, inside)
            yield from _what_became(subjects, rows, before, prefix)
            yield from way(each.folder, {s: name for s, name in inside.items() if before.get(s)}, tables)


def _stop(why: str) -> str:
    return f"  {why}: the way cannot be followed further"


def _name(folder: Path) -> str:
    return str(read_json(folder / SOURCE, {}).get("name"))


def _what_became(subjects: Subjects, rows: Rows, before: Rows, prefix: str) -> Iterator[str]:
    """What the step did; of a file of records, what they were made of."""
    said = (
        (change, name)
        for subject, name in subjects.items()
        for change in _changes(subject, rows, before.get(_without(subject, prefix), ()), made=bool(rows))
    )
    yield from list(_together(said)) or ["  nothing changed"]


def _together(said: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A line for what is said, with the names of all of which it is."""
    names: dict[str, list[str]] = {}
    for text, name in said:
        names.setdefault(text, []).append(name)
    return (f"  {_listed(dict.fromkeys(each))}: {text}" for text, each in names.items())


def _listed(names: Iterable[str]) -> str:
    """query, positive 1, negative 1 2 5: a kind is named once."""
    numbers: dict[str, list[str]] = {}
    for name in names:
        kind, _, number = name.rpartition(" ")
        numbers.setdefault(kind if number.isdigit() else name, []).append(number if number.isdigit() else "")
    return ", ".join(" ".join([kind, *filter(None, each)]) for kind, each in numbers.items())


def _changes(subject: Subject, rows: Rows, before: Sequence[Row], *, made: bool) -> Iterator[str]:
    if made:
        return changes(subject, before, rows.get(subject, ()))
    kept = (row for row in before if row["dropped_by"] is None and len(subject.ids) > 1)
    return (described(subject, row) for row in kept)


def _without(subject: Subject, prefix: str) -> Subject:
    return Subject(subject.table, tuple(each.removeprefix(prefix) for each in subject.ids))


def _from_raw(folder: Path, subjects: Subjects, rows: Rows) -> Iterator[str]:
    found = list(raw_lines(folder, subjects, rows))
    yield from (_stop(where) for subject, where in found if subject is None)
    yield from _together(
        (f"{_STANDS.get(subject.table, '')}{where}", subjects[subject]) for subject, where in found if subject
    )
