"""Pure functions that judge scores and embeddings, for validation and dashboards."""

import torch
from jaxtyping import Float
from torch import Tensor


def average_ranks(values_n: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """0-based ranks, highest value first; tied values share the mean of the ranks they occupy."""
    _, group_n, count_g = torch.unique(values_n, return_inverse=True, return_counts=True)
    above_g = len(values_n) - count_g.cumsum(0)  # groups ascend, so these are the strictly higher values
    return (above_g + (count_g - 1) / 2).to(values_n.dtype)[group_n]


def pearson(x_n: Float[Tensor, " n"], y_n: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Linear correlation in float64; NaN when one side is constant."""
    x_n, y_n = x_n.double(), y_n.double()
    x_n, y_n = x_n - x_n.mean(), y_n - y_n.mean()
    return (x_n @ y_n) / (x_n.norm() * y_n.norm())


def spearman(x_n: Float[Tensor, " n"], y_n: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Rank correlation with averaged ties, the STS metric of MTEB; NaN when one side is constant."""
    return pearson(average_ranks(x_n.double()), average_ranks(y_n.double()))


def ndcg_at_k(
    score_QM: Float[Tensor, "Q M"], relevance_QM: Float[Tensor, "Q M"], k: int = 10
) -> Float[Tensor, " Q"]:
    """nDCG@k of each query with linear gains, as in trec_eval and MTEB; 0 for a query without gains."""
    k = min(k, score_QM.shape[1])
    discount_k = 1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64, device=score_QM.device))
    top_Qk = score_QM.topk(k, dim=1).indices
    dcg_Q = relevance_QM.gather(1, top_Qk).double() @ discount_k
    ideal_Q = relevance_QM.topk(k, dim=1).values.double() @ discount_k
    return dcg_Q / torch.where(ideal_Q > 0, ideal_Q, 1)


def alignment(x_nD: Float[Tensor, "n D"], y_nD: Float[Tensor, "n D"]) -> Float[Tensor, ""]:
    """Mean squared distance of positive pairs (Wang and Isola 2020, arXiv 2005.10242); 0 is perfect."""
    return (x_nD - y_nD).square().sum(dim=1).mean()


def uniformity(x_nD: Float[Tensor, "n D"], t: float = 2.0) -> Float[Tensor, ""]:
    """log mean exp(-t |x_i - x_j|^2) over pairs i < j (same paper); lower is more spread. O(n^2) memory."""
    squared_p = torch.pdist(x_nD).square()
    return torch.logsumexp(-t * squared_p, dim=0) - torch.tensor(float(len(squared_p))).log()


def effective_rank(x_nD: Float[Tensor, "n D"]) -> Float[Tensor, ""]:
    """exp(entropy of the normalised singular values), from 1 (collapse) to D (Roy and Vetterli 2007)."""
    singular_r = torch.linalg.svdvals(x_nD.double())
    share_r = singular_r / singular_r.sum()
    return torch.special.entr(share_r).sum().exp()
