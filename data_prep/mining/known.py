"""What is known of a query's positives: pairs, contents and clusters that can be no negatives of it."""

from pathlib import Path

import numpy as np

from codiemb.data.collator import content_hash
from codiemb.mining.choose import pair_key
from codiemb.mining.known import KnownPairs
from codiemb.mining.limits import KEPT, REASONS
from data_prep.blocks import blocks, column
from data_prep.layout import CORPUS, QRELS, QUERIES, document_text
from data_prep.relations import Groups, Ids, Pairs, codes


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
        in_cluster = self._cluster[document] >= 0
        own = np.arange(len(query_content))  # a query's text is no answer to it
        texts = np.concatenate([self._content[document], query_content])
        self._forbidden = [
            ("same cluster", KnownPairs(query[in_cluster], self._cluster[document][in_cluster])),
            ("same text", KnownPairs(np.concatenate([query, own]), texts)),
            ("positive", KnownPairs(query, document)),
        ]

    def verdicts(self, query_F: np.ndarray, document_F: np.ndarray) -> np.ndarray:
        """A code of REASONS for each candidate that is known to be no negative, KEPT for the others."""
        query_F = self._text_of_query[query_F]
        values = {
            "same cluster": self._cluster[document_F],
            "same text": self._content[document_F],
            "positive": document_F,
        }
        verdict_F = np.full(len(query_F), KEPT, dtype=np.int8)
        for reason, forbidden in self._forbidden:  # the last that fits is the plainest
            verdict_F[forbidden.hold(query_F, values[reason])] = REASONS.index(reason)
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
