"""The same few records of each source, embedded before and after training: what is near, what is far."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from codiemb.batch import Batch, EmbeddedBatch, Groups
from codiemb.encoder import Encoder
from codiemb.encoder.modes import eval_mode
from codiemb.metrics import (
    embedding_statistics,
    first_of_each,
    hard_negative_documents,
    ndcg_at_k,
    positive_documents,
    spearman,
)

AnyBatchTuple = TypeVar("AnyBatchTuple", Batch, EmbeddedBatch)
BINS = 200  # of the histograms, over similarities from -1 to 1


class Probe(NamedTuple):
    """Records of one source: as batches, and as the texts that the encoder sees, cut to their limit."""

    source: str
    task: str
    batches: list[Batch]
    queries: list[str]
    documents: list[str]


class Similarities(NamedTuple):
    """Cosines of queries with their positives, their hard negatives, and the other queries' documents."""

    positive: Float[Tensor, " _"]
    hard_negative: Float[Tensor, " _"]
    other: Float[Tensor, " _"]


def make_probe(encoder: Encoder, batches: Sequence[Batch]) -> Probe:
    """A probe of at least one batch of one source."""
    texts = [_texts(encoder, batch) for batch in batches]
    return Probe(
        batches[0].source,
        batches[0].task,
        list(batches),
        [text for queries, _ in texts for text in queries],
        [text for _, documents in texts for text in documents],
    )


def _texts(encoder: Encoder, batch: Batch) -> tuple[list[str], list[str]]:
    """Queries and documents of a batch from their tokens, without prompts."""
    rows, start = [], 0
    ids = batch.texts.input_ids_T.tolist()
    for length, prompt in zip(batch.texts.sequence_lengths, batch.texts.prompt_lengths, strict=True):
        rows.append(
            encoder.tokenizer.hf.decode(ids[start + prompt : start + length], skip_special_tokens=True)
        )
        start += length
    queries = [rows[row].strip() for row in batch.query_sequence_B.tolist()]
    return queries, [rows[row].strip() for row in batch.document_sequence_N.tolist()]


def to_device(batch: AnyBatchTuple, device: torch.device | str) -> AnyBatchTuple:
    """The same batch, all of its tensors on a device."""
    moved: AnyBatchTuple = apply_to_collection(batch, Tensor, lambda tensor: tensor.to(device))
    return moved


@torch.no_grad()
def embed_probe(encoder: Encoder, batches: Sequence[Batch]) -> EmbeddedBatch:
    """All batches as one, on the CPU, without dropout and without touching the random state."""
    with eval_mode(encoder):
        parts = [to_device(encoder.embed(batch), "cpu") for batch in batches]
    return EmbeddedBatch(
        torch.cat([part.query_BD for part in parts]),
        torch.cat([part.document_ND for part in parts]),
        Groups.joined([part.groups for part in parts]),
    )


def similarities(batch: EmbeddedBatch) -> Similarities:
    """Of the query with its own documents by kind, and with those of other queries (but no equal text)."""
    score_BN = batch.query_BD @ batch.document_ND.T
    owner_N = batch.groups.owner_N.long()
    positive_P, negative_P = positive_documents(batch), hard_negative_documents(batch)
    return Similarities(
        positive=score_BN[owner_N[positive_P], positive_P],
        hard_negative=score_BN[owner_N[negative_P], negative_P],
        other=score_BN[~_related(batch)],
    )


def _related(batch: EmbeddedBatch) -> Bool[Tensor, "B N"]:
    """Whether a document is one of the query's own, or has the text of one of them, or of the query."""
    number_N = torch.unique(batch.groups.document_hash_N, return_inverse=True)[1]
    own_BG = torch.zeros(len(batch.query_BD), int(number_N.max()) + 1, dtype=torch.bool)
    own_BG[batch.groups.owner_N.long(), number_N] = True
    return own_BG[:, number_N] | (batch.groups.query_hash_B[:, None] == batch.groups.document_hash_N)


def quality(batch: EmbeddedBatch) -> dict[str, float]:
    """Numbers of a probe: `ndcg@10` among its documents or, if graded, `cosine_spearman`; geometry; means."""
    graded_N = ~batch.groups.score_N.isnan()
    values = {name: float(value) for name, value in embedding_statistics(batch).items()}
    if bool(graded_N.all()):
        own_N = (batch.query_BD[batch.groups.owner_N.long()] * batch.document_ND).sum(dim=1)
        values["cosine_spearman"] = float(spearman(own_N, batch.groups.score_N))
    else:
        row_u, relevance_Bu = _corpus(batch)
        score_Bu = batch.query_BD @ batch.document_ND[row_u].T
        values["ndcg@10"] = float(ndcg_at_k(score_Bu, relevance_Bu).mean())
    means = similarities(batch)._asdict()
    return values | {f"{name}_similarity": float(s.mean()) for name, s in means.items() if len(s)}


def _corpus(batch: EmbeddedBatch) -> tuple[Int[Tensor, " u"], Float[Tensor, "B u"]]:
    """Rows of the distinct documents, and which of them match which query."""
    hash_N = batch.groups.document_hash_N
    row_u = first_of_each(hash_N)
    positive_P = positive_documents(batch)
    column_P = torch.searchsorted(
        batch.groups.document_hash_N[row_u], batch.groups.document_hash_N[positive_P]
    )
    relevance_Bu = torch.zeros(len(batch.query_BD), len(row_u))
    relevance_Bu[batch.groups.owner_N[positive_P].long(), column_P] = 1
    return row_u, relevance_Bu


def histograms(found: Similarities) -> dict[str, list[int]]:
    """Counts in BINS equal bins from -1 to 1, by kind; a cosine that rounding took above 1 counts as 1."""
    return {
        kind: torch.histc(values.clamp(-1, 1).float(), BINS, -1, 1).long().tolist()
        for kind, values in found._asdict().items()
        if len(values)
    }


def neighbours(probe: Probe, batch: EmbeddedBatch, num_queries: int, k: int) -> Iterator[dict[str, Any]]:
    """The first queries with their k nearest distinct documents of the probe, nearest first."""
    row_u, relevance_Bu = _corpus(batch)
    for query in range(min(num_queries, len(probe.queries))):
        similarity_k, place_k = (batch.document_ND[row_u] @ batch.query_BD[query]).topk(min(k, len(row_u)))
        yield {
            "query": probe.queries[query],
            "documents": [
                {
                    "text": probe.documents[int(row_u[place])],
                    "similarity": round(similarity, 4),
                    "is_positive": bool(relevance_Bu[query, place]),
                }
                for place, similarity in zip(place_k.tolist(), similarity_k.tolist(), strict=True)
            ],
        }


def look(
    encoder: Encoder, probe: Probe, batches: Sequence[Batch], *, num_queries: int, k: int
) -> dict[str, Any]:
    """Everything a report shows of a probe, as one JSON object. `batches` are the probe's, on its device."""
    embedded = embed_probe(encoder, batches)
    return {
        "source": probe.source,
        "task": probe.task,
        "num_queries": len(probe.queries),
        "num_documents": len(set(probe.documents)),
        "metrics": quality(embedded),
        "histograms": histograms(similarities(embedded)),
        "neighbours": list(neighbours(probe, embedded, num_queries, k)),
    }
