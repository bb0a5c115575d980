"""Exact top-k: the ids and scores of brute force, whatever the blocks, the ties and the device."""

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from codiemb.errors import UserError
from codiemb.mining.products import Product, greatest
from data_prep.search import Blocks, pair_scores, refuse_unfit, top_k, top_k_blocks


def brute_force(query_QD, document_ND, k):
    """All scores in float64, a loop and a full sort; shares no code with the search."""
    result = []
    for query_D in query_QD.astype(np.float64):
        score_N = (document_ND.astype(np.float64) * query_D).sum(axis=1).astype(np.float32)
        result.append(sorted(range(len(score_N)), key=lambda i: (-score_N[i], i))[:k])
    return result


def unit(rng, rows, width=24):
    values = rng.standard_normal((rows, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def ids(candidates):
    return [documents.tolist() for documents, _ in candidates.rows()]


CPU = torch.device("cpu")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def product(request):
    return Product(request.param)


@pytest.fixture
def numbers(product, monkeypatch):
    """The first pass in these numbers, whatever the machine would choose."""
    monkeypatch.setattr(module, "products", lambda device: list(dict.fromkeys([product, FLOAT32])))
    return product


FLOAT32 = Product(torch.float32)
module = importlib.import_module("codiemb.mining.top_k")  # the package has a function of that name

# few small whole numbers: many documents are equal, and many more have equal scores; every product is exact
WHOLE = st.sampled_from([-1.0, 0.0, 1.0, 0.5])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ids_are_those_of_brute_force_with_ties_by_id(data):
    width = data.draw(st.integers(1, 3))
    documents = data.draw(npst.arrays(np.float32, (data.draw(st.integers(1, 90)), width), elements=WHOLE))
    queries = data.draw(npst.arrays(np.float32, (data.draw(st.integers(1, 7)), width), elements=WHOLE))
    k = data.draw(st.integers(1, len(documents)))
    blocks = Blocks(data.draw(st.integers(1, 8)), data.draw(st.integers(1, 100)))
    first = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "products", lambda device: [Product(first), FLOAT32])
        assert ids(top_k(queries, documents, k, blocks=blocks)) == brute_force(queries, documents, k)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scores_and_ids_are_exact_for_any_numbers_and_do_not_depend_on_blocks(dtype, numbers):
    rng = np.random.default_rng(0)
    queries, documents = unit(rng, 40).astype(dtype), unit(rng, 3_000).astype(dtype)
    expected = brute_force(queries, documents, 50)
    for blocks in (Blocks(), Blocks(1, 97), Blocks(7, 1_024), Blocks(40, 51)):
        found = top_k(queries, documents, 50, blocks=blocks)
        assert ids(found) == expected
        exact = (queries.astype(float)[found.query_C] * documents.astype(float)[found.document_C]).sum(axis=1)
        np.testing.assert_array_equal(found.score_C, exact.astype(np.float32))


def test_copies_of_a_document_are_one_tie_and_come_by_id(numbers):
    rng = np.random.default_rng(1)
    few = unit(rng, 30)
    documents = few[rng.integers(0, 30, 4_000)]  # 133 copies of each, and k ends among some
    queries = unit(rng, 20)
    found = top_k(queries, documents, 61, blocks=Blocks(16, 700))
    assert ids(found) == brute_force(queries, documents, 61)
    # rounding in a matrix product tells copies apart; where it does not on this machine, the claim is weaker
    assert all(len(set(scores.tolist())) == 1 for _, scores in found.rows())


def test_nearly_equal_documents_are_told_apart(numbers):
    """Neighbours closer than the rounding of a float32 product: its order is wrong, and ours is not."""
    rng = np.random.default_rng(2)
    documents = np.repeat(unit(rng, 1, 384), 2_000, axis=0)
    documents += rng.standard_normal(documents.shape).astype(np.float32) * 2e-9
    query = unit(rng, 3, 384)
    assert ids(top_k(query, documents, 40, blocks=Blocks(3, 333))) == brute_force(query, documents, 40)
    rounded = torch.from_numpy(query) @ torch.from_numpy(documents).T
    assert rounded.topk(40, dim=1).indices.tolist() != brute_force(query, documents, 40)


def test_a_sorted_corpus_where_every_document_beats_those_before(numbers):
    documents = np.linspace(0.1, 1, 5_000, dtype=np.float32)[:, None] * np.float32([[0.6, 0.8]])
    query = np.float32([[0.6, 0.8], [1, 0]])
    assert ids(top_k(query, documents, 5, blocks=Blocks(2, 500))) == brute_force(query, documents, 5)


def test_a_memory_mapped_file_is_searched_as_an_array_is(tmp_path):
    rng = np.random.default_rng(3)
    queries, documents = unit(rng, 9), unit(rng, 400)
    np.save(tmp_path / "documents.npy", documents)
    mapped = np.load(tmp_path / "documents.npy", mmap_mode="r")
    assert ids(top_k(queries, mapped, 10)) == ids(top_k(queries, documents, 10))


def test_blocks_of_results_join_to_the_whole_and_a_search_can_start_in_the_middle():
    rng = np.random.default_rng(4)
    queries, documents = unit(rng, 25), unit(rng, 300)
    whole = top_k(queries, documents, 7)
    parts = list(top_k_blocks(queries, documents, 7, blocks=Blocks(10, 64), first_query=10))
    assert [part.first_query for part in parts] == [10, 20]
    assert np.concatenate([part.query_C for part in parts]).tolist() == whole.query_C[70:].tolist()
    assert np.concatenate([part.document_C for part in parts]).tolist() == whole.document_C[70:].tolist()
    assert whole.rank_C.tolist() == list(range(7)) * 25


def test_given_pairs_have_the_scores_and_ranks_of_the_search_bit_by_bit():
    rng = np.random.default_rng(5)
    queries, documents = unit(rng, 12, 384), unit(rng, 500, 384)
    found = top_k(queries, documents, 30)
    pick = rng.permutation(len(found.query_C))[:100]
    query_P, document_P = found.query_C[pick], found.document_C[pick]
    np.testing.assert_array_equal(pair_scores(queries, documents, query_P, document_P), found.score_C[pick])
    assert found.ranks_of(query_P, document_P).tolist() == found.rank_C[pick].tolist()
    worst = np.array([brute_force(queries[:1], documents, 500)[0][-1]])
    assert found.ranks_of(np.array([0]), worst).tolist() == [-1]
    assert found.ranks_of(np.array([99]), np.array([0])).tolist() == [-1]


def test_no_shortlist_is_trusted_that_is_too_short(monkeypatch, numbers):
    monkeypatch.setattr(Product, "room", lambda self, k: k)
    rng = np.random.default_rng(6)
    queries, documents = unit(rng, 6), unit(rng, 200)
    assert ids(top_k(queries, documents, 9)) == brute_force(queries, documents, 9)


def test_no_computed_score_is_further_from_the_exact_one_than_the_floor_allows(product):
    """Whatever is left out below a floor is in truth below the k-th, with the vectors that round worst."""
    rng = np.random.default_rng(9)
    documents = unit(rng, 600, 384) * np.float32(rng.uniform(0.5, 2, (600, 1)))
    queries = np.concatenate([unit(rng, 20, 384), documents[:20]])
    exact = (queries.astype(float) @ documents.astype(float).T).astype(np.float32)
    ((_, computed),) = product.scores(queries, documents, 600, CPU)
    computed = computed.float().numpy()
    for k in (1, 10, 100):
        kth = -np.sort(-computed, axis=1)[:, k - 1]
        extent, longest = product.extent(queries), greatest(product, documents, 100)
        left_out = computed < product.floor(kth, extent, longest, 384)[:, None]
        true_kth = -np.sort(-exact, axis=1)[:, k - 1]
        assert left_out.any()
        assert not (left_out & (exact >= true_kth[:, None])).any()


def test_numbers_that_a_product_takes_for_zero_change_nothing(numbers):
    rng = np.random.default_rng(10)
    documents = unit(rng, 300, 64) * np.float32(10.0) ** rng.integers(-42, 1, (300, 1)).astype(np.float32)
    queries = unit(rng, 5, 64) * np.float32([[1e-30], [1e-20], [1], [1e-38], [1e-44]])
    assert ids(top_k(queries, documents, 20)) == brute_force(queries, documents, 20)


def test_a_faster_setting_for_matrix_products_changes_nothing():
    rng = np.random.default_rng(7)
    queries, documents = unit(rng, 8, 384), unit(rng, 2_000, 384)
    torch.set_float32_matmul_precision("medium")
    try:
        assert ids(top_k(queries, documents, 40)) == brute_force(queries, documents, 40)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.requires_gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="2026-11-27: needs a CUDA device, and there is none"
)
def test_a_card_finds_what_the_processor_finds():
    rng = np.random.default_rng(8)
    queries, documents = unit(rng, 50, 384), unit(rng, 20_000, 384)
    card, processor = (top_k(queries, documents, 61, device=device) for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(card.document_C, processor.document_C)
    np.testing.assert_array_equal(card.score_C, processor.score_C)


def broken(row):
    rows = np.eye(4, dtype=np.float32)
    rows[2] = row
    return rows


@pytest.mark.parametrize(
    ("query", "document", "k", "message"),
    [
        (np.eye(4), np.eye(4), 5, r"k=5 documents a query are asked for, of a corpus of 4; take 1 to 4"),
        (np.eye(4), np.eye(4), 0, r"k=0"),
        (np.eye(3), np.eye(4), 1, r"shape \(3, 3\) do not fit document embeddings of shape \(4, 4\)"),
        (np.eye(4), broken([np.nan, 0, 0, 0]), 1, r"document embeddings in rows 2 hold NaN"),
        (broken([np.inf, 0, 0, 0]), np.eye(4), 1, r"query embeddings in rows 2 hold NaN"),
        (np.eye(4), broken([1e30, 0, 0, 0]), 1, r"document embeddings in rows 2 hold NaN, infinity or huge"),
    ],
)
def test_what_cannot_be_searched_is_one_error(query, document, k, message):
    with pytest.raises(UserError, match=message):
        top_k(query.astype(np.float32), document.astype(np.float32), k)


@pytest.mark.parametrize("row", [[np.nan, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
def test_embeddings_that_are_not_of_length_one_are_refused_with_their_row(row):
    with pytest.raises(UserError, match=r"corpus\.npy: .* row 2 has length (nan|2|0);"):
        refuse_unfit(broken(row), "corpus.npy")
    refuse_unfit(np.eye(4, dtype=np.float16), "corpus.npy")
