"""Rows whose embedding is near that of a test text: what n-grams do not see, such as a paraphrase."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codiemb.encoder.fingerprint import Fingerprint
from codiemb.mining.top_k import top_k_blocks
from data_prep.contamination.sides import ScoredText
from data_prep.mining.searchers import kept_embeddings
from data_prep.search.encoders import Row, RowEncoder


class Nearest(NamedTuple):
    """Of every row the nearest test text, and its cosine."""

    test: np.ndarray
    cosine: np.ndarray
    encoder: Fingerprint


def nearest(
    rows: Sequence[Row], tests: Sequence[ScoredText], encoder: RowEncoder, cache: Path, device: str
) -> Nearest:
    """Encode both as documents, without instruction, and search; embeddings are kept in `cache`."""
    own_ND, about = kept_embeddings(cache, "document", rows, encoder)
    test_MD, _ = kept_embeddings(cache, "document", [("", each.text) for each in tests], encoder)
    found = list(top_k_blocks(own_ND, test_MD, 1, device=device))
    return Nearest(
        np.concatenate([each.document_C for each in found]),
        np.concatenate([each.score_C for each in found]),
        about,
    )
