"""From the records of one step to a packed batch: choose documents, tokenise, encode identical texts once."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from codiemb.batch import AnyBatch, Batch, Groups, LanguageBatch
from codiemb.data.language import PredictFrom, choose_windows, pack_examples
from codiemb.data.permutation import Permutation, Stream, mix
from codiemb.data.records import GRADED_TASKS, MIXED_TASKS, RAW_TASKS, Record, Text
from codiemb.data.task_spec import TaskSpec
from codiemb.encoder.stream import pack_texts
from codiemb.encoder.tokenization import TextTokenizer, TokenizedText
from codiemb.text_encoder import Side

# superscripts and fractions: NFKC writes them as plain digits, and 10² would be 102
_NUMBERS = re.compile("[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2150-\u215f\u2189]")


class Collator:
    """Builds the batch of one rank. Deterministic: a function of (seed, epoch, example) and the records."""

    def __init__(self, tokenizer: TextTokenizer, tasks: dict[str, TaskSpec], seed: int) -> None:
        self.tokenizer = tokenizer
        self.tasks = tasks
        self.seed = seed

    def __call__(
        self, records: Sequence[Record], *, source: str, epoch: int, indices: Sequence[int]
    ) -> AnyBatch:
        """Pack `records`, whose example numbers in their source are `indices`."""
        task = records[0].task
        if task in RAW_TASKS:
            return self._language_batch(records, source, epoch, indices)
        spec = self.tasks[task]
        documents: list[_Document] = []
        for owner, (record, index) in enumerate(zip(records, indices, strict=True)):
            documents += self._choose(record, spec, owner, mix(self.seed, Stream.DOCUMENTS, epoch, index))
        queries = [record.query for record in records]
        query_sides: list[Side] = ["text" if is_symmetric(record) else "query" for record in records]
        sides = [document.side for document in documents]
        texts = [document.text for document in documents]
        # queries and documents may have different limits, hence two calls; the stream holds both
        tokenized = self.tokenizer(queries, spec.max_query_tokens, query_sides)
        tokenized += self.tokenizer(texts, spec.max_document_tokens, sides)
        gold_N, teacher_N = _scores(task, [document.score for document in documents])
        # an equal text with an equal prompt has an equal embedding: encode once (43 % of texts with labels)
        unique, rows = _unique_by_length(tokenized)
        return Batch(
            task=task,
            source=source,
            texts=pack_texts(unique),
            query_sequence_B=torch.tensor(rows[: len(queries)]),
            document_sequence_N=torch.tensor(rows[len(queries) :]),
            groups=Groups(
                owner_N=torch.tensor([document.owner for document in documents]),
                is_positive_N=torch.tensor([document.is_positive for document in documents]),
                score_N=gold_N,
                query_hash_B=torch.tensor([content_hash(query.text) for query in queries]),
                document_hash_N=torch.tensor([content_hash(document.text.text) for document in documents]),
                teacher_score_N=teacher_N,
            ),
        )

    def _language_batch(
        self, records: Sequence[Record], source: str, epoch: int, indices: Sequence[int]
    ) -> LanguageBatch:
        task = records[0].task
        spec = self.tasks[task]
        examples = [
            example
            for record, index in zip(records, indices, strict=True)
            for example in choose_windows(
                self.tokenizer,
                record.query.text,
                max_tokens=spec.max_document_tokens,
                num_windows=spec.num_windows,
                mask_share=spec.mask_share,
                predict_from=cast(PredictFrom, spec.predict_from),
                key=mix(self.seed, Stream.WINDOWS, epoch, index),
            )
        ]
        from_embedding = spec.mask_share is not None and spec.predict_from == "embedding"
        return pack_examples(examples, task, source, from_embedding=from_embedding)

    def _choose(self, record: Record, spec: TaskSpec, owner: int, key: int) -> list["_Document"]:
        """This epoch's positives and negatives of one record, in random order."""
        chosen = []
        side: Side = "text" if is_symmetric(record) else "document"
        kinds = (
            (record.positives, record.positive_scores, True, spec.num_positives),
            (record.negatives, record.negative_scores, False, spec.num_negatives),
        )
        for texts, scores, is_positive, limit in kinds:
            count = len(texts) if limit is None else min(limit, len(texts))
            if count:
                # drawn by (seed, epoch, example): the same on any rank, in any worker, after any resume
                order = Permutation(len(texts), mix(key, int(is_positive)))(np.arange(count))
                for i in order.tolist():
                    score = scores[i] if scores else math.nan
                    chosen.append(_Document(texts[i], side, owner, is_positive, score))
        return chosen


@dataclass(frozen=True, slots=True)
class _Document:
    text: Text
    side: Side
    owner: int
    is_positive: bool
    score: float


def _scores(task: str, scores: Sequence[float]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Gold scores and a teacher's: what a record's scores are depends on its task; the others are NaN."""
    score_N = torch.tensor(scores, dtype=torch.float32)
    none_N = torch.full_like(score_N, math.nan)
    return (score_N, none_N) if task in GRADED_TASKS | MIXED_TASKS else (none_N, score_N)


def is_symmetric(record: Record) -> bool:
    """Whether a record compares texts of one kind (STS): scores, and instructions on all texts or none.

    Where only the query of a graded record has one, its documents are documents.
    """
    texts = [*record.positives, *record.negatives]
    graded = record.task in GRADED_TASKS | MIXED_TASKS and bool(record.positive_scores)
    return graded and all(bool(text.instruction) == bool(record.query.instruction) for text in texts)


def content_hash(text: str) -> int:
    """Signed 64-bit hash of the text without case, width and spacing differences; 10² is not 102."""
    kept = _NUMBERS.sub(lambda found: f"\ue000{ord(found[0]):x}\ue000", text)
    normal = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", kept).casefold()).strip()
    return int(np.uint64(xxhash.xxh64_intdigest(normal.encode())).astype(np.int64))


def _unique_by_length(texts: Sequence[TokenizedText]) -> tuple[list[TokenizedText], list[int]]:
    """Distinct texts, shortest first (long runs for the attention), and each text's row among them."""
    keys = [(tuple(text.input_ids), text.prompt_length) for text in texts]
    ordered = sorted(set(keys), key=lambda key: (len(key[0]), key))
    row_of = {key: row for row, key in enumerate(ordered)}
    return [TokenizedText(list(ids), length) for ids, length in ordered], [row_of[key] for key in keys]
