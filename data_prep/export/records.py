"""Make the unified records of a block of queries, from all that is known of their documents."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from codiemb.data.records import GRADED_TASKS
from codiemb.mining.limits import KEPT
from data_prep.blocks import kept
from data_prep.layout import CANDIDATES, document_text
from data_prep.mining.known import Known
from data_prep.relations import Groups, Ids, Pairs
from data_prep.texts import Texts

Record = dict[str, Any]


class Grouped(NamedTuple):
    """Pairs, and where those of each query are."""

    pairs: Pairs
    groups: Groups

    @staticmethod
    def of(pairs: Pairs, num_queries: int) -> "Grouped":
        """Group pairs by query."""
        return Grouped(pairs, Groups.of(pairs.query, num_queries))

    def of_query(self, query: int) -> list[tuple[int, float]]:
        """Documents of a query with their values."""
        rows = self.groups.of_query(query)
        return list(zip(self.pairs.document[rows].tolist(), self.pairs.value[rows].tolist(), strict=True))


class RecordMaker:
    """Of one source; memory: its ids, and some 100 bytes a pair.

    Args:
        source: the folder.
        texts: of its documents.
        task: "ir" or "sts".
        negatives: scorers whose kept candidates are negatives.
        given: whether documents of grade 0 are, too.
        teacher: the scorer whose scores are written, "" for none.
        num_negatives: of a query, at most.
    """

    def __init__(
        self,
        source: Path,
        texts: Texts,
        task: str,
        *,
        negatives: Sequence[str],
        teacher: str,
        given: bool,
        num_negatives: int | None,
    ) -> None:
        ids = Ids.read(source)
        self._task, self._texts, self._num_negatives = task, texts, num_negatives
        self._ids = ids.document.combine_chunks()
        qrels, count = ids.qrels(source), len(ids.query)
        self._graded = task in GRADED_TASKS
        right = qrels if self._graded else qrels.where(qrels.value > 0)
        self._positives = Grouped.of(right, count)
        wrong = qrels.where((qrels.value <= 0) & given)
        self._negatives = Grouped.of(_negatives(source, ids, wrong, negatives), count)
        nothing = right.where(np.zeros(0, dtype=np.int64))
        scored = ids.pairs(source / CANDIDATES / f"{teacher}.parquet", "score") if teacher else nothing
        self._scores = Grouped.of(scored.where(~np.isnan(scored.value)), count)  # synthesise gives none

    def of_block(self, first: int, block: pa.Table) -> Iterator[Record]:
        """The records of a block of queries, the first of which has row number `first`."""
        rows = kept(block.append_column("row", pa.array(range(first, first + len(block)))))
        for query in rows.select(["row", "id", "text", "instruction"]).to_pylist():
            yield from self._pairs(query) if self._graded else self._group(query)

    def _pairs(self, query: Record) -> Iterator[Record]:
        """A record for each graded pair; the instruction stands on both sides."""
        instruction = query["instruction"] or ""
        for document, grade in self._positives.of_query(query["row"]):
            yield {
                "task_type": self._task,
                "query": [instruction, "", query["text"]],
                "positives": [[instruction, "", self._texts[document]]],
                "positive_scores": [grade],
                "id": query["id"],
                "positive_ids": [self._ids[document].as_py()],
            }

    def _group(self, query: Record) -> Iterator[Record]:
        """One record, if there is a positive."""
        row, seen = query["row"], set[str]()
        positives = self._distinct(self._positives.of_query(row), seen)
        negatives = self._distinct(self._negatives.of_query(row), seen)[: self._num_negatives]
        if positives:
            yield {
                "task_type": self._task,
                "query": [query["instruction"] or "", "", query["text"]],
                "positives": [["", "", self._texts[document]] for document in positives],
                "negatives": [["", "", self._texts[document]] for document in negatives],
                **self._scored(row, positives, negatives),
                "id": query["id"],
                "positive_ids": [self._ids[document].as_py() for document in positives],
                "negative_ids": [self._ids[document].as_py() for document in negatives],
            }

    def _distinct(self, found: Sequence[tuple[int, float]], seen: set[str]) -> list[int]:
        """Documents whose text was not seen yet; a record with one text on both sides is a bad line."""
        new = []
        for document, _ in found:
            text = self._texts[document].strip()
            if text not in seen:
                new.append(document)
                seen.add(text)
        return new

    def _scored(self, row: int, positives: Sequence[int], negatives: Sequence[int]) -> Record:
        """The teacher's scores, null where it has not scored a document; nothing if it has scored none."""
        scores = dict(self._scores.of_query(row))
        if not any(document in scores for document in (*positives, *negatives)):
            return {}
        return {
            "positive_scores": [scores.get(document) for document in positives],
            "negative_scores": [scores.get(document) for document in negatives],
        }


def _negatives(source: Path, ids: Ids, wrong: Pairs, scorers: Sequence[str]) -> Pairs:
    """Those that are wrong, then what mining has chosen; without what is known to be right."""
    chosen = [ids.candidates(source / CANDIDATES / f"{name}.parquet") for name in scorers]
    pairs = Pairs.joined([wrong, *chosen])
    known = Known(source, ids).verdicts(pairs.query, pairs.document)
    return pairs.where(known == KEPT)


def raw_texts(block: pa.Table) -> Iterator[Record]:
    """The records of a block of a corpus without queries: text for the language-model task."""
    for row in kept(block).select(["id", "title", "text"]).to_pylist():
        yield {"task_type": "lm", "text": document_text(row["title"], row["text"]), "id": row["id"]}
