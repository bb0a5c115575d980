"""The raw lines that rows came from: the raw files are read again as fetch read them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from data_prep.fetch.hub import unpacked
from data_prep.fetch.importers import load_importer
from data_prep.fetch.problems import BadRows
from data_prep.fetch.raw import RawFile, find_files, read_items
from data_prep.fetch.recipe import Recipe, parse_recipe
from data_prep.fetch.rows import Document, Item, Judgement, Query, Scored
from data_prep.fetch.sink import GIVEN
from data_prep.layout import CORPUS, QRELS, QUERIES
from data_prep.lineage.subjects import Subject, Subjects
from data_prep.lineage.tables import Rows
from data_prep.manifest import MANIFEST, hash_file, read_manifest

_TABLES = {Query: QUERIES, Document: CORPUS, Judgement: QRELS, Scored: GIVEN}


class Place(NamedTuple):
    """Of a subject FILE:LINE (FILE:ROW of what has no lines); without one, what hinders that."""

    subject: Subject | None
    where: str


def raw_lines(folder: Path, subjects: Subjects, rows: Rows) -> Iterator[Place]:
    """Where each subject stands in the raw files of what fetch wrote: first, or where it is mentioned first.

    Raises:
        UserError: a raw file cannot be read to its end.
    """
    manifest = read_manifest(folder)
    if (values := manifest["depends_on"].get("recipe")) is None:
        yield Place(None, "its manifest names no raw files")
        return
    recipe = parse_recipe(values["name"], values, str(folder / MANIFEST))
    raw = _raw_folder(manifest["parameters"], recipe)
    if problems := list(_changed(raw, manifest["raw"])):
        yield from (Place(None, problem) for problem in problems)
        return
    wanted = {subject for subject in subjects if rows.get(subject) and subject.table in _TABLES.values()}
    with TemporaryDirectory() as scratch:
        lies_in = unpacked(recipe, raw, Path(scratch) / "unpacked")
        found = _search(recipe, find_files(recipe, lies_in), wanted, rows)
    packed = f"{raw / ', '.join(manifest['raw'])}: "
    for subject in (subject for subject in subjects if subject in wanted):
        where = found.get(subject, "in no raw file, as the importer reads them now")
        yield Place(subject, where.replace(f"{lies_in}/", packed) if lies_in != raw else where)


def _raw_folder(parameters: Mapping[str, Any], recipe: Recipe) -> Path:
    if not parameters["from"]:
        return Path(parameters["raw"]) / recipe.name
    path = Path(parameters["from"])
    return path if path.is_dir() or not path.suffix else path.parent


def _changed(folder: Path, raw: Mapping[str, Any]) -> Iterator[str]:
    for name, about in raw.items():
        if not (folder / name).is_file():
            yield f"{folder / name} is gone, or lies elsewhere than from where fetch was run"
        elif hash_file(folder / name) != about["sha256"]:
            yield f"{folder / name} has changed since it was fetched: no line of it is named"


def _search(recipe: Recipe, files: Sequence[RawFile], wanted: set[Subject], rows: Rows) -> dict[Subject, str]:
    """First in rows that mention a text or an id; what an importer has made up of them needs all rows."""
    mentioned = _Mentioned(rows[subject] for subject in wanted)
    found = _first(recipe, files, wanted, mentioned)
    return found if len(found) == len(wanted) else found | _first(recipe, files, wanted - found.keys(), None)


def _first(
    recipe: Recipe,
    files: Sequence[RawFile],
    wanted: set[Subject],
    only: Callable[[Mapping[str, Any]], bool] | None,
) -> dict[Subject, str]:
    found: dict[Subject, str] = {}
    converts = load_importer(recipe.importer)
    for file in files:
        for where, item in read_items(recipe, file, converts, BadRows(), only=only):
            subject = _subject(item)
            if subject in wanted and subject not in found:
                found[subject] = where
                if len(found) == len(wanted):
                    return found
    return found


def _subject(item: Item) -> Subject:
    ids = (item.id,) if isinstance(item, Query | Document) else (item.query, item.document)
    return Subject(_TABLES[type(item)], ids)


class _Mentioned:
    """Whether a row holds one of some texts or ids: a row is made into items at five times the cost."""

    def __init__(self, rows: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        names = ("id", "text", "query", "document")
        self._texts = {row[name].strip() for each in rows for row in each for name in names if row.get(name)}

    def __call__(self, value: Any) -> bool:  # noqa: ANN401  a row, or what is in it
        if isinstance(value, str):
            return value.strip() in self._texts
        if isinstance(value, Mapping):
            return any(map(self, value.values()))
        if isinstance(value, list | tuple):
            return any(map(self, value))
        return value is not None and str(value) in self._texts
