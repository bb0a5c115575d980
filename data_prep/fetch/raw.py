"""The raw files of a data set on this disk, and their rows as items; bad ones are collected, not raised."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.errors import UserError
from codiemb.raw_files.fields import Fields, matcher
from codiemb.raw_files.problems import Problem
from codiemb.raw_files.rows import read_rows
from data_prep.fetch.problems import BadRows
from data_prep.fetch.recipe import Recipe, fitting, refuse_none
from data_prep.fetch.rows import Item

_MAX_LABELS = 1_000  # others that are remembered
_ORDER = ["corpus", "queries", "records", "qrels"]

Convert = Callable[[Fields, Recipe], Iterable[Item]]
Converts = Mapping[
    str, tuple[Convert, Mapping[str, str]]
]  # role -> how, and the usual columns: ours -> theirs
Located = tuple[str, Item]  # FILE:ROW that an item comes from


class RawFile(NamedTuple):
    """One logical file.

    Attributes:
        role: `records`, `corpus`, `queries` or `qrels`.
        origin: its name in its folder; of several pieces, the pattern.
        paths: the file, or its pieces in order.
    """

    role: str
    origin: str
    paths: tuple[Path, ...]


def find_files(recipe: Recipe, folder: Path) -> list[RawFile]:
    """The files of a recipe in a folder, in the order in which they are read: documents before judgements.

    Raises:
        UserError: there is no such folder, or a pattern fits no file; what there is instead is told.
    """
    present, found = list_files(folder), list[RawFile]()
    for role in sorted(recipe.files, key=_ORDER.index):
        files = recipe.files[role]
        for pattern in files.patterns:
            if not fitting(present, [pattern]):
                raise refuse_none(str(folder), pattern, present)
        paths = [folder / name for name in fitting(present, files.patterns)]
        if files.pieces:
            found.append(RawFile(role, files.patterns[0], tuple(paths)))
        else:
            found += [RawFile(role, str(path.relative_to(folder)), (path,)) for path in paths]
    return found


def list_files(folder: Path) -> list[str]:
    """The names of all files below a folder, in one order; hidden ones are passed over.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --from names the folder that holds the raw files")
    present = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(name) for name in present if not any(part.startswith(".") for part in name.parts))


def read_items(
    recipe: Recipe,
    file: RawFile,
    converts: Converts,
    bad: BadRows,
    advance: Callable[[int], object] = int,
    only: Callable[[Mapping[str, Any]], bool] | None = None,
) -> Iterator[Located]:
    """The items of a file with their places.

    Args:
        recipe: of the data set.
        file: one of `find_files`.
        converts: role -> how a row of it becomes items, and the usual names of its columns.
        bad: what is wrong is added here.
        advance: told how many bytes have been read.
        only: rows that it refuses are passed over.

    Raises:
        UserError: the file cannot be read, or a column that the recipe names is in no row of it.
    """
    files, (convert, usual) = recipe.files[file.role], converts[file.role]
    columns = {**usual, **files.columns}
    unseen = _Unseen(list(files.columns.values()))
    labels = _Labels(recipe.labels if "label" in columns else ())
    wanted = [column for usual in columns.values() for column in usual.split("|")]
    for number, row in read_rows(file.paths, files.kind, files.header, wanted, advance):
        where = f"{file.paths[0] if len(file.paths) == 1 else file.origin}:{number}"
        if isinstance(row, Problem):
            bad.add(where, str(row))
            continue
        unseen.look(row.keys())
        fields = Fields(row, columns, file.origin)
        labels.look(fields)
        if only is not None and not only(row):
            continue
        try:
            items = list(convert(fields, recipe))
        except Problem as problem:
            bad.add(where, str(problem))
            continue
        for item in items:
            yield where, item
    unseen.check(file)
    labels.check(file)


class _Unseen:
    """Columns that a recipe names and no row has had yet: a slip would leave out negatives unsaid."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._left = list(columns)
        self._present: list[str] = []

    def look(self, names: Iterable[str]) -> None:
        if self._left:
            self._present = self._present or list(names)
            self._left = [column for column in self._left if not any(map(matcher(column), names))]

    def check(self, file: RawFile) -> None:
        if self._left and self._present:
            raise UserError(
                f"{file.paths[0]}: no row has a column {', '.join(map(repr, self._left))}; it has "
                f"{', '.join(self._present)}; correct `columns` of the recipe"
            )


class _Labels:
    """Labels that a recipe names and no row has had: a slip would leave out all rows of the label meant."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._known = frozenset(labels)
        self._left = {label for label in self._known if label.isalpha()}  # 10 and 100 are near by chance
        self._others: set[str] = set()

    def look(self, fields: Fields) -> None:
        if self._known and fields.has("label"):
            label = str(fields.value("label"))
            self._left.discard(label)
            if label not in self._known and len(self._others) < _MAX_LABELS:
                self._others.add(label)

    def check(self, file: RawFile) -> None:
        for label in sorted(self._left):
            if meant := get_close_matches(label, sorted(self._others), 1, 0.8):
                raise UserError(
                    f"{file.paths[0]}: no row has the label {label!r}, and rows of the label {meant[0]!r} "
                    "would be left out; correct the labels"
                )
