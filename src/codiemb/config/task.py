"""From the `task` group to an evaluation: which tasks, with which instructions, and how they are shown.

mteb takes seconds to import and touches the random state: `build_evaluator` imports it, before any seeding,
and only runs that evaluate pay for it. Hence the imports inside functions.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from codiemb.atomic import write_text
from codiemb.config.eval_checks import refuse_to_overwrite
from codiemb.config.folder_task import folder_dev_task, folder_evaluator
from codiemb.config.schema import EvaluateConfig, EvaluationTaskConfig
from codiemb.config.task_check import LOCAL_SETS, check_task
from codiemb.errors import UserError
from codiemb.stop import at_once
from codiemb.tables import Sheet
from codiemb.text_encoder import Side, TextEncoder

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger("codiemb")

UNTRAINED_FILE = "untrained.json"  # in an export: the scores of the model before training
Report = Callable[[str], object]  # gets one line of text per event


class Evaluations(NamedTuple):
    """What a training run evaluates on: before and after it, while it goes on, and to choose at its end.

    None where it does not.
    """

    task: "Evaluator | None"
    dev: "Evaluator | None"
    choice: "Evaluator | None" = None


def build_evaluator(task: EvaluationTaskConfig) -> "Evaluator":
    """The tasks of the set with their instructions, checked.

    Raises:
        UserError: unknown task set, split, task or instruction, or builtin data that is not there.
    """
    check_task(task)
    with at_once.importing():  # mteb
        from codiemb.evaluation import Evaluator
    if task.name == "folder":
        return folder_evaluator(task)
    tasks = evaluation_tasks(task)
    return Evaluator(tasks, _instructions(task, tasks))


def build_evaluations(task: EvaluationTaskConfig, when: EvaluateConfig) -> Evaluations:
    """Every evaluation that a training run will do.

    Raises:
        UserError: as `build_evaluator`; a name in `evaluate.dev_tasks` that is no builtin task; or names
            there, and no time to evaluate them.
    """
    final = build_evaluator(task) if when.before or when.after else None
    if when.every_n_steps is None:
        if when.dev_tasks != EvaluateConfig().dev_tasks:
            raise UserError(
                "evaluate.dev_tasks is set, and nothing asks for them: set evaluate.every_n_steps"
            )
        return Evaluations(final, None)
    try:
        dev = build_evaluator(dev_task(task, when.dev_tasks))
    except UserError as error:
        raise UserError(str(error).replace("task.tasks", "evaluate.dev_tasks", 1)) from error
    warn_of_same_texts(final, dev)
    return Evaluations(final, dev)


def warn_of_same_texts(final: "Evaluator | None", dev: "Evaluator") -> None:
    """Say which tasks are chosen by and reported on the same texts: their scores are too good."""
    reported = {_data_of(task) for task in final.tasks} if final is not None else set()
    if same := [task.metadata.name for task in dev.tasks if _data_of(task) in reported]:
        log.warning(
            "%s: its dev side is what is reported at the end, too: a choice by it makes the final score too "
            "good; give it a file for each side (dev, test)",
            ", ".join(same),
        )


def _data_of(task: "AbsTask") -> tuple[str, str]:
    """Name, and for local data the hash of its files."""
    return task.metadata.name, str(getattr(task, "revision", task.eval_splits))


def evaluation_tasks(task: EvaluationTaskConfig) -> "list[AbsTask]":
    """The mteb tasks of the set, or those of `task.tasks` in it.

    Raises:
        UserError: a name in `task.tasks` that the set does not have.
    """
    from mteb import get_tasks

    if task.name == "mteb":
        try:
            return list(get_tasks(tasks=task.tasks))
        except KeyError as error:
            raise UserError(f"task.tasks: {error.args[0]}") from error
    tasks = _whole_set(task)
    if not task.tasks:
        return tasks
    by_name = {entry.metadata.name: entry for entry in tasks}
    known = by_name | _twins(task, by_name)
    unknown = [name for name in task.tasks if name not in known]
    if unknown:
        raise UserError(
            f"task.tasks: no {', '.join(unknown)} in task={task.name}; it has {', '.join(by_name)}"
        )
    return [known[name] for name in task.tasks]


def _whole_set(task: EvaluationTaskConfig) -> "list[AbsTask]":
    from codiemb.evaluation import builtin_tasks, cmteb_tasks, nano_tasks

    if task.name == "cmteb":
        return cmteb_tasks()
    make = nano_tasks if task.name == "nano" else builtin_tasks
    return make(Path(task.data), task.split)


def _twins(task: EvaluationTaskConfig, by_name: "dict[str, AbsTask]") -> "dict[str, AbsTask]":
    """Further names: with task=nano those of the whole tasks mean the small ones; builtin has both."""
    from codiemb.evaluation import nano_tasks
    from codiemb.evaluation.nano import full_name

    if task.name == "nano":
        return {full_name(name): entry for name, entry in by_name.items()}
    if task.name != "builtin" or by_name.keys() >= set(task.tasks):
        return {}
    return {entry.metadata.name: entry for entry in nano_tasks(Path(task.data), task.split)}


def _instructions(task: EvaluationTaskConfig, tasks: "list[AbsTask]") -> dict[str, Any]:
    """A small task has the instruction of the whole one."""
    from codiemb.evaluation.nano import full_name

    given = task.instructions
    names = [entry.metadata.name for entry in tasks]
    return {name: given[whole] for name in names if (whole := full_name(name)) in given} | given


def run_evaluation(
    evaluator: "Evaluator",
    encoder: TextEncoder,
    model: str,
    *,
    report: Report,
    bm25: bool,
    seed: int,
    file: Path | None = None,
    earlier: "Evaluation | None" = None,
    per_query: Path | None = None,
) -> "Evaluation":
    """Evaluate an encoder as the scripts do: under our name, with progress.

    Args:
        evaluator: the tasks.
        encoder: what is scored.
        model: its name in tables.
        report: hears a line per task.
        bm25: add the baseline.
        seed: of the run, for the record.
        file: gets the results so far after every task.
        earlier: of a run that was stopped.
        per_query: folder for the score of every query.
    """

    def save(so_far: "Evaluation") -> None:
        if file is not None:
            write_text(file, so_far.to_json())

    return evaluator.run(
        encoder,
        model=f"codiemb/{model}",
        seed=seed,
        bm25=bm25,
        progress=True,
        report=report,
        earlier=earlier,
        save=save,
        per_query=per_query,
    )


def per_query_folder(task: EvaluationTaskConfig, results: Path) -> Path | None:
    """Where the score of every query goes, beside a file of results; None where it is not wanted."""
    from codiemb.evaluation.per_query import PER_QUERY

    return results.with_name(PER_QUERY) if task.per_query else None


def earlier_results(file: Path, evaluator: "Evaluator", *, resume: bool) -> "Evaluation | None":
    """What a run that was stopped has left in its folder.

    Raises:
        UserError: it cannot be read, it has results of tasks that are not asked for, or it would be lost
            because `resume` is off.
    """
    from codiemb.evaluation import Evaluation

    if not file.is_file():
        return None
    refuse_to_overwrite(file, resume=resume)
    earlier = Evaluation.load(file)
    asked = {task.metadata.name for task in evaluator.tasks}
    if others := [name for name in earlier.scores if name not in asked]:
        raise UserError(
            f"{file} holds results of {', '.join(others)}, which this command does not ask for: ask for the "
            "same tasks, or choose another hydra.run.dir"
        )
    return earlier


def prompts_by_task(evaluations: Evaluations) -> dict[str, tuple[str, Side]]:
    """Instruction and side by mteb's names, of the tasks that a run scores; empty where it scores on none."""
    if evaluations.task is None:
        return {}
    from codiemb.evaluation import mteb_prompts

    return mteb_prompts(evaluations.task.instructions, evaluations.task.tasks)


def dev_task(task: EvaluationTaskConfig, names: list[str]) -> EvaluationTaskConfig:
    """Builtin tasks (with task=nano the small ones) on their dev side, with the instructions of `task`."""
    if task.name == "folder":
        return folder_dev_task(task, names)
    data = task.data if task.name in LOCAL_SETS else EvaluationTaskConfig.data
    name = task.name if task.name in LOCAL_SETS else "builtin"
    return EvaluationTaskConfig(name, data, "dev", names, task.instructions, baseline=False)


def results_to_go_on_from(file: Path, evaluator: "Evaluator", report: Report) -> "Evaluation | None":
    """What an evaluation within a training run has left; None, with a report, where that is of no use."""
    try:
        return earlier_results(file, evaluator, resume=True)
    except UserError:  # cut, or another version's
        report(f"{file} is damaged: evaluating again")
        return None


def evaluate_before(
    evaluator: "Evaluator", encoder: TextEncoder, model: str, folder: Path, *, seed: int, report: Report
) -> "Evaluation":
    """The scores before training, kept in `folder` task by task: a run that goes on need not repeat them."""
    file = folder / "before.json"
    earlier = results_to_go_on_from(file, evaluator, report)
    if earlier is not None and not earlier.pending:
        return earlier
    report("evaluating before training")
    before = run_evaluation(
        evaluator, encoder, model, report=report, bm25=False, seed=seed, file=file, earlier=earlier
    )
    write_text(file, before.to_json())
    return before


def console() -> Console:
    """A console as wide as the terminal, or as our widest table where the output is not one (a log file)."""
    return Console(width=None if sys.stdout.isatty() else 100)


def untrained(path: str | None) -> "Evaluation | None":
    """The scores before training that an export of ours carries, for the column beside the present ones."""
    from codiemb.evaluation import Evaluation

    file = Path(path or "") / UNTRAINED_FILE
    return Evaluation.load(file) if file.is_file() else None


def show_and_save(
    task: EvaluationTaskConfig,
    folder: Path,
    result: "Evaluation",
    before: "Evaluation | None" = None,
    trained: "Evaluation | None" = None,
) -> list[Sheet]:
    """Save the results; return what to print: the tasks and, for CMTEB, the means beside published rows."""
    from codiemb.evaluation import cmteb_table, results_sheet, save

    extra = []
    if task.name == "cmteb" and not task.tasks:
        extra.append(cmteb_table(result.scores).sheet(result.model))
    save(result, folder, before=before, trained=trained, sheets=extra)
    return [results_sheet(result, before, trained), *extra]
