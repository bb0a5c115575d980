"""How a source is searched: by embeddings, by BM25, or by both; with a score for any pair beside it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import xxhash

from codiemb.encoder.fingerprint import Fingerprint
from codiemb.mining.candidates import Candidates
from codiemb.mining.scores import pair_scores
from codiemb.mining.top_k import top_k_blocks
from data_prep.search.bm25 import Bm25Index
from data_prep.search.embeddings import embeddings, fingerprint
from data_prep.search.encoders import (
    CodiembEncoder,
    Row,
    RowEncoder,
    SentenceTransformersEncoder,
    load_codiemb,
    load_sentence_transformers,
    with_prompts,
)
from data_prep.search.fusion import reciprocal_rank_fusion

QUERIES_PER_BLOCK = 1_024
Library = Literal["codiemb", "sentence_transformers"]


class Searcher(Protocol):
    """Queries and documents are numbered as they were given to it."""

    def blocks(self, k: int, first_query: int) -> Iterator[Candidates]:
        """At most k candidates of each query, 1,024 queries at a time, from `first_query` on."""

    def scores(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """The scores of given pairs, equal to those of a search."""


@dataclass(frozen=True)
class Dense:
    """Cosines of unit vectors, exact; vectors may be memory-mapped."""

    query_QD: np.ndarray
    document_ND: np.ndarray
    device: str = "cpu"

    def blocks(self, k: int, first_query: int) -> Iterator[Candidates]:
        """See `Searcher`."""
        return top_k_blocks(self.query_QD, self.document_ND, k, device=self.device, first_query=first_query)

    def scores(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return pair_scores(self.query_QD, self.document_ND, query_P, document_P)


@dataclass(frozen=True)
class Lexical:
    """BM25. A pair without a common word has score 0 and is found by no search."""

    index: Bm25Index
    queries: Sequence[str]

    def blocks(self, k: int, first_query: int) -> Iterator[Candidates]:
        """See `Searcher`."""
        return self.index.top_k_blocks(self.queries, k, block=QUERIES_PER_BLOCK, first_query=first_query)

    def scores(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """See `Searcher`; the documents of one query must stand together, or it is scored again."""
        score_P = np.empty(len(query_P), dtype=np.float32)
        starts = np.flatnonzero(np.diff(query_P, prepend=-1))
        for rows in np.split(np.arange(len(query_P)), starts[1:]):
            if len(rows):
                score_P[rows] = self.index.scores(self.queries[int(query_P[rows[0]])])[document_P[rows]]
        return score_P


@dataclass(frozen=True)
class Fused:
    """Ranks of both by reciprocal rank fusion; scores are the embeddings', which can be compared."""

    dense: Dense
    lexical: Lexical

    def blocks(self, k: int, first_query: int) -> Iterator[Candidates]:
        """See `Searcher`."""
        both = zip(self.dense.blocks(k, first_query), self.lexical.blocks(k, first_query), strict=True)
        return (reciprocal_rank_fusion(found, k) for found in both)

    def scores(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """See `Searcher`."""
        return self.dense.scores(query_P, document_P)


def kept_embeddings(
    cache: Path, side: str, rows: Sequence[Row], encoder: RowEncoder
) -> tuple[np.ndarray, Fingerprint]:
    """Embeddings of rows and what they depend on, kept in a cache in a folder named by its hash."""
    about = fingerprint(rows, encoder)
    key = xxhash.xxh3_64_hexdigest(json.dumps(about, sort_keys=True).encode())
    return embeddings(cache / f"{side}-{key}", rows, encoder, progress=f"encoding: {side}"), about


def load_sides(
    library: Library,
    path: str,
    *,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    max_tokens: int | None = None,
    device: str = "cpu",
) -> tuple[RowEncoder, RowEncoder]:
    """One model as the encoder of queries and of documents; each with its prompt, where none is given.

    Raises:
        UserError: it is not to be had.
    """
    if library == "codiemb":
        ours = load_codiemb(path, "query", max_tokens=max_tokens, device=device)
        tokenizer = ours.encoder.tokenizer
        tokenizer.template = with_prompts(tokenizer.template, query_prompt, document_prompt)
        return ours, CodiembEncoder(ours.encoder, "document")
    theirs = load_sentence_transformers(path, "query", max_tokens=max_tokens, device=device)
    theirs.template = with_prompts(theirs.template, query_prompt, document_prompt)
    return theirs, SentenceTransformersEncoder(theirs.model, "document", theirs.template)
