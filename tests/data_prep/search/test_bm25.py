"""BM25: the scores of the formula, the order of a full sort, and no candidate that shares no token."""

import math
from collections import Counter

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.errors import UserError
from codiemb.lexical.words import bm25_tokens
from data_prep.search.bm25 import Bm25Index

TEXTS = st.lists(
    st.sampled_from(["rain", "sun", "the", "the", "the", "余额不足", "转账", "GPU显存", "!"]), max_size=9
)
DOCUMENTS = st.lists(TEXTS.map(" ".join), min_size=1, max_size=60)


def formula(query, documents):
    """Lucene's BM25 (k1 1.5, b 0.75) in float64, from the definition."""
    counts = [Counter(bm25_tokens(text)) for text in documents]
    mean = sum(count.total() for count in counts) / len(counts)
    scores = []
    for count in counts:
        score = 0.0
        for token in bm25_tokens(query):
            df = sum(token in other for other in counts)
            if count[token]:
                idf = math.log(1 + (len(counts) - df + 0.5) / (df + 0.5))
                score += idf * count[token] / (1.5 * (0.25 + 0.75 * count.total() / mean) + count[token])
        scores.append(score)
    return scores


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, TEXTS.map(" ".join))
def test_scores_are_those_of_the_formula(documents, query):
    found = Bm25Index(documents).scores(query)
    np.testing.assert_allclose(found, formula(query, documents), rtol=2e-6)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.lists(TEXTS.map(" ".join), max_size=4), st.integers(1, 70))
def test_candidates_are_a_full_sort_of_what_shares_a_token_with_ties_by_document(documents, queries, k):
    index = Bm25Index(documents)
    found = index.top_k(queries, k).rows()
    for query, (ids, scores) in zip(queries, found, strict=True):
        all_scores = index.scores(query)
        shares = [i for i, text in enumerate(documents) if {*bm25_tokens(query)} & {*bm25_tokens(text)}]
        expected = sorted(shares, key=lambda i: (-all_scores[i], i))[:k]
        assert ids.tolist() == expected
        assert scores.tolist() == all_scores[expected].tolist()


def test_whole_columns_of_frequent_tokens_change_no_bit_of_a_score():
    rng = np.random.default_rng(0)
    documents = [" ".join(f"w{n}" for n in rng.geometric(0.1, size=20)) for _ in range(300)]
    index = Bm25Index(documents)
    assert 3 < len(index._columns) < len(index.vocabulary)
    model = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    model.index([bm25_tokens(text) for text in documents], show_progress=False)
    for query in documents[:40]:
        np.testing.assert_array_equal(index.scores(query), model.get_scores(bm25_tokens(query)))


def test_blocks_join_to_the_whole_and_a_search_can_start_in_the_middle():
    documents = [f"text number {n} of ten" for n in range(30)]
    index = Bm25Index(documents)
    whole = index.top_k(documents, 3)
    parts = list(index.top_k_blocks(documents, 3, block=7, first_query=14))
    assert [part.first_query for part in parts] == [14, 21, 28]
    assert np.concatenate([part.document_C for part in parts]).tolist() == whole.document_C[42:].tolist()


@pytest.mark.parametrize("documents", [["", "!?"], ["words here"]])
def test_a_query_that_shares_nothing_has_no_candidates(documents):
    assert Bm25Index(documents).top_k(["", "雨"], 5).count_Q.tolist() == [0, 0]


def test_an_empty_corpus_is_refused():
    with pytest.raises(UserError, match="the corpus is empty"):
        Bm25Index([])
