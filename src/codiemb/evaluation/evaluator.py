"""Runs an encoder through mteb tasks, one after the other, and goes on when a dataset cannot be had."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.results import TaskResult

from codiemb.errors import UserError
from codiemb.evaluation.bm25 import TASK_TYPES, bm25_score
from codiemb.evaluation.dataset_cache import Hub, has_candidates, revision_used, why_not_had
from codiemb.evaluation.folder_tasks import LocalTask
from codiemb.evaluation.instructions import Instructions, check_instructions
from codiemb.evaluation.isolation import preserve_random_state, quiet_mteb
from codiemb.evaluation.kept import kept_results
from codiemb.evaluation.labels import labels_read_once
from codiemb.evaluation.mteb_encoder import MtebEncoder, as_mteb
from codiemb.evaluation.progress import EvaluationBar
from codiemb.evaluation.results import Evaluation, MissingDataset, Setup, TaskScore
from codiemb.evaluation.watch import keep_per_query, watch
from codiemb.hub import is_unavailable
from codiemb.text_encoder import TextEncoder, settings_of

Report = Callable[[str], object]  # gets one line of text per event; the caller decides where it goes


class Evaluator:
    """Tasks with their instructions: built and checked once, then asked for every encoder and every look.

    Args:
        tasks: of mteb, or ours.
        instructions: by task name or task type.

    Raises:
        UserError: an instruction that could never match, or a task twice: a mean would count it twice.
    """

    def __init__(self, tasks: Sequence[AbsTask], instructions: Instructions) -> None:
        check_instructions(instructions, tasks)
        names = Counter(task.metadata.name for task in tasks)
        if twice := [name for name, count in names.items() if count > 1]:
            raise UserError(f"task.tasks names {', '.join(twice)} twice: name each task once")
        self.tasks = tasks
        self.instructions = instructions

    def run(
        self,
        encoder: TextEncoder,
        *,
        model: str = "codiemb/encoder",
        seed: int | None = None,
        bm25: bool = True,
        progress: bool = False,
        report: Report = lambda line: None,
        earlier: Evaluation | None = None,
        save: Callable[[Evaluation], object] = lambda so_far: None,
        per_query: Path | None = None,
    ) -> Evaluation:
        """Score `encoder`; a dataset that cannot be had is reported once, other errors propagate.

        Args:
            encoder: any; what it states of itself (`Stated`) is recorded.
            model: its name in tables.
            seed: of the run, for the record.
            bm25: add the lexical baseline to retrieval and reranking rows (minutes on CMTEB's large corpora).
            progress: show one bar for all tasks, on a terminal.
            report: hears a line per task.
            earlier: of a run that was stopped: what still holds is kept (kept_results).
            save: gets all results so far after every task, with the tasks still `pending`.
            per_query: a folder for the score of every query (`watch`).
        """
        setup = Setup.now(settings_of(encoder), seed)
        revision = str(setup.settings.get("weights", "unknown"))
        wrapped = as_mteb(encoder, self.instructions, name=model, revision=revision)
        wrapped.max_characters = setup.settings.get("max_characters")
        done: dict[str, TaskScore | MissingDataset] = {}

        def so_far() -> Evaluation:
            return _evaluation(model, revision, setup, self._names, done)

        with ExitStack() as stack:
            hub = stack.enter_context(_quiet(report))
            if earlier is not None:
                if not all(isinstance(task, LocalTask) for task in self.tasks):
                    hub.check()  # offline, the data is what the cache has
                done |= kept_results(earlier, setup, self.tasks, wrapped, with_bm25=bm25, report=report)
            waiting = [task for task in self.tasks if task.metadata.name not in done]
            bar = stack.enter_context(EvaluationBar(waiting, shown=progress))
            wrapped.advance = bar.advance
            for task in waiting:
                bar.begin(place := self._place(task))
                outcome = _outcome(wrapped, task, hub, with_bm25=bm25, per_query=per_query)
                done[task.metadata.name] = outcome
                save(so_far())  # before it is said: what has been said is not lost
                bar.end(task.metadata.name)
                bar.say(report, f"{place}: {_line(outcome)}")
        return so_far()

    def _place(self, task: AbsTask) -> str:
        return f"[{self.tasks.index(task) + 1}/{len(self.tasks)}] {task.metadata.name}"

    @property
    def _names(self) -> list[str]:
        return [task.metadata.name for task in self.tasks]

    def main_scores(self, encoder: TextEncoder) -> dict[str, float]:
        """`<dataset>/<metric>`: main score, as the loggers name it; of the tasks that have one."""
        scores = [outcome for outcome in self._outcomes(encoder) if isinstance(outcome, TaskScore)]
        return {f"{entry.task}/{entry.metric_name}": entry.score for entry in scores}

    def scores(self, encoder: TextEncoder) -> dict[str, float]:
        """Main score by task, for a choice between many encoders: nothing is kept, no weights are hashed.

        Raises:
            UserError: a task has none: a choice by part of the tasks would be another choice.
        """
        scores: dict[str, float] = {}
        for outcome in self._outcomes(encoder):
            if isinstance(outcome, MissingDataset):
                raise UserError(
                    f"nothing can be chosen by {outcome.task}: {outcome.dataset} {outcome.reason}"
                )
            scores[outcome.task] = outcome.score
        return scores

    def _outcomes(self, encoder: TextEncoder) -> list[TaskScore | MissingDataset]:
        wrapped = as_mteb(encoder, self.instructions)
        with _quiet(lambda line: None) as hub:
            return [_outcome(wrapped, task, hub, with_bm25=False) for task in self.tasks]


def evaluate(
    encoder: TextEncoder,
    tasks: Sequence[AbsTask],
    instructions: Instructions,
    **options: Any,  # noqa: ANN401  those of Evaluator.run
) -> Evaluation:
    """`Evaluator(tasks, instructions).run(encoder, ...)`, for one encoder."""
    return Evaluator(tasks, instructions).run(encoder, **options)


@contextmanager
def _quiet(report: Report) -> Iterator[Hub]:
    """Silent libraries, the caller's random state as it was, and the hub, asked when a task needs it."""
    with ExitStack() as stack:
        stack.enter_context(quiet_mteb())
        stack.enter_context(preserve_random_state())
        yield Hub(stack, report)


def _evaluation(
    model: str, revision: str, setup: Setup, names: Sequence[str], done: Mapping[str, object]
) -> Evaluation:
    """What is done, in the order asked for."""
    outcomes = [done[name] for name in names if name in done]
    return Evaluation(
        model=model,
        model_revision=revision,
        mteb_version=mteb.__version__,
        results=tuple(outcome for outcome in outcomes if isinstance(outcome, TaskScore)),
        missing=tuple(outcome for outcome in outcomes if isinstance(outcome, MissingDataset)),
        setup=setup,
        pending=tuple(name for name in names if name not in done),
    )


def _outcome(
    encoder: MtebEncoder, task: AbsTask, hub: Hub, *, with_bm25: bool, per_query: Path | None = None
) -> TaskScore | MissingDataset:
    if missing := _load(task, hub):
        return missing
    try:
        scored = _score(encoder, task, with_bm25=with_bm25, per_query=per_query)
    finally:
        task.unload_data()
    if isfinite(scored.score):
        return scored
    return MissingDataset(
        task.metadata.name,
        task.metadata.dataset["path"],
        f"gives no score: {scored.metric_name} is not defined, as where all texts have the same embedding",
    )


def _load(task: AbsTask, hub: Hub) -> MissingDataset | None:
    """Load a task's data; says what is missing if it cannot be had."""
    if isinstance(task, LocalTask):
        task.load_data()
        return None
    hub.check()
    try:
        task.load_data()
    except Exception as error:
        if not is_unavailable(error):
            raise
        hub.check(again=True)
        reason = "is not in the local cache" if hub.is_offline else why_not_had(error)
    else:
        if has_candidates(task):
            return None
        task.unload_data()
        reason = "is in the local cache without its candidates"
    return MissingDataset(task.metadata.name, task.metadata.dataset["path"], reason)


def _score(encoder: MtebEncoder, task: AbsTask, *, with_bm25: bool, per_query: Path | None) -> TaskScore:
    # a task's own generators move on with every use: without this, the second model gets other bootstraps
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    name, start = task.metadata.name, time.perf_counter()
    options: Any = {"batch_size": 1024, "show_progress_bar": False}
    with watch(task, wanted=per_query is not None) as watched, labels_read_once(task):
        outcome = mteb.evaluate(
            encoder,
            task,
            cache=None,
            co2_tracker=False,
            encode_kwargs=options,
            prediction_folder=watched.folder,
            show_progress_bar=False,
        )
    seconds = time.perf_counter() - start
    result = outcome.task_results[0]
    if per_query is not None:
        keep_per_query(task, watched, float(result.get_score()), revision_used(task), per_query)
    return TaskScore(
        task=name,
        type=task.metadata.type,
        metric=task.metadata.main_score,
        score=float(result.get_score()),
        seconds=round(seconds, 3),
        num_texts=encoder.num_texts.pop(name),
        prompts=encoder.prompts_used.pop(name),
        prefix=encoder.prefixes.pop(name),
        splits=tuple(result.scores),
        revision=revision_used(task),
        bm25=bm25_score(task) if with_bm25 and task.metadata.type in TASK_TYPES else None,
        metrics=_metrics(result),
        num_cut=encoder.num_cut.pop(name, None),
    )


def _metrics(result: TaskResult) -> dict[str, float]:
    """mteb's numbers, averaged over splits and subsets as the main score is; without its 90 nAUC values."""
    values: dict[str, list[float]] = {}
    for rows in result.scores.values():
        for row in rows:
            for name, value in row.items():
                if isinstance(value, int | float) and not name.startswith("nauc"):
                    values.setdefault(name, []).append(float(value))
    return {name: fmean(numbers) for name, numbers in sorted(values.items()) if name != "main_score"}


def _line(result: TaskScore | MissingDataset) -> str:
    if isinstance(result, MissingDataset):
        return f"left out, {result.dataset} {result.reason}"
    baseline = "" if result.bm25 is None else f", BM25 {100 * result.bm25:.2f}"
    metric = result.metric_name
    return f"{metric} {100 * result.score:.2f}{baseline} ({result.seconds:.1f} s, {result.num_texts:,} texts)"
