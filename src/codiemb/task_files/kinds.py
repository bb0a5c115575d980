"""Which kind of task a folder is, told by its files and the columns in them, or by its task.yaml."""

from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from codiemb.data.source_file import name_problem
from codiemb.errors import UserError
from codiemb.raw_files.problems import Problem
from codiemb.raw_files.rows import kind_of, read_rows, table_head
from codiemb.task_files.described import FILE, read_description
from codiemb.task_files.found import (
    RECORDS,
    ROLES,
    USUAL,
    Found,
    Kind,
    listed,
    unreadable,
)
from codiemb.task_files.listing import Files, by_stem, matching
from codiemb.task_files.metrics import main_score
from codiemb.task_files.sides import SIDES, same_side

QRELS = "qrels"  # BEIR's folder of judgements, a file a split
_ACCEPTED = (
    "accepted are corpus, queries and qrels (with top_ranked: reranking); pairs with the columns sentence1, "
    "sentence2 and score or label; texts with text and label (train and test: classification); training "
    "records (task_type); each as .jsonl, .json, .csv, .tsv or .parquet, also with .gz and .zst"
)

Roles = dict[str, tuple[Path, ...]]


class Told(NamedTuple):
    """The kind of a folder, its files by role, and the side that they are."""

    kind: Kind
    files: Roles
    split: str


def find_task(folder: Path, name: str, split: str) -> Found:
    """The task that a folder is.

    Args:
        folder: with the files.
        name: of the task, unless its task.yaml has one.
        split: the side that is wanted, where there are several.

    Raises:
        UserError: the kind cannot be told, or a file is missing or there twice.
    """
    described = read_description(folder)
    named = {role: matching(folder, patterns) for role, patterns in described.files.items()}
    files = by_stem(folder, [path for paths in named.values() for path in paths])
    if described.name and (problem := name_problem(described.name)):
        raise UserError(f"{folder / FILE}: a task cannot be called {described.name!r}: {problem}")
    split = described.split or split
    told = _described(folder, described.kind, named, files, split) or _told(folder, files, split)
    try:
        return Found(
            name=described.name or name,
            kind=told.kind,
            folder=folder,
            files=told.files,
            split=told.split,
            columns=described.columns_by_role(told.kind),
            score_range=described.score_range,
            metric=main_score(told.kind, described.metric),
            instructions=described.instructions,
        )
    except ValueError as error:
        raise UserError(f"{folder / FILE}: {error}") from error


def _described(folder: Path, kind: Kind | Literal[""], named: Roles, files: Files, split: str) -> Told | None:
    """What task.yaml says of kind and files; None where it says nothing of either."""
    if not kind:
        return _by_roles(folder, named, split) if named else None
    if RECORDS in named or (kind in ("retrieval", "sts") and RECORDS in files):
        return Told(kind, {RECORDS: named.get(RECORDS) or tuple(files[RECORDS])}, split)
    return _of_kind(folder, kind, named, files, split)


def _by_roles(folder: Path, named: Roles, split: str) -> Told:
    """The kind of the files that task.yaml names."""
    if RECORDS in named:
        return Told(_kind_of_records(named[RECORDS][0]), {RECORDS: named[RECORDS]}, split)
    if set(named) == {"pairs"}:
        return Told(_kind_of_columns(folder, named["pairs"][0]), named, split)
    for kind in ("reranking", "retrieval", "classification", "clustering"):
        if set(named) == set(ROLES[kind]):
            return Told(kind, named, split)
    raise UserError(f"{folder / FILE}: files names {', '.join(named)}; say the kind as well: kind")


def _of_kind(folder: Path, kind: Kind, named: Roles, files: Files, split: str) -> Told:
    """All files of a kind: those that are named, the others by their usual names."""
    found, used = dict(named), split
    for role in ROLES[kind]:
        if role in found:
            continue
        if role == "qrels":
            used, found[role] = _qrels(folder, files, split)
        elif role in ("pairs", "texts", "test"):
            used, found[role] = _scored(folder, role, files, split)
        else:
            found[role] = _pieces(folder, role, files)
    return Told(kind, found, used)


def _told(folder: Path, files: Files, split: str) -> Told:
    """The kind by names of files, then by columns."""
    if files.keys() & {"corpus", "queries", "qrels"} or (folder / QRELS).is_dir():
        return _of_kind(folder, "reranking" if "top_ranked" in files else "retrieval", {}, files, split)
    sides = {side: names for names in SIDES for side in names if side in files}
    only_train = bool(sides) and not sides.keys() - {"train"}
    if not files:
        raise UserError(f"{folder}: the folder is empty or holds no data; {_ACCEPTED}")
    role = next((role for role in ("pairs", "texts", RECORDS) if role in files), "")
    if not role and not sides:
        return _one_kind(folder, files, split)
    if role and (scored := sides.keys() - {"train"}):
        raise _either(folder, [*files[role], *files[min(scored)]])
    used, paths = (split, tuple(files[role])) if role else _scored(folder, "", files, split)
    kind = _kind_of_columns(folder, paths[0])
    if kind == "clustering" and only_train:
        raise UserError(f"{paths[0]}: train without test: add the texts that are scored, as test.jsonl")
    if kind == "clustering" and "train" in sides:
        return Told("classification", {"train": tuple(files["train"]), "test": paths}, used)
    if _is_records(paths[0]):
        return Told(kind, {RECORDS: paths}, used)
    return Told(kind, {ROLES[kind][0]: paths}, used)


def _one_kind(folder: Path, files: Files, split: str) -> Told:
    """One file of any name, or several with training records."""
    paths = tuple(path for named in files.values() for path in named)
    if len(files) == 1:
        kind = _kind_of_columns(folder, paths[0])
        return Told(kind, {RECORDS if _is_records(paths[0]) else ROLES[kind][0]: paths}, split)
    if all(_is_records(path) for path in paths):
        return Told(_kind_of_records(paths[0]), {RECORDS: paths}, split)
    raise _cannot_tell(folder, f"its files ({listed([path.name for path in paths])})")


def _kind_of_columns(folder: Path, path: Path) -> Kind:
    columns = columns_of(path)

    def has(role: str, *names: str) -> bool:
        return all(set(USUAL[role][name].split("|")) & set(columns) for name in names)

    if "task_type" in columns:
        return _kind_of_records(path)
    if has("pairs", "sentence1", "sentence2"):
        if has("pairs", "label"):
            return "pair_classification"
        if has("pairs", "score"):
            return "sts"
    elif has("texts", "text", "label"):
        return "clustering"
    raise _cannot_tell(folder, f"the columns of {path.name} ({listed(columns)})")


def _kind_of_records(path: Path) -> Kind:
    """By the first record."""
    for number, row in read_rows([path], columns=["task_type"]):
        task = "" if isinstance(row, Problem) else row.get("task_type")
        if task not in ("ir", "sts"):
            raise UserError(
                f"{path}:{number}: task_type is {task!r}; records of ir and of sts can be scored, no others"
            )
        return "retrieval" if task == "ir" else "sts"
    raise UserError(f"{path}: the file is empty: it has no record; write it again")


def _is_records(path: Path) -> bool:
    return "task_type" in columns_of(path)


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns; of JSON lines those of the first row.

    Raises:
        UserError: the file cannot be read so far.
    """
    try:
        if kind_of(path) == "parquet":
            return list(pq.read_schema(path).names)
        if head := table_head(path):
            return head
        for number, row in read_rows([path]):
            if isinstance(row, Problem):
                raise UserError(f"{path}:{number}: {row}")
            return list(row)
    except pa.ArrowException as error:
        raise UserError(f"{path}: the Parquet file cannot be read ({error}); write it again") from error
    except OSError as error:
        raise unreadable(path, error) from error
    raise UserError(f"{path}: the file is empty: it has no row; write it again")


def _qrels(folder: Path, files: Files, split: str) -> tuple[str, tuple[Path, ...]]:
    """The judgements, and of which side they are: qrels/SPLIT.tsv, or qrels.jsonl, which is that of any."""
    inner = folder / QRELS
    if not inner.is_dir():
        return split, _pieces(folder, "qrels", files)
    if "qrels" in files:
        raise _either(folder, [*files["qrels"], inner])
    by_split = by_stem(inner)
    if not by_split:
        raise UserError(f"{inner}: no judgements here; add qrels/{split}.tsv (query-id, corpus-id, score)")
    return _side(inner, by_split, split)


def _scored(folder: Path, role: str, files: Files, split: str) -> tuple[str, tuple[Path, ...]]:
    """The file that is scored: of the role's own name, the only one, or that of the wanted side."""
    if role in files and role not in same_side("test"):
        return split, tuple(files[role])
    sides = {
        stem: paths for stem, paths in files.items() if stem in {name for names in SIDES for name in names}
    }
    others = {stem: paths for stem, paths in sides.items() if stem != "train"}
    if not sides and len(files) == 1:
        return split, tuple(next(iter(files.values())))
    if not sides:
        raise _cannot_tell(folder, f"its files ({listed(list(files))})")
    return _side(folder, others if others and split != "train" else sides, split)


def _side(folder: Path, files: Files, split: str) -> tuple[str, tuple[Path, ...]]:
    """The files of the wanted side; where there is one side, that one."""
    names = [name for name in (split, *same_side(split)) if name in files]
    if not names and len(files) > 1:
        raise UserError(
            f"{folder}: no {split} among {', '.join(sorted(files))}; choose one: task.split=SPLIT, "
            f"or split in {FILE}"
        )
    name = names[0] if names else next(iter(files))
    return name, tuple(files[name])


def _pieces(folder: Path, role: str, files: Files) -> tuple[Path, ...]:
    if role not in files:
        present = listed([path.name for paths in files.values() for path in paths])
        raise UserError(
            f"{folder}: {role} is missing ({role}.jsonl); there are {present or 'no files'}; add it, or name "
            f"it in {FILE}: files"
        )
    return tuple(files[role])


def _either(folder: Path, paths: list[Path]) -> UserError:
    return UserError(
        f"{folder}: {listed([path.name for path in paths])} may each be what is scored; keep one, or say "
        f"which in {FILE}: files"
    )


def _cannot_tell(folder: Path, by: str) -> UserError:
    return UserError(
        f"{folder}: what kind of task this is cannot be told by {by}; {_ACCEPTED}; or say it in "
        f"{folder / FILE}: kind, files, columns (docs/evaluation.md, Your own texts)"
    )
