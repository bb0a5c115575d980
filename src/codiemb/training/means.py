"""Means of what a run measures between two lines of its loggers, kept on the device until a line is due."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from codiemb.distributed import gather_rows, rank, sum_over_ranks, world_size


class Means:
    """Every value added since the last line counts once, under its name; over all ranks.

    Adding waits for no device and asks no other rank: one collective and one copy to the host make a line.
    Values that are not finite are left out, so that a dropped step does not hide the others; where none is
    finite, the mean is NaN. All ranks must add the same names.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Float[Tensor, " 2"]] = {}  # of the finite values, and how many they are

    def add(self, name: str, value: Tensor | float) -> None:
        """Count one more value.

        Raises:
            ValueError: it is no scalar.
        """
        value = torch.as_tensor(value).detach()
        if value.numel() != 1:
            raise ValueError(f"{name}: only scalars can be logged, this has shape {list(value.shape)}")
        value = value.reshape(()).to(torch.promote_types(value.dtype, torch.float32))
        is_finite = value.isfinite()
        more = torch.stack([value.where(is_finite, 0), is_finite.to(value.dtype)])
        before = self._sums.get(name)
        self._sums[name] = more if before is None else before.to(more.device) + more

    def so_far(self) -> dict[str, float]:
        """The means of this rank; waits for the device."""
        return {name: float(total / number) for name, (total, number) in self._sums.items()}

    def take(self, device: torch.device) -> dict[str, Float[Tensor, ""]]:
        """The means over all ranks, of which the next line knows nothing. A collective."""
        names, sums_n2 = self._table(device)
        self._sums = {}
        total_n, number_n = sum_over_ranks(sums_n2).unbind(1)
        return dict(zip(names, total_n / number_n, strict=True))

    def state_dict(self, device: torch.device) -> dict[str, Any]:
        """What every rank has so far, apart: added up now, it would be rounded otherwise. A collective."""
        names, sums_n2 = self._table(device)
        return {"names": names, "sums_Wn2": gather_rows(sums_n2[None]).cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written; each of another number of ranks gets the mean of those."""
        sums_Wn2 = state["sums_Wn2"]
        sums_n2 = sums_Wn2[rank()] if len(sums_Wn2) == world_size() else sums_Wn2.mean(dim=0)
        self._sums = dict(zip(state["names"], sums_n2.unbind(0), strict=True))

    def _table(self, device: torch.device) -> tuple[list[str], Float[Tensor, "n 2"]]:
        names = sorted(self._sums)
        rows = [self._sums[name].to(device) for name in names]
        return names, torch.stack(rows) if rows else torch.zeros(0, 2, device=device)
