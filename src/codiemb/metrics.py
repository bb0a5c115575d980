"""Pure functions that judge scores and embeddings, for validation and dashboards."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from codiemb.batch import EmbeddedBatch

MATCHING = 0.8  # gold score from which a graded pair counts as positive: 4 of 5, as in arXiv 2104.08821
UNRELATED = 0.2  # gold score up to which it counts as negative


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


def mean_cosine(x_nD: Float[Tensor, "n D"]) -> Float[Tensor, ""]:
    """Mean cosine of the pairs i < j of unit vectors: how narrow their cone is; 0 is spread, 1 collapse."""
    num = len(x_nD)
    return (x_nD.double().sum(dim=0).square().sum() - num) / (num * (num - 1))


def cosine(x_n: Float[Tensor, " n"], y_n: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cosine in float64, of two gradients for example: below 0 they pull apart; NaN when one is zero."""
    x_n, y_n = x_n.double(), y_n.double()
    return (x_n @ y_n) / (x_n.norm() * y_n.norm())


def positive_documents(batch: EmbeddedBatch) -> Int[Tensor, " P"]:
    """Rows of the documents that match their query: positives, if graded those scored MATCHING or more."""
    score_N = batch.groups.score_N
    return (batch.groups.is_positive_N & ~(score_N < MATCHING)).nonzero().squeeze(1)


def hard_negative_documents(batch: EmbeddedBatch) -> Int[Tensor, " P"]:
    """Rows of the hard negatives, and of graded documents scored UNRELATED or less."""
    return (~batch.groups.is_positive_N | (batch.groups.score_N <= UNRELATED)).nonzero().squeeze(1)


def first_of_each(hash_N: Int[Tensor, " N"]) -> Int[Tensor, " u"]:
    """One row of every distinct text, the first; in the order of the hashes, which is as good as random."""
    distinct_u, group_N = torch.unique(hash_N, return_inverse=True)
    row_N = torch.arange(len(hash_N), device=hash_N.device)
    return torch.full_like(distinct_u, len(hash_N)).scatter_reduce_(0, group_N, row_N, "amin")


@torch.no_grad()
def embedding_statistics(batch: EmbeddedBatch, max_texts: int = 256) -> dict[str, Tensor]:
    """`alignment` of the positive pairs; of up to `max_texts` documents three numbers of their spread:
    `uniformity`, `effective_rank` and `mean_cosine`.

    Repeated documents count once. What a batch cannot tell (no positive pair, fewer than two documents) is
    left out, and all of it where an embedding is not finite: singular values of NaN are an error.
    """
    statistics: dict[str, Tensor] = {}
    if not (batch.query_BD.isfinite().all() and batch.document_ND.isfinite().all()):
        return statistics
    positive_P = positive_documents(batch)
    if len(positive_P):
        query_PD = batch.query_BD[batch.groups.owner_N[positive_P].long()]
        statistics["alignment"] = alignment(query_PD, batch.document_ND[positive_P])
    document_uD = batch.document_ND[first_of_each(batch.groups.document_hash_N)[:max_texts]]
    if len(document_uD) >= 2:
        statistics["uniformity"] = uniformity(document_uD)
        statistics["effective_rank"] = effective_rank(document_uD)
        statistics["mean_cosine"] = mean_cosine(document_uD)
    return statistics
