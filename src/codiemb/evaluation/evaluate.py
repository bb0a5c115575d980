"""Runs an encoder through mteb tasks, one after the other, and goes on when a dataset cannot be had."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import fmean
from typing import Any

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.results import TaskResult

from codiemb.evaluation.bm25 import TASK_TYPES, bm25_score
from codiemb.evaluation.builtin_tasks import LocalTask
from codiemb.evaluation.dataset_cache import Hub, has_candidates, revision_used, why_not_had
from codiemb.evaluation.instructions import Instructions, check_instructions
from codiemb.evaluation.isolation import preserve_random_state, quiet_mteb
from codiemb.evaluation.mteb_encoder import MtebEncoder
from codiemb.evaluation.protocol import TextEncoder
from codiemb.evaluation.results import Evaluation, MissingDataset, TaskScore
from codiemb.hub import is_unavailable

Report = Callable[[str], object]  # gets one line of text per event; the caller decides where it goes


class Evaluator:
    """Tasks with their instructions: built and checked once, then asked for every encoder and every look.

    Args:
        tasks: of mteb, or ours.
        instructions: by task name or task type.

    Raises:
        UserError: an instruction that could never match.
    """

    def __init__(self, tasks: Sequence[AbsTask], instructions: Instructions) -> None:
        check_instructions(instructions, tasks)
        self.tasks = tasks
        self.instructions = instructions

    def run(
        self,
        encoder: TextEncoder,
        *,
        model: str = "codiemb/encoder",
        model_revision: str = "unknown",
        bm25: bool = True,
        progress: bool = False,
        report: Report = lambda line: None,
    ) -> Evaluation:
        """Score `encoder`; a dataset that cannot be had is reported once and left out.

        `bm25` adds the lexical baseline to retrieval and reranking rows (minutes on the large CMTEB corpora).
        `progress` is passed to the encoder. Any error but a missing dataset propagates.
        """
        results: list[TaskScore] = []
        missing: list[MissingDataset] = []
        wrapped = MtebEncoder(
            encoder, self.instructions, name=model, revision=model_revision, progress=progress
        )
        with ExitStack() as stack:
            stack.enter_context(quiet_mteb())
            stack.enter_context(preserve_random_state())
            hub = Hub(stack, report)
            for number, task in enumerate(self.tasks, 1):
                place = f"[{number}/{len(self.tasks)}] {task.metadata.name}"
                if failure := _load(task, hub):
                    missing.append(failure)
                    report(f"{place}: left out, {failure.dataset} {failure.reason}")
                    continue
                try:
                    results.append(_score(wrapped, task, with_bm25=bm25))
                finally:
                    task.unload_data()
                report(f"{place}: {_line(results[-1])}")
        return Evaluation(model, model_revision, mteb.__version__, tuple(results), tuple(missing))

    def main_scores(self, encoder: TextEncoder) -> dict[str, float]:
        """`<dataset>/<metric>`: main score, as the loggers name it."""
        results = self.run(encoder, bm25=False).results
        return {f"{entry.task}/{entry.metric_name}": entry.score for entry in results}


def evaluate(
    encoder: TextEncoder,
    tasks: Sequence[AbsTask],
    instructions: Instructions,
    **options: Any,  # noqa: ANN401  those of Evaluator.run
) -> Evaluation:
    """`Evaluator(tasks, instructions).run(encoder, ...)`, for one encoder."""
    return Evaluator(tasks, instructions).run(encoder, **options)


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


def _score(encoder: MtebEncoder, task: AbsTask, *, with_bm25: bool) -> TaskScore:
    # a task's own generators move on with every use: without this, the second model gets other bootstraps
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)
    name, start = task.metadata.name, time.perf_counter()
    options: Any = {"batch_size": 1024, "show_progress_bar": False}
    outcome = mteb.evaluate(
        encoder, task, cache=None, co2_tracker=False, encode_kwargs=options, show_progress_bar=False
    )
    seconds = time.perf_counter() - start
    result = outcome.task_results[0]
    return TaskScore(
        task=name,
        type=task.metadata.type,
        metric=task.metadata.main_score,
        score=float(result.get_score()),
        seconds=round(seconds, 3),
        num_texts=encoder.num_texts.pop(name),
        prompts=encoder.prompts_used.pop(name),
        splits=tuple(result.scores),
        revision=revision_used(task),
        bm25=bm25_score(task) if with_bm25 and task.metadata.type in TASK_TYPES else None,
        metrics=_metrics(result),
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


def _line(result: TaskScore) -> str:
    baseline = "" if result.bm25 is None else f", BM25 {100 * result.bm25:.2f}"
    metric = result.metric_name
    return f"{metric} {100 * result.score:.2f}{baseline} ({result.seconds:.1f} s, {result.num_texts:,} texts)"
