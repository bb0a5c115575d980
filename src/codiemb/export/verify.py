"""Prove that an exported folder gives the trainer's embeddings, through sentence-transformers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from codiemb.encoder.encoder import Encoder
from codiemb.json_files import read_json

_PROBES = (
    "How do I reset my password?",
    "余额不足，转账失败怎么办？",
    "Returns the indices of the maximum values along an axis. Ties are broken arbitrarily; see `argmax`.",
)
# How far the cosine may lie below 1. Rounding errs by u in each weight and activation (2**-24, 2**-12 and
# 2**-9), which turns a vector by some u and takes the square of that from the cosine; fp32 is our promise.
TOLERANCE = {"float32": 1e-6, "float16": 5e-5, "bfloat16": 1e-3}


def export_cosine(
    encoder: Encoder,
    folder: str | Path,
    *,
    query_instruction: str,
    texts: Sequence[str] = _PROBES,
    trust_remote_code: bool = False,
) -> float:
    """Smallest cosine between the trainer's embeddings and the exported folder's, queries and documents.

    In fp32, whatever `encoder.encode_precision`. Loads the folder through sentence-transformers as a user
    does, in the dtype that it states. Promise: above 1 - TOLERANCE[dtype]. NaN where one of the folder's
    embeddings is: weights that the dtype cannot hold.
    """
    from sentence_transformers import SentenceTransformer  # slow to import, and only the export needs it

    device = next(encoder.backbone.parameters()).device
    trusted = trust_remote_code and has_own_code(Path(folder))
    model = SentenceTransformer(str(folder), device=str(device), trust_remote_code=trusted)
    with _in_fp32(encoder):
        queries_SD = encoder.encode(texts, instruction=query_instruction, side="query")
        documents_SD = encoder.encode(texts, side="document")
    pairs = (
        (queries_SD, model.encode_query(list(texts), show_progress_bar=False)),
        (documents_SD, model.encode_document(list(texts), show_progress_bar=False)),
    )
    cosines = [_smallest_cosine(ours, np.asarray(theirs, dtype=np.float64)) for ours, theirs in pairs]
    return float(np.min(cosines))  # Python's min would pass over a NaN


@contextmanager
def _in_fp32(encoder: Encoder) -> Iterator[None]:
    """The promise is one of fp32, whatever the evaluations of a run take."""
    precision, encoder.encode_precision = encoder.encode_precision, "32-true"
    try:
        yield
    finally:
        encoder.encode_precision = precision


def has_own_code(folder: Path) -> bool:
    """Whether a model's folder names Python code that transformers would ask to run."""
    return "auto_map" in read_json(folder / "config.json", {})


def _smallest_cosine(ours_SD: np.ndarray, theirs_SD: np.ndarray) -> float:
    """`ours_SD` has rows of length 1; a vector that was normalised in bf16 has not."""
    lengths_S = np.linalg.norm(theirs_SD, axis=1)
    return float(((ours_SD * theirs_SD).sum(1) / lengths_S).min())
