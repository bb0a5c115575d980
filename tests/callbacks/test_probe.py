"""Similarities, quality and neighbours of a probe against loops over its pairs."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from codiemb.callbacks.probe import BINS, Probe, Similarities, histograms, neighbours, quality, similarities
from tests.support.batches import graded_batch, make_batch

# two queries share a positive (hash 7), one query's text is another's negative (hash 2)
RAGGED = make_batch(
    [(1, 1), (2, 0), (1, 2)], document_hash=[7, 8, 7, 9, 10, 1, 12], query_hash=[0, 1, 2], dim=5
)


def test_similarities_are_those_of_a_loop_over_all_pairs() -> None:
    expected: dict[str, list[float]] = {"positive": [], "hard_negative": [], "other": []}
    texts = [{7, 8}, {7, 9}, {10, 1, 12}]  # each query's own
    for query in range(3):
        for document in range(7):
            cosine = float(RAGGED.query_BD[query] @ RAGGED.document_ND[document])
            text = int(RAGGED.groups.document_hash_N[document])
            if int(RAGGED.groups.owner_N[document]) == query:
                kind = "positive" if RAGGED.groups.is_positive_N[document] else "hard_negative"
                expected[kind].append(cosine)
            elif text not in texts[query] and text != query:
                expected["other"].append(cosine)
    found = similarities(RAGGED)._asdict()
    for kind, values in expected.items():
        assert sorted(found[kind].tolist()) == pytest.approx(sorted(values))


def test_graded_pairs_are_positive_from_08_and_negative_to_02() -> None:
    found = similarities(graded_batch([0.0, 0.2, 0.5, 0.8, 1.0]))
    batch = graded_batch([0.0, 0.2, 0.5, 0.8, 1.0])
    own = (batch.query_BD * batch.document_ND).sum(dim=1)
    torch.testing.assert_close(found.positive, own[3:])
    torch.testing.assert_close(found.hard_negative, own[:2])
    assert len(found.other) == 20


def test_ndcg_of_a_probe_ranks_every_distinct_document_once() -> None:
    corpus = {7: 0, 8: 1, 9: 3, 10: 4, 1: 5, 12: 6}  # hash -> a row that has it
    relevant = [{7}, {7, 9}, {10}]
    values = []
    for query in range(3):
        ranked = sorted(corpus, key=lambda h: -float(RAGGED.query_BD[query] @ RAGGED.document_ND[corpus[h]]))
        gain = sum(1 / math.log2(rank + 2) for rank, h in enumerate(ranked) if h in relevant[query])
        values.append(gain / sum(1 / math.log2(rank + 2) for rank in range(len(relevant[query]))))
    assert quality(RAGGED)["ndcg@10"] == pytest.approx(np.mean(values))


def test_the_quality_of_a_graded_probe_is_spearman() -> None:
    scores = [0.0, 0.2, 0.5, 0.8, 1.0]
    batch = graded_batch(scores)
    own = (batch.query_BD * batch.document_ND).sum(dim=1)
    found = quality(batch)
    assert found["cosine_spearman"] == pytest.approx(scipy.stats.spearmanr(own, scores).statistic)
    assert "ndcg@10" not in found


def test_histograms_count_every_pair_once_also_at_the_ends() -> None:
    found = histograms(
        Similarities(torch.tensor([-1.0, 1.0, 1.0 + 1e-6]), torch.tensor([0.001]), torch.empty(0))
    )
    assert found["positive"][0] == 1
    assert found["positive"][-1] == 2
    assert found["hard_negative"][BINS // 2] == 1
    assert "other" not in found


def test_neighbours_are_the_nearest_distinct_documents_nearest_first() -> None:
    probe = Probe("s", "ir", [], ["a", "b", "c"], [f"text {int(h)}" for h in RAGGED.groups.document_hash_N])
    rows = list(neighbours(probe, RAGGED, num_queries=2, k=10))
    assert [row["query"] for row in rows] == ["a", "b"]
    for query, row in enumerate(rows):
        assert sorted(d["text"] for d in row["documents"]) == sorted(
            f"text {h}" for h in (7, 8, 9, 10, 1, 12)
        )
        assert [d["similarity"] for d in row["documents"]] == sorted(
            (d["similarity"] for d in row["documents"]), reverse=True
        )
        positive = {d["text"] for d in row["documents"] if d["is_positive"]}
        assert positive == ({"text 7"}, {"text 7", "text 9"})[query]
