"""The training data as a map from micro-step to batch: what a DataLoader worker computes."""

from collections.abc import Sequence

from torch.utils.data import Dataset

from codiemb.batch import AnyBatch, Batch, LanguageBatch
from codiemb.data.collator import Collator
from codiemb.data.mined import MinedNegatives
from codiemb.data.plan import Plan, PlannedStep, micro_batch_size
from codiemb.data.source import Source


class PlannedBatches(Dataset[AnyBatch]):
    """`batches[micro_step]` is this rank's batch; a pure function of the plan, the rank and the step.

    Each global batch of the plan is shared out among `accumulation` micro-steps: rank r and micro-step a take
    the slice number (a * num_ranks + r).

    With `mined` it is one of the searches, too: an item waits for the one that its step comes after.

    Raises:
        UserError: a global batch size does not divide by ranks x accumulation.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        plan: Plan,
        collator: Collator,
        *,
        num_batches: int,
        rank: int = 0,
        num_ranks: int = 1,
        accumulation: int = 1,
        mined: MinedNegatives | None = None,
    ) -> None:
        self.sources = sources
        self.plan = plan
        self.collator = collator
        self.num_batches = num_batches
        self.rank = rank
        self.num_ranks = num_ranks
        self.accumulation = accumulation
        self.mined = mined
        self._sizes = [micro_batch_size(source, num_ranks, accumulation) for source in plan.sources]

    def __len__(self) -> int:
        return self.num_batches * self.accumulation

    def __getitem__(self, micro_step: int) -> AnyBatch:
        batch = self._batch(micro_step)
        if not isinstance(batch, LanguageBatch) or self.accumulation == 1:
            return batch
        # Cost: a micro-batch is tokenised `accumulation` times. The reason: every predicted token of the
        # global batch must weigh the same, and the first micro-batch cannot wait for the last one's count.
        first = micro_step - micro_step % self.accumulation
        others = [self._batch(i) for i in range(first, first + self.accumulation) if i != micro_step]
        counts = [len(other.target_P) for other in (batch, *others) if isinstance(other, LanguageBatch)]
        return batch._replace(mean_targets=sum(counts) / self.accumulation)

    def _batch(self, micro_step: int) -> AnyBatch:
        shard = self.shard(micro_step)
        source = self.sources[shard.source]
        examples = shard.indices.tolist()
        records = [source[i] for i in examples]
        if self.mined is not None:
            number = micro_step // self.accumulation
            records = self.mined.replaced(records, source=shard.source, indices=examples, batch=number)
        batch = self.collator(records, source=source.name, epoch=shard.epoch, indices=examples)
        if not isinstance(batch, Batch):
            return batch
        return batch._replace(groups=batch.groups._replace(in_batch=source.in_batch))

    def shard(self, micro_step: int) -> PlannedStep:
        """The plan of this rank's part of a global batch: its source, epoch and example numbers."""
        if not 0 <= micro_step < len(self):
            raise IndexError(micro_step)
        number, part = divmod(micro_step, self.accumulation)
        planned = self.plan[number]
        size = self._sizes[planned.source]
        start = (part * self.num_ranks + self.rank) * size
        return planned._replace(indices=planned.indices[start : start + size])
