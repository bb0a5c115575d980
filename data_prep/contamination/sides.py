"""The texts that evaluations score: of tasks in folders, of mteb's tasks and benchmarks, of a file."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from codiemb.errors import UserError
from codiemb.evaluation.benchmark import cmteb_tasks
from codiemb.evaluation.cmteb import BENCHMARK
from codiemb.evaluation.folder_tasks.open import folder_tasks
from codiemb.evaluation.folder_tasks.tasks import LocalTask
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.raw_files.problems import Problem
from codiemb.raw_files.rows import is_readable, read_rows
from data_prep.manifest import hash_file

Documents = Literal["paired", "all", "none"]
_NO_TEXTS = ("label", "labels", "score", "scores", "lang", "language", "task_type", "split")


class ScoredText(NamedTuple):
    """A text that is scored: of which task, on which side, under which id."""

    task: str
    side: str  # query, document, or text where a task has no sides
    id: str
    text: str


class Checked(NamedTuple):
    """A task, or a file, that a source is compared with.

    Attributes:
        name: of the task, or the file's.
        revision: what its texts are: a hash of the files, or mteb's revision of the data set.
        splits: that are scored; none of a file.
        opened: mteb's task, or the file.
    """

    name: str
    revision: str
    splits: Sequence[str]
    opened: AbsTask | Path


def find_checked(names: Sequence[str], split: str) -> list[Checked]:
    """What is named: a folder of tasks, a file, a task of mteb, a benchmark of mteb; each task once.

    Args:
        names: paths or names.
        split: the side of folders that have several.

    Raises:
        UserError: nothing is called so.
    """
    found: dict[str, Checked] = {}
    for name in names:
        for each in _find(name, split):
            other = found.get(each.name)
            if other is not None and other.revision != each.revision:  # dev and test of one task
                each = each._replace(name=f"{Path(name).name}/{each.name}")
            found.setdefault(each.name, each)
    return list(found.values())


def read_side(checked: Checked, documents: Documents) -> Iterator[ScoredText]:
    """The texts of a task: queries always; of documents those that answer a query, or as `documents` says.

    Raises:
        UserError: its data cannot be read, or mteb cannot load it.
    """
    if isinstance(checked.opened, Path):
        for number, text in _strings_of(checked.opened):
            yield ScoredText(checked.name, "text", str(number), text)
        return
    task = checked.opened
    data = _load(task)
    for split in checked.splits:
        for subset, rows in _subsets(data, split):
            where = "" if subset == "default" else f"{subset}:"
            if isinstance(task, AbsTaskRetrieval):
                yield from _retrieval(checked.name, where, rows, documents)
            else:
                yield from _rows(checked.name, where, rows)


def _find(name: str, split: str) -> list[Checked]:
    path = Path(name)
    if path.is_dir():
        return [_local(task) for task in folder_tasks(name, split)]
    if path.is_file():
        if not is_readable(path) and path.suffix != ".txt":
            raise UserError(
                f"against={name}: the name does not say what it is; .txt (a line a text), .jsonl, .csv ..."
            )
        return [Checked(path.name, hash_file(path), (), path)]
    if name.lower() in ("cmteb", BENCHMARK.lower()):
        return [_of_mteb(task) for task in cmteb_tasks()]
    with preserve_random_state():  # building an mteb task seeds the global generators
        try:
            return [_of_mteb(mteb.get_task(name))]
        except KeyError:
            pass
        try:
            return [_of_mteb(task) for task in mteb.get_benchmark(name).tasks]
        except KeyError:
            known = [
                *(each.metadata.name for each in mteb.get_tasks()),
                *(b.name for b in mteb.get_benchmarks()),
            ]
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "name a folder, a file, a task or a benchmark of mteb"
    raise UserError(f"against={name}: no such file or folder, and nothing in mteb has this name; {hint}")


def _local(task: LocalTask) -> Checked:
    return Checked(task.metadata.name, str(task.revision), (task.found.split,), task)


def _of_mteb(task: AbsTask) -> Checked:
    return Checked(task.metadata.name, str(task.metadata.revision), tuple(task.eval_splits), task)


def _load(task: AbsTask) -> Any:  # noqa: ANN401  each task type has its own layout
    try:
        task.load_data()
    except UserError:
        raise
    except Exception as error:  # the hub, its cache and the readers of datasets fail in any way
        first = str(error).partition("\n")[0]
        raise UserError(
            f"{task.metadata.name}: mteb cannot load its data ({first}); without a network name a "
            "folder that holds the task instead (docs/evaluation.md, Your own texts)"
        ) from error
    return task.dataset


def _subsets(data: Any, split: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Rows of a split: mteb has {split: rows}, or {subset: {split: rows}}."""
    if split in data:
        yield "default", data[split]
    else:
        yield from ((subset, splits[split]) for subset, splits in data.items() if split in splits)


def _retrieval(task: str, where: str, data: Any, documents: Documents) -> Iterator[ScoredText]:  # noqa: ANN401
    for row in data["queries"]:
        for text in _strings(row["text"]):
            yield ScoredText(task, "query", f"{where}{row['id']}", text)
    grades: Mapping[str, Mapping[str, int]] = data["relevant_docs"]
    paired = {name for of_query in grades.values() for name, grade in of_query.items() if grade > 0}
    for row in data["corpus"] if documents != "none" else ():
        if documents == "all" or row["id"] in paired:
            text = " ".join(filter(None, (row.get("title"), row["text"])))
            yield ScoredText(task, "document", f"{where}{row['id']}", text)


def _rows(task: str, where: str, rows: Any) -> Iterator[ScoredText]:  # noqa: ANN401
    for number, row in enumerate(rows):
        for text in _strings(row):
            yield ScoredText(task, "text", f"{where}{number + 1}", text)


def _strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Row numbers and texts of a file."""
    if path.suffix == ".txt":
        try:
            with path.open(encoding="utf-8") as file:
                yield from (
                    (number, line.strip()) for number, line in enumerate(file, start=1) if line.strip()
                )
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 ({error.reason}); convert it") from error
        return
    for number, row in read_rows([path]):
        if isinstance(row, Problem):
            raise UserError(f"{path}:{number}: {row}")
        yield from ((number, text) for text in _strings(row))


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401
    """All texts in a row, however deep; no ids, labels and scores."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if str(name) not in _NO_TEXTS and not str(name).lower().endswith("id"):
                yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
