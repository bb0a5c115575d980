"""A mixture that was counted: its sources, the epoch that a plan makes of them, and its numbers as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from codiemb.data import PlannedSource, TaskSpec
from codiemb.errors import UserError
from data_prep.statistics.counts import Counts, mean, quantile
from data_prep.statistics.planned import TrainingPlan


class CountedSource(NamedTuple):
    """A source of the mixture: what was counted, and what its folder says of it."""

    name: str
    task: str
    counts: Counts
    licence: str
    lineage: str


class Mixture(NamedTuple):
    """All sources, the unit of lengths, and the plan that they are counted for."""

    sources: Sequence[CountedSource]
    unit: str
    plan: TrainingPlan | None


def planned_epoch(sources: Sequence[CountedSource], plan: TrainingPlan) -> list[dict[str, Any]] | str:
    """Of each source: steps of an epoch and tokens of a step; or why the trainer would refuse."""
    planned = []
    for source in sources:
        spec: TaskSpec | None = plan.tasks.get(source.task)
        if spec is None:
            return f"source {source.name} holds task {source.task}: the plan has no tasks.{source.task}"
        planned.append(PlannedSource(source.name, source.task, source.counts.records, spec.global_batch_size))
    try:
        steps = plan.steps(planned)
    except UserError as error:
        return str(error)
    return [
        {
            "source": each.name,
            "steps": number,
            "global_batch_size": each.global_batch_size,
            "tokens_per_step": source.counts.epoch_tokens / each.num_examples * each.global_batch_size,
        }
        for each, source, number in zip(planned, sources, steps, strict=True)
    ]


def numbers(mixture: Mixture) -> dict[str, Any]:
    """What stats.json holds: the same numbers, by source."""
    return {
        "unit": mixture.unit,
        "sources": {source.name: _numbers(source) for source in mixture.sources},
        "plan": planned_epoch(mixture.sources, mixture.plan) if mixture.plan else None,
    }


def _numbers(source: CountedSource) -> Mapping[str, Any]:
    counts = source.counts
    return {
        "task": source.task,
        "licence": source.licence,
        "records": counts.records,
        "lengths": {
            side: {str(share): quantile(counter, share) for share in (0.5, 0.95, 0.99, 1.0)}
            | {"mean": mean(counter)}
            for side, counter in counts.lengths.items()
        },
        "documents": {kind: mean(counter) for kind, counter in counts.documents.items()},
        "languages": {side: dict(counter.most_common()) for side, counter in counts.languages.items()},
        "texts": {
            side: {"all": texts.added, "different": len(texts.values)} for side, texts in counts.texts.items()
        },
    }
