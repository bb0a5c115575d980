"""Bring a data set to this disk and write it as a source: queries, corpus, judgements, and given scores.

--recipe NAME takes one of data_prep/recipes (docs/recipes.md lists them) or a file of your own; --from
FOLDER reads its files from a folder, not from the network. --importer NAME --from PATH needs no recipe: it
reads what you have.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

import pyarrow.compute as pc

from codiemb.atomic import sync, write_text
from codiemb.errors import UserError
from codiemb.json_files import read_jsonl
from data_prep.blocks import blocks, num_rows
from data_prep.fetch.hub import download, unpacked
from data_prep.fetch.importers import load_importer
from data_prep.fetch.own import own_recipe
from data_prep.fetch.problems import MAX_REPORTED, BadRows, LoggedBadRows
from data_prep.fetch.raw import Converts, RawFile, find_files, list_files, read_items
from data_prep.fetch.recipe import UNKNOWN, Recipe, fitting, load_recipe
from data_prep.fetch.sink import GIVEN, TABLES, Known, Sink
from data_prep.layout import QRELS, QUERIES, SOURCE, schema_of
from data_prep.manifest import hash_file
from data_prep.options import option
from data_prep.progress import Progress
from data_prep.step import Step, Work, join

_BAD_ROWS = "bad_rows.jsonl"


@dataclass(frozen=True)
class FetchOptions:
    """What to fetch, and from where."""

    recipe: str = option("", "a name from data_prep/recipes, or the path of a YAML file like those")
    from_: str = option(
        "", "read the raw files from this folder (or file) and not from the network", name="from"
    )
    importer: str = option(
        "",
        "without a recipe: the layout of what lies at --from; beir, codiemb, flag_embedding, messages, "
        "pairs or tevatron",
    )
    columns: list[str] = option([], "without a recipe: OURS=THEIRS, where columns have other names")
    labels: list[str] = option(
        [], "without a recipe: LABEL=GRADE, where pairs have a label; others are left out"
    )
    task: Literal["ir", "sts"] = option("ir", "without a recipe: ir, or sts for graded pairs")
    score_range: list[float] = option([0.0, 1.0], "without a recipe: lowest and highest score of sts pairs")
    instruction: str = option("", "without a recipe: of every query that has none of its own")
    language: str = option("mul", "without a recipe: of all texts; mul for several")
    split: str = option("train", "without a recipe: which of the qrels of a BEIR folder")
    accept_licence: bool = option(False, "go on though the card of the data set states no licence")
    on_error: Literal["stop", "skip"] = option(
        "stop", "at bad rows: stop, or leave them out (bad_rows.jsonl has them)"
    )
    raw: str = option("data/raw", "downloads are kept here, a folder for each recipe")


def _recipe(options: FetchOptions) -> Recipe:
    if bool(options.recipe) == bool(options.importer):
        raise UserError("fetch: give either --recipe NAME or --importer NAME --from PATH")
    if options.recipe:
        return load_recipe(options.recipe)
    if not options.from_:
        raise UserError("fetch: --importer needs --from PATH, the file or folder to read")
    load_importer(options.importer)
    about = {
        name: getattr(options, name) for name in ("task", "score_range", "instruction", "language", "labels")
    }
    return own_recipe(options.importer, Path(options.from_), options.columns, about, options.split)


def _depends_on(options: FetchOptions) -> Mapping[str, Any]:
    """The recipe, and the raw files where they lie in a folder; a download is known by its revision."""
    recipe = _recipe(options)
    about: dict[str, Any] = {"recipe": json.loads(json.dumps(asdict(recipe)))}
    return about | ({"raw": _hashes(recipe, _folder(options))} if options.from_ else {})


def _folder(options: FetchOptions) -> Path:
    path = Path(options.from_)
    return path.parent if path.is_file() else path


def _hashes(recipe: Recipe, folder: Path) -> dict[str, dict[str, Any]]:
    """Of the files that are read, or of the archives that they lie in."""
    present = list_files(folder)
    names = fitting(present, recipe.patterns) or fitting(present, ["*.tar.gz", "*.zip"])
    return {name: _hash(folder / name, (folder / name).stat().st_mtime_ns) for name in sorted(names)}


@cache
def _hash(path: Path, mtime_ns: int) -> dict[str, Any]:
    """Once a run: the plan of a pipeline asks, too. About a second a gigabyte."""
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def _run(work: Work[FetchOptions]) -> Mapping[str, Any]:
    recipe = _recipe(work.options)
    _check_licence(recipe, work.options)
    converts = load_importer(recipe.importer)
    if unread := sorted(recipe.files.keys() ^ converts.keys()):
        raise UserError(
            f"{recipe.name}: importer {recipe.importer} reads {', '.join(converts)}; {unread[0]!r} is wrong"
        )
    folder = _folder(work.options)
    if not work.options.from_:
        folder = Path(work.options.raw) / recipe.name
        download(recipe, folder)
    files = find_files(recipe, _unpacked(recipe, folder, work.parts))
    bad = _import(recipe, files, converts, work)
    _refuse_empty(work.out, folder)
    keys = ("name", "task", "instruction", "language", "licence", "stage", "repository", "revision")
    about = {key: getattr(recipe, key) for key in keys}
    write_text(work.out / SOURCE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    raw = work.about.get("raw") or _hashes(recipe, folder)
    return {"raw": raw, "licence": recipe.licence, "bad_rows": bad.count}


def _check_licence(recipe: Recipe, options: FetchOptions) -> None:
    if recipe.licence == UNKNOWN and not options.accept_licence:
        raise UserError(
            f"{recipe.name}: licence: unknown; the card of {recipe.repository or 'the data'} states none. If "
            "you may use the data all the same, say so: --accept-licence"
        )


def _unpacked(recipe: Recipe, folder: Path, parts: Path) -> Path:
    """The folder that holds the files themselves; what an interrupted run has unpacked is used again."""
    done, unfinished = parts / "unpacked", parts / "unpacked.unfinished"
    if not done.is_dir():
        rmtree(unfinished, ignore_errors=True)
        if (found := unpacked(recipe, folder, unfinished)) != unfinished:
            return found
        os.replace(unfinished, done)
    return done


def _import(recipe: Recipe, files: list[RawFile], converts: Converts, work: Work[FetchOptions]) -> BadRows:
    """All files into the tables of the result, piece by piece; a finished piece is not made again.

    Raises:
        UserError: the bad rows, unless they are to be skipped.
    """
    known, bad, parts = Known(), BadRows(), list[Path]()
    sizes = [sum(path.stat().st_size for path in file.paths) for file in files]
    progress = Progress(f"fetch {recipe.name}", sum(sizes), "bytes")
    stop = work.options.on_error == "stop"
    for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
        stamps = "-".join(str(path.stat().st_mtime_ns) for path in file.paths[:1])
        part = work.parts / f"{index:05d}-{size}-{stamps}"
        if part.is_dir():
            known.restore(part)
            progress.skip(size)
        else:
            _make_part(part, recipe, file, converts, known, progress, stop=stop)
        for row in read_jsonl(part / _BAD_ROWS):
            bad.add(**row)
        parts.append(part)
        if stop and bad.count >= MAX_REPORTED:
            break
    if stop and bad.count:
        for part in parts:  # the files may be corrected where they are
            rmtree(part)
        raise UserError(str(bad))
    _join(parts, work.out, bad)
    return bad


def _make_part(
    part: Path,
    recipe: Recipe,
    file: RawFile,
    converts: Converts,
    known: Known,
    progress: Progress,
    *,
    stop: bool,
) -> None:
    """The tables of one raw file; with `stop` no more of it is read than tells the first bad rows."""
    unfinished = part.with_name(part.name + ".unfinished")
    rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    language = None if recipe.language == "mul" else recipe.language
    with (unfinished / _BAD_ROWS).open("w", encoding="utf-8") as log:
        bad = LoggedBadRows(log)
        with Sink(unfinished, known, bad, language) as sink:
            for located in read_items(recipe, file, converts, bad, progress.advance):
                sink.add(located)
                if stop and bad.count >= MAX_REPORTED:
                    break
    for path in unfinished.rglob("*"):
        sync(path)
    os.replace(unfinished, part)


def _join(parts: list[Path], out: Path, bad: BadRows) -> None:
    for name in TABLES:
        if name != GIVEN or any(num_rows(part / name) for part in parts):
            join([part / name for part in parts], out / name, schema_of(name))
    if bad.count:
        rows = "".join((part / _BAD_ROWS).read_text("utf-8") for part in parts)
        write_text(out / _BAD_ROWS, rows)


def _refuse_empty(out: Path, folder: Path) -> None:
    if not num_rows(out / QUERIES):
        raise UserError(f"{folder}: not one query in these files; look at the recipe's files and columns")
    if not any(pc.any(pc.greater(block["grade"], 0)).as_py() for block in blocks(out / QRELS, ["grade"])):
        raise UserError(
            f"{folder}: no query has a positive (a grade above 0); look at the recipe's columns and labels"
        )


STEP = Step(parameters=FetchOptions, run=_run, depends_on=_depends_on, inputs="none")
