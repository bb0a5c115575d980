"""The score of a query and a document, the same bits wherever it is computed, and what has no score."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from codiemb.errors import UserError

# rows of one width: float32 or float16, in memory or memory-mapped; queries and documents alike
Embeddings = Float[np.ndarray, "_ _"]
_LENGTH_TOLERANCE = 1e-2  # vectors of models in bf16 are off by 4e-3
_NUMBERS = 2**20  # that are converted at a time: 8 MiB of float64


def exact_scores(
    query_D: Float64[np.ndarray, " D"], document_ND: Embeddings, row_c: Int64[np.ndarray, " c"]
) -> Float32[np.ndarray, " c"]:
    """Inner products with some documents, in float64, rounded to float32 at the end.

    numpy's einsum sums every row in the same order, so a pair has the same score in any block, on any number
    of threads, and copies of a document have equal scores. A matrix product promises neither: its rounding
    depends on shapes and places.
    """
    score_c = np.empty(len(row_c), dtype=np.float32)
    for part in _pieces(len(row_c), len(query_D)):
        score_c[part] = np.einsum("cd,d->c", document_ND[row_c[part]].astype(np.float64), query_D)
    return score_c


def pair_scores(
    query_QD: Embeddings,
    document_ND: Embeddings,
    query_P: Int64[np.ndarray, " P"],
    document_P: Int64[np.ndarray, " P"],
) -> Float32[np.ndarray, " P"]:
    """The scores of given pairs, such as the known positives: bit-equal to those of a search.

    Args:
        query_QD: embeddings of the queries.
        document_ND: embeddings of the documents.
        query_P: rows of `query_QD`; sorted, a query with many documents is read once.
        document_P: rows of `document_ND`.
    """
    queries, documents = np.asarray(query_QD), np.asarray(document_ND)
    score_P = np.empty(len(query_P), dtype=np.float32)
    for part in _runs(query_P):
        query_D = queries[query_P[part.start]].astype(np.float64)
        score_P[part] = exact_scores(query_D, documents, document_P[part])
    return score_P


def refuse_unfit(embedding_ND: Embeddings, what: str) -> None:
    """Check that all embeddings are finite and of unit length, reading them once, in blocks.

    Args:
        embedding_ND: one embedding a row.
        what: names them in the error, best with their file.

    Raises:
        UserError: one is not; it names the first 20 rows.
    """
    length_N = lengths(np.asarray(embedding_ND))
    wrong = np.flatnonzero(~(np.abs(length_N - 1) <= _LENGTH_TOLERANCE))  # a NaN is within no tolerance
    if len(wrong):
        first = ", ".join(f"row {i} has length {length_N[i]:.4g}" for i in wrong[:20])
        more = f" and {len(wrong) - 20:,} more" if len(wrong) > 20 else ""
        raise UserError(
            f"{what}: embeddings must be finite and of length 1, but {first}{more}; "
            "normalise them, or encode these texts again"
        )


def lengths(embedding_ND: Embeddings) -> Float64[np.ndarray, " N"]:
    """Euclidean lengths; NaN or infinite where an embedding is not finite."""
    square_N = np.empty(len(embedding_ND))
    for part in _pieces(*embedding_ND.shape):
        value_nD = embedding_ND[part].astype(np.float64)
        square_N[part] = np.einsum("nd,nd->n", value_nD, value_nD)
    return np.sqrt(square_N)


def _pieces(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows that are small enough to be converted."""
    step = max(1, _NUMBERS // max(1, width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _runs(query_P: Int64[np.ndarray, " P"]) -> Iterator[slice]:
    """Stretches of one and the same query."""
    changes = (np.flatnonzero(np.diff(query_P)) + 1).tolist()
    starts = [0, *changes] if len(query_P) else []
    return map(slice, starts, [*changes, len(query_P)])
