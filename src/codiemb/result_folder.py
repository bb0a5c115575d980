"""What a folder of results holds: whose, and in which files. Without mteb, which takes seconds to import.

Ours is one `results.json`. mteb's are a file a task: beside each other (mteb 1.2), or in MODEL/REVISION/
(1.11 and newer, with model_meta.json), or one file of all tasks (`ModelResult.to_disk`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.errors import UserError
from codiemb.json_files import read_json

RESULTS_FILE = "results.json"  # run_eval.py writes it into its folder, run_train.py into evaluation/
RAN_FILE = "config_ran.yaml"  # of a training run
EXPERIMENTS = "experiments"  # mteb 2: results with other arguments of a model, below its revision
NOT_STATED = "not stated"
_NAMES = ("task_name", "mteb_dataset_name", "task_results")  # mteb from 1.11, before it, all tasks in one


class ResultFile(NamedTuple):
    """One file, read: large folders hold hundreds."""

    path: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class ResultFolder:
    """One model's results."""

    path: Path  # as given
    model: str
    ours: ResultFile | None = None  # our results.json
    files: tuple[ResultFile, ...] = ()  # mteb's
    revisions: tuple[str, ...] = ()  # of the model, by mteb's folders


def find_results(path: Path) -> ResultFolder:
    """Look for one model's results in a folder, or in a file, and open each file once.

    Raises:
        UserError: no such folder, no result in it, more than one model's, or a file that is not JSON.
    """
    if not path.exists():
        raise UserError(f"{path}: no such folder or file of results")
    ours = _our_file(path)
    if ours is not None:
        return ResultFolder(path, _our_model(ours), ours)
    identities: dict[tuple[str, str], list[ResultFile]] = {}
    for file in _result_files(path):
        identities.setdefault(_identity(file), []).append(file)
        _refuse_other_models(path, identities)
    if not identities:
        raise UserError(_nothing_in(path))
    files = sorted((file for group in identities.values() for file in group), key=lambda file: file.path)
    return ResultFolder(
        path, next(iter(identities))[0], None, tuple(files), tuple(sorted(r for _, r in identities))
    )


def _our_file(path: Path) -> ResultFile | None:
    if path.is_file():
        record = _record(path)
        return ResultFile(path, record) if "results" in record else None
    candidates = (path / RESULTS_FILE, path / "evaluation" / RESULTS_FILE)
    return next((ResultFile(file, _record(file)) for file in candidates if file.is_file()), None)


def _our_model(file: ResultFile) -> str:
    record = file.record
    if not isinstance(record.get("results"), list) or not isinstance(record.get("model"), str):
        raise UserError(f"{file.path} is no results.json of run_eval.py or run_train.py: evaluate again")
    return record["model"].removeprefix("codiemb/")


def _result_files(path: Path) -> Iterator[ResultFile]:
    """mteb's files below `path`; experiments only where `path` names one of them."""
    for file in [path] if path.is_file() else sorted(path.rglob("*.json")):
        inside = file.relative_to(path).parts[:-1] if file != path else ()
        if EXPERIMENTS in inside or file.name == "model_meta.json" or file.stem.endswith("_predictions"):
            continue
        record = _record(file)
        if any(name in record for name in _NAMES):
            yield ResultFile(file, record)


def _record(file: Path) -> dict[str, Any]:
    """The object in a file; a list is no result."""
    try:
        return read_json(file, {}, "copy it again, or take it out")
    except UserError as error:
        if "must hold" in str(error):
            return {}
        raise


def _identity(file: ResultFile) -> tuple[str, str]:
    """Name and revision of the model, as the file, the file beside it or the folders say."""
    record, folder = file.record, file.path.parent
    if "task_results" in record:
        return str(record.get("model_name")), str(record.get("model_revision"))
    meta = read_json(folder / "model_meta.json", {})
    experiment = f" ({folder.name})" if folder.parent.name == EXPERIMENTS else ""
    if isinstance(meta.get("name"), str):
        return meta["name"] + experiment, str(meta.get("revision") or NOT_STATED)
    if experiment:
        folder = folder.parent.parent
    if "__" not in folder.name and "__" in folder.parent.name:
        return folder.parent.name.replace("__", "/") + experiment, folder.name
    return (folder.name or str(folder)).replace("__", "/") + experiment, NOT_STATED


def _refuse_other_models(path: Path, identities: dict[tuple[str, str], list[ResultFile]]) -> None:
    models = list(dict.fromkeys(model for model, _ in identities))
    if len(models) > 1:
        raise UserError(
            f"{path} holds results of different models ({', '.join(models)}, perhaps more): "
            "give the folder of one"
        )


def _nothing_in(path: Path) -> str:
    ours = [] if path.is_file() else sorted(path.glob(f"*/{RESULTS_FILE}"))
    ours += [] if path.is_file() else sorted(path.glob(f"*/evaluation/{RESULTS_FILE}"))
    if ours:
        return f"{path} holds {len(ours)} runs with results: name one, as {ours[-1].parent}"
    return (
        f"{path}: no results in it; it takes the folder of a run with {RESULTS_FILE}, or one with "
        "mteb's result files (TASK.json)"
    )
