"""The documents with the highest rounded scores, kept while blocks of scores go by."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor


class Shortlist:
    """The best so far of a block of queries, in no order.

    Args:
        rows: queries.
        size: how many documents of each are kept.
        dtype: of the scores, float32 or bfloat16.
        device: of the scores.
    """

    def __init__(self, rows: int, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self.score_bs = torch.full((rows, size), -torch.inf, dtype=dtype, device=device)
        self.document_bs = torch.zeros((rows, size), dtype=torch.int64, device=device)

    def content(self) -> tuple[Float32[np.ndarray, "b s"], Int64[np.ndarray, "b s"]]:
        """Scores and documents."""
        return self.score_bs.float().cpu().numpy(), self.document_bs.cpu().numpy()

    def add(self, score_bn: Float[Tensor, "b n"], start: int) -> None:
        """Take what is better than the worst so far, of the documents from `start` on."""
        floor_b = self.score_bs.amin(dim=1).float()
        if start == 0:
            floor_b = torch.maximum(floor_b, _first_floor(score_bn, self.size))
        flat_h = _above(score_bn, floor_b)
        row_h = flat_h // score_bn.shape[1]
        count_b = torch.bincount(row_h, minlength=len(score_bn))
        widest = int(count_b.max())
        if widest > 4 * self.size:  # as where the corpus is sorted: no table as wide as the block
            score_bw, column_bw = score_bn.topk(min(self.size, score_bn.shape[1]), dim=1, sorted=False)
        else:
            place_h = torch.arange(len(flat_h), device=flat_h.device) - (count_b.cumsum(0) - count_b)[row_h]
            score_bw = score_bn.new_full((len(score_bn), widest), -torch.inf)
            column_bw = torch.zeros((len(score_bn), widest), dtype=torch.int64, device=flat_h.device)
            score_bw[row_h, place_h] = score_bn.reshape(-1)[flat_h]
            column_bw[row_h, place_h] = flat_h % score_bn.shape[1]
        self._merge(score_bw, column_bw + start)

    def _merge(self, score_bw: Float[Tensor, "b w"], document_bw: Int64[Tensor, "b w"]) -> None:
        score = torch.cat([self.score_bs, score_bw], dim=1)
        self.score_bs, best_bs = score.topk(self.size, dim=1, sorted=False)
        self.document_bs = torch.cat([self.document_bs, document_bw], dim=1).gather(1, best_bs)


def _first_floor(score_bn: Float[Tensor, "b n"], size: int) -> Float32[Tensor, " b"]:
    """A score that at least `size` documents of a block exceed: no search among all of them for it.

    16 columns make a group, and each group has its best one: `size` of the groups reach the floor.
    """
    groups = score_bn.shape[1] // 16
    if groups < size:
        return torch.full((len(score_bn),), -torch.inf, device=score_bn.device)
    best_bg = score_bn[:, : 16 * groups].view(len(score_bn), 16, groups).amax(dim=1).float()
    floor_b = best_bg.kthvalue(groups - size + 1, dim=1).values
    return torch.nextafter(floor_b, torch.tensor(-torch.inf, device=floor_b.device))


def _above(score_bn: Float[Tensor, "b n"], floor_b: Float32[Tensor, " b"]) -> Int64[Tensor, " h"]:
    """Flat places of the scores above their row's floor, ascending.

    On CPU numpy compares in a third to an eighth, and finds what is true in a tenth, of torch's time.
    """
    if score_bn.device.type != "cpu":
        return (score_bn > floor_b[:, None]).view(-1).nonzero()[:, 0]
    if score_bn.dtype == torch.bfloat16 and bool((floor_b >= 0).all()):
        # no negative bf16 exceeds a floor from 0 on, and the bits of others are in order as whole numbers
        bits_bn, bits_b = score_bn.view(torch.int16).numpy(), (floor_b.view(torch.int32) >> 16).numpy()
        return torch.from_numpy(np.flatnonzero(bits_bn > bits_b.astype(np.int16)[:, None]))
    return torch.from_numpy(np.flatnonzero(score_bn.float().numpy() > floor_b.numpy()[:, None]))
