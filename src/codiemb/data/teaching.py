"""Batches whose loss can only be 0, or a constant, found from counts before training begins."""

import logging
from collections.abc import Mapping, Sequence

from codiemb.batch import LanguageBatch
from codiemb.data.collator import Collator, content_hash
from codiemb.data.plan import Plan, micro_batch_size
from codiemb.data.records import GRADED_TASKS, MIXED_TASKS, RAW_TASKS
from codiemb.data.source import Source
from codiemb.data.task_spec import TaskSpec
from codiemb.errors import UserError

IN_BATCH_TASKS = frozenset({"ir"}) | MIXED_TASKS  # that compare with documents of other queries
_NUM_LOOKED_AT = 64

log = logging.getLogger(__name__)


def check_teaches(
    sources: Sequence[Source], plan: Plan, tasks: Mapping[str, TaskSpec], num_ranks: int, accumulation: int
) -> None:
    """Every source can give its loss something to compare.

    What is compared are the queries of one forward pass of all ranks: accumulated micro-batches do not see
    each other.

    Raises:
        UserError: a source of which no batch teaches anything, with the numbers; or a global batch size does
            not divide by ranks x accumulation.
    """
    for source, planned in zip(sources, plan.sources, strict=True):
        spec = tasks[source.task]
        together = micro_batch_size(planned, num_ranks, accumulation) * num_ranks
        parts = (
            f"source {source.name}: {together} {'query' if together == 1 else 'queries'} in one forward pass "
            f"(tasks.{source.task}.global_batch_size={planned.global_batch_size} / "
            f"trainer.accumulate_grad_batches={accumulation})"
        )
        if not source.in_batch and source.task not in IN_BATCH_TASKS:
            raise UserError(
                f"source {source.name} has in_batch: false, and no negatives of its own that its task "
                f"{source.task!r} would compare with (tasks.{source.task}); leave out in_batch: false"
            )
        if source.task in GRADED_TASKS:
            _check_graded(source, spec, together, parts)
        elif source.task not in RAW_TASKS:
            _check_contrast(source, spec, together, parts)


def check_predictable(source: Source, collator: Collator) -> None:
    """A source of raw text has a token to predict. Looks at records up to the first that has one.

    Raises:
        UserError: none has.
    """
    if source.task not in RAW_TASKS:
        return
    for index in range(len(source)):
        batch = collator([source[index]], source=source.name, epoch=0, indices=[index])
        if isinstance(batch, LanguageBatch) and len(batch.target_P):
            return
    raise UserError(
        f"none of its {len(source):,} texts has a token to predict: each is one token, or two; give it "
        f"longer texts, or raise tasks.{source.task}.max_document_tokens"
    )


def _check_contrast(source: Source, spec: TaskSpec, together: int, parts: str) -> None:
    """Contrastive losses need a negative: of the record, or the documents of other queries."""
    if together > 1 and source.in_batch:
        if source.task not in MIXED_TASKS:  # whose graded records have a loss of their own
            _check_distinct(source)
        return
    with_negatives = 0 if spec.num_negatives == 0 else source.about["with_negatives"]
    if source.task in MIXED_TASKS and source.about["scores"] and source.about["most_documents"] > 1:
        return  # its graded records are lists of their own
    if not source.in_batch:
        parts = f"source {source.name} has in_batch: false"
    why = f"(tasks.{source.task}.num_negatives=0)" if spec.num_negatives == 0 else "have any in the file"
    remedy = "Give the records negatives" + (
        ", or a larger batch" if source.in_batch else ", or leave out in_batch: false"
    )
    if with_negatives == 0:
        raise UserError(
            f"{parts}, and no negatives of its {len(source):,} records are taken {why}: there would be "
            f"nothing to tell a positive from, and the loss 0. {remedy}"
        )
    if missing := len(source) - with_negatives:
        log.warning(
            "%s, and %s of its %s records have no negatives: they teach nothing. %s",
            parts, f"{missing:,}", f"{len(source):,}", remedy,
        )  # fmt: skip


def _check_distinct(source: Source) -> None:
    """Equal texts are no negatives of each other. Looks at up to 64 records from all over the file."""
    records = [source[i] for i in range(0, len(source), max(1, len(source) // _NUM_LOOKED_AT))]
    documents = {content_hash(text) for record in records for _, text in record.positives + record.negatives}
    if len(records) > 1 and len(documents) == 1:
        raise UserError(
            f"source {source.name}: all {len(records)} records looked at have one and the same document, "
            f"{records[0].positives[0].text!r:.60}: no query has a negative, and the loss would be 0"
        )


def _check_graded(source: Source, spec: TaskSpec, together: int, parts: str) -> None:
    """List losses need two scored documents, and two different scores."""
    limits = (spec.num_positives, spec.num_negatives)
    most = source.about["most_documents"]
    if None not in limits:
        most = min(most, sum(limit for limit in limits if limit is not None))
    if together * most < 2:
        raise UserError(
            f"{parts}, each with {most} scored document: a list of one, whose loss is constant. Give it a "
            "larger batch"
        )
    low, high = source.about["scores"]
    if low == high:
        log.warning(
            "source %s: all scores of its %s records are equal (%g of [0, 1]): losses on their order teach "
            "nothing",
            source.name, f"{len(source):,}", low,
        )  # fmt: skip
