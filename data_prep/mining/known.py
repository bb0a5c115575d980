"""What is known of a query's positives: pairs, contents and clusters that can be no negatives of it."""

from pathlib import Path

import numpy as np

from codiemb.data.collator import content_hash
from codiemb.mining.choose import pair_key
from codiemb.mining.limits import KEPT, REASONS
from data_prep.blocks import blocks, column
from data_prep.layout import CORPUS, QRELS, QUERIES, document_text
from data_prep.relations import Groups, Ids, Pairs, codes
from data_prep.shingles import mix


class Known:
    """Of one source: its positives, the content of every document, and the text of every query.

    A judgement that a step has dropped (too low a score, too long a document) still says that the document is
    right: it is not trained on, and no negative either, nor is what equals it, unless a kept judgement says
    that it is wrong. Queries of one text are one here: what answers one of them answers the others.

    Memory: 16 bytes a document, 32 a query and 72 a positive.

    Attributes:
        positives: pairs with a grade above 0 that are kept.
    """

    def __init__(self, source: Path, ids: Ids) -> None:
        qrels = ids.qrels(source)
        self.positives = qrels.where(qrels.value > 0)
        self._groups = Groups.of(self.positives.query, len(ids.query))
        self._content, self._cluster = _document_content(source), codes(source / CORPUS, "cluster")
        query, document = _judged_right(source, ids, qrels)
        query_content, self._text_of_query = np.unique(_query_content(source), return_inverse=True)
        query = self._text_of_query[query]
        own = _key(np.arange(len(query_content)), query_content)
        in_cluster = self._cluster[document] >= 0
        self._forbidden = [
            ("same cluster", np.sort(_key(query, self._cluster[document])[in_cluster])),
            ("same text", np.sort(np.concatenate([_key(query, self._content[document]), own]))),
            ("positive", np.sort(pair_key(query, document))),
        ]

    def verdicts(self, query_F: np.ndarray, document_F: np.ndarray) -> np.ndarray:
        """A code of REASONS for each candidate that is known to be no negative, KEPT for the others."""
        query_F = self._text_of_query[query_F]
        keys = {
            "same cluster": _key(query_F, self._cluster[document_F]),
            "same text": _key(query_F, self._content[document_F]),
            "positive": pair_key(query_F, document_F),
        }
        verdict_F = np.full(len(query_F), KEPT, dtype=np.int8)
        for reason, forbidden in self._forbidden:  # the last that fits is the plainest
            verdict_F[_is_in(forbidden, keys[reason])] = REASONS.index(reason)
        return verdict_F

    def positives_of(self, queries: np.ndarray) -> Pairs:
        """The positives of some queries, grouped in their order."""
        rows = [self._groups.of_query(int(query)) for query in queries]
        return self.positives.where(np.concatenate([np.zeros(0, dtype=np.int64), *rows]))


def _judged_right(source: Path, ids: Ids, kept: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Query and document of kept judgements above 0, and of dropped ones that no kept one contradicts."""
    right, wrong = ids.pairs(source / QRELS, "grade"), kept.where(kept.value <= 0)
    is_wrong = np.isin(pair_key(right.query, right.document), pair_key(wrong.query, wrong.document))
    found = Pairs.joined([kept.where(kept.value > 0), right.where((right.value > 0) & ~is_wrong)])
    return found.query, found.document


def _is_in(known: np.ndarray, key_F: np.ndarray) -> np.ndarray:
    """Whether each key is among the known ones, which are sorted."""
    place_F = np.searchsorted(known, key_F)
    found_F = place_F < len(known)
    found_F[found_F] = known[place_F[found_F]] == key_F[found_F]
    return found_F


def _key(query_F: np.ndarray, value_F: np.ndarray) -> np.ndarray:
    """64 bits for a query and a value: two pairs share one with a chance of 2^-64."""
    mixed = mix(query_F.astype(np.uint64)) + value_F.astype(np.int64).view(np.uint64)
    return mix(mixed)


def _document_content(source: Path) -> np.ndarray:
    """The content hash of every document; taken from the table where it has them all."""
    known = column(source / CORPUS, "hash")
    if not known.null_count:
        return np.asarray(known.to_numpy(), dtype=np.int64)
    hashes = [
        content_hash(document_text(title, text))
        for block in blocks(source / CORPUS, ["title", "text"])
        for title, text in zip(block["title"].to_pylist(), block["text"].to_pylist(), strict=True)
    ]
    return np.array(hashes, dtype=np.int64)


def _query_content(source: Path) -> np.ndarray:
    texts = (text for block in blocks(source / QUERIES, ["text"]) for text in block["text"].to_pylist())
    return np.array([content_hash(text) for text in texts], dtype=np.int64)
