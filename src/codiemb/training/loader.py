"""A loader of finished batches that starts at any step: its position is the trainer's."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from codiemb.batch import AnyBatch


class PlannedLoader(DataLoader[AnyBatch]):
    """Tells Lightning that it can start in mid-epoch. Its position is the trainer's step: it has no state."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the order is a function of the step."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The trainer's step says it all."""


class FromStep(Sampler[int]):
    """`start` up to the end of the run; counts as the whole run, as Lightning's progress does."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end

    def __iter__(self) -> Iterator[int]:
        yield from range(self.start, self.end)

    def __len__(self) -> int:
        return self.end


def as_it_is(batch: Any) -> Any:  # noqa: ANN401  the loader types it as a list
    """Without a collate function the loader would turn the batch's tuples into lists."""
    return batch
