"""PRO: list-wise preference ranking of graded pairs, weighted by the gaps between scores."""

import torch
from torch import nn
from torch.nn.functional import softplus

from codiemb.batch import EmbeddedBatch
from codiemb.losses.base import LossOutput, full_precision, require_positive
from codiemb.losses.graded import graded_list

_SAME_SCORE = 1e-8  # gaps up to this are ties


class PRO(nn.Module):
    """Each pair against all pairs of lower score, nearer scores counting less.

        N_k = {j : y_k - y_j > 1e-8},  w_kj = y_k - y_j,  w_k = max over N_k of w_kj
        L = mean over the k with N_k not empty of
            -log [ exp(w_k s_k / T) / (exp(w_k s_k / T) + sum over j in N_k of exp(w_kj s_j / T)) ]

    Equals the loop over a list sorted by score of the published form: a lower score is all that puts j after
    k. Sensitive to the scale of scores: scores in 0..5 give about 5 times the gradient of scores in [0, 1].
    Memory O(L^2), 16 MiB a matrix for L = 2048 in fp32. Without two different scores the loss is a zero with
    a graph. CoSENT is the relative that uses the order of scores alone. Source: arXiv 2311.03758, as used in
    arXiv 2508.11442.

    As published it is not blind to a shift: since w_k >= w_kj, a rise of all similarities alike lowers it,
    and pushes all texts together. `centred` reads s_k - mean(s) for s_k, which takes that part away (ours).

    Args:
        temperature: T; divides similarities times gaps of scores.
        centred: take the mean over the list from the similarities, with its gradient.
    """

    def __init__(self, temperature: float | int = 0.05, centred: bool = False) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)
        self.centred = centred

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The same value on every rank."""
        s_L, y_L = graded_list(batch)
        if self.centred:
            s_L = s_L - s_L.mean()
        gap_LL = y_L[:, None] - y_L[None, :]
        lower_LL = gap_LL > _SAME_SCORE
        logit_L = gap_LL.amax(dim=1) * s_L / self.temperature
        lower_logit_LL = gap_LL * s_L[None, :] / self.temperature
        lower_logit_LL = lower_logit_LL.masked_fill(~lower_LL, torch.finfo(s_L.dtype).min)
        # a row with nothing below it: softplus of about -3e38 is 0, and so is its gradient
        loss_L = softplus(lower_logit_LL.logsumexp(dim=1) - logit_L)
        return LossOutput(loss_L.sum() / lower_LL.any(dim=1).sum().clamp_min(1), {})
