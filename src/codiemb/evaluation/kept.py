"""Which results of a run that was stopped still hold: same weights, settings, prompts, data and versions."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import get_args

from mteb.abstasks import AbsTask

from codiemb.differences import differences
from codiemb.evaluation.bm25 import TASK_TYPES
from codiemb.evaluation.dataset_cache import revision_used
from codiemb.evaluation.mteb_encoder import MtebEncoder
from codiemb.evaluation.results import Evaluation, Setup, TaskScore
from codiemb.text_encoder import Side, prefix_of


def kept_results(
    earlier: Evaluation,
    setup: Setup,
    tasks: Sequence[AbsTask],
    encoder: MtebEncoder,
    *,
    with_bm25: bool,
    report: Callable[[str], object],
) -> dict[str, TaskScore]:
    """By task, the results that the same run would give again; `report` hears why others are made anew."""
    if reason := _other_setup(earlier.setup, setup):
        if earlier.results:
            report(f"the {len(earlier.results)} results that are there are made again: {reason}")
        return {}
    there = {result.task: result for result in earlier.results}
    kept: dict[str, TaskScore] = {}
    for task in tasks:
        name = task.metadata.name
        if (result := there.get(name)) is None:
            continue
        if reason := _other_task(result, task, encoder, with_bm25=with_bm25):
            report(f"{name} is run again: {reason}")
        else:
            kept[name] = result if with_bm25 else replace(result, bm25=None)
    if kept:
        report(f"kept: {', '.join(f'{name} {100 * result.score:.2f}' for name, result in kept.items())}")
    return kept


def _other_setup(there: Setup, here: Setup) -> str:
    """What differs, or ""."""
    if not here.settings:
        return "this encoder does not state its settings"
    return _changes(asdict(there), asdict(here))


def _other_task(result: TaskScore, task: AbsTask, encoder: MtebEncoder, *, with_bm25: bool) -> str:
    """What differs, or ""."""
    sides = [side for side in get_args(Side) if side in result.prompts]
    prompts = {side: encoder.instruction(task.metadata, side) for side in sides}
    then = {
        "prompts": result.prompts,
        "prefix": result.prefix,
        "revision": result.revision,
        "splits": sorted(result.splits),
        "metric": result.metric,
    }
    now = {
        "prompts": prompts,
        "prefix": {side: prefix_of(encoder.encoder, text, side) for side, text in prompts.items()},
        "revision": revision_used(task),
        "splits": sorted(task.eval_splits),
        "metric": task.metadata.main_score,
    }
    if with_bm25 and result.bm25 is None and result.type in TASK_TYPES:
        return "it has no BM25 score"
    return _changes(then, now)


def _changes(there: dict[str, object], here: dict[str, object]) -> str:
    changed = differences(there, here)
    return "; ".join(f"{key} was {old}, is {new}" for key, (old, new) in changed.items())
