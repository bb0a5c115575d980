"""InfoNCE against loops over its formula, and the claims of its docstring one by one."""

import itertools

import oracles
import pytest
import torch
from batches import assert_same, make_batch, value_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from codiemb.losses import InfoNCE

RAGGED = [(1, 2), (3, 0), (2, 4), (1, 0), (2, 1)]
OPTIONS = {
    "aligned": {"other_positives": "aligned"},
    "unmasked": {"mask_false_negatives": False},
    "margin_absolute": {"margin_absolute": 0.1},
    "margin_percent": {"margin_percent": 0.8},
    "out_of_batch": {"in_batch": False},
    "symmetric": {"symmetric": True},
    "query_query": {"query_query": True},
    "document_document": {"document_document": True},
}


def ragged_batch(**options):
    """Five ragged groups with every kind of duplicate a text can have.

    The positive of query 0 is a hard negative of query 2 (document 8) and the positive of query 3 (12); query
    4 has the text of query 1; documents 9 and 14 have the texts of queries 2 and 3.
    """
    hashes = [1000 + k for k in range(16)]
    hashes[8], hashes[12], hashes[9], hashes[14] = 1000, 1000, 2, 3
    return make_batch(RAGGED, document_hash=hashes, query_hash=[0, 1, 2, 3, 1], **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_option_equals_its_formula_and_changes_the_loss(options):
    batch = ragged_batch()
    value = assert_same(InfoNCE(0.1, **options), lambda b: oracles.info_nce(b, 0.1, **options), batch)
    assert abs(value - InfoNCE(0.1)(batch).value) > 1e-4


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("chosen", [(), *itertools.combinations(OPTIONS, 2)], ids="+".join)
def test_options_combine_as_their_formulas_do(chosen, seed):
    options = {key: value for name in chosen for key, value in OPTIONS[name].items()}
    if "out_of_batch" in chosen and {"symmetric", "query_query"} & set(chosen):
        with pytest.raises(ValueError, match="in_batch"):
            InfoNCE(**options)
        return
    assert_same(
        InfoNCE(0.1, **options), lambda b: oracles.info_nce(b, 0.1, **options), ragged_batch(seed=seed)
    )


def test_all_options_at_once_equal_the_formula():
    options = {k: v for name in OPTIONS if name != "out_of_batch" for k, v in OPTIONS[name].items()}
    options["mask_false_negatives"] = True
    assert_same(InfoNCE(0.1, **options), lambda b: oracles.info_nce(b, 0.1, **options), ragged_batch())


def test_aligned_is_the_published_formula_on_rectangular_groups():
    num_queries, num_positives, num_negatives, tau = 4, 2, 3, 0.05
    batch = make_batch([(num_positives, num_negatives)] * num_queries)

    def published(b):
        grouped = b.document_ND.view(num_queries, num_positives + num_negatives, -1)
        hard = grouped[:, num_positives:].flatten(0, 1)
        target = torch.arange(num_queries)
        per_place = [
            cross_entropy(b.query_BD @ torch.cat([grouped[:, m], hard]).T / tau, target)
            for m in range(num_positives)
        ]
        return torch.stack(per_place).mean()

    assert_same(InfoNCE(tau, other_positives="aligned"), published, batch)


def test_one_positive_without_negatives_is_in_batch_cross_entropy():
    batch = make_batch([(1, 0)] * 6)
    assert_same(
        InfoNCE(0.05),
        lambda b: cross_entropy(b.query_BD @ b.document_ND.T / 0.05, torch.arange(6)),
        batch,
    )


def test_gradient_agrees_with_finite_differences():
    batch = ragged_batch(dim=3)
    loss = InfoNCE(0.2, other_positives="aligned", symmetric=True, document_document=True, chunk_rows=5)
    inputs = (batch.query_BD.clone().requires_grad_(), batch.document_ND.clone().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda q, d: loss(batch._replace(query_BD=q, document_ND=d)).value, inputs
    )


def test_own_other_positives_are_no_negatives():
    batch = make_batch([(4, 0), (1, 0)])
    _, before = value_and_gradients(lambda b: InfoNCE(0.1)(b).value, batch)
    alone = make_batch([(4, 0)])
    assert InfoNCE(0.1)(alone).value == 0
    assert before["document_ND"].abs().sum() > 0


def test_a_duplicate_of_the_positive_leaves_the_denominator_and_the_positive_stays():
    hashes = [1000, 1001, 1002]
    clean = make_batch([(1, 1), (1, 0)], document_hash=hashes)
    # query 1 brings query 0's positive as its hard negative
    soiled = make_batch([(1, 1), (1, 1)], document_hash=[*hashes, 1000])
    soiled = soiled._replace(
        query_BD=clean.query_BD, document_ND=torch.cat([clean.document_ND, clean.document_ND[:1]])
    )
    tau = 0.2

    def first_query(batch):
        pairs = InfoNCE(tau).pair_losses(batch, torch.ones_like(batch.document_ND[:, 0]))
        return pairs.loss_P[pairs.owner_P == 0]

    torch.testing.assert_close(first_query(soiled), first_query(clean))
    assert first_query(clean) > 0
    s = clean.query_BD @ clean.document_ND.T / tau
    torch.testing.assert_close(first_query(clean)[0], torch.logsumexp(s[0], 0) - s[0, 0])
    # for query 1 the same text is an honest negative
    pairs = InfoNCE(tau).pair_losses(soiled, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(pairs.loss_P[1], torch.logsumexp(s[1, [0, 1, 2, 0]], 0) - s[1, 2])


def test_positives_of_another_query_with_the_same_text_are_no_negatives():
    twins = make_batch([(1, 0), (1, 0)], query_hash=[5, 5])
    assert InfoNCE(0.1)(twins).value == 0
    assert InfoNCE(0.1, mask_false_negatives=False)(twins).value > 0.1


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_negatives_left_gives_zero_with_a_graph_and_no_nan(options, dtype):
    alone = make_batch([(2, 0)], dtype=dtype)
    value, gradients = value_and_gradients(lambda b: InfoNCE(**options)(b).value, alone)
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients.values())
    logs = InfoNCE(**options)(alone).logs
    assert all(log.isfinite() for log in logs.values())
    assert logs["accuracy@1"] == 1


def test_a_row_without_negatives_beside_rows_with_them_adds_zero():
    batch = make_batch([(1, 0), (1, 3)])
    loss = InfoNCE(0.1, in_batch=False)
    value, gradients = value_and_gradients(lambda b: loss(b).value, batch)
    assert value > 0
    assert (gradients["query_BD"][0] == 0).all()
    assert gradients["query_BD"][1].abs().sum() > 0


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 7])
@pytest.mark.parametrize("options", [{}, {"other_positives": "aligned"}, {"symmetric": True}], ids=str)
def test_chunked_equals_unchunked(chunk_rows, options):
    batch = ragged_batch()
    whole = InfoNCE(chunk_rows=1000, **options)
    assert_same(InfoNCE(chunk_rows=chunk_rows, **options), lambda b: whole(b).value, batch, tolerance=1e-12)


class LargestTensor(TorchDispatchMode):
    """Records the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def largest_tensor(loss, batch):
    with LargestTensor() as largest:
        value_and_gradients(lambda b: loss(b).value, batch)
    return largest.numel


@pytest.mark.parametrize("options", [{}, {"other_positives": "aligned"}], ids=str)
def test_no_tensor_of_queries_times_documents_exists_at_any_moment(options):
    num_queries, chunk_rows = 64, 4
    batch = make_batch([(1, 1)] * num_queries, dim=4)
    # the widest is the lookup table of a chunk: rows x distinct texts (documents and queries)
    assert (
        largest_tensor(InfoNCE(chunk_rows=chunk_rows, **options), batch) <= (chunk_rows + 1) * 3 * num_queries
    )
    assert largest_tensor(InfoNCE(chunk_rows=num_queries, **options), batch) >= num_queries * 2 * num_queries


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_queries_times_documents():
    saved = []
    batch = make_batch([(1, 1)] * 128, dim=4)
    batch = batch._replace(query_BD=batch.query_BD.requires_grad_())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        InfoNCE(chunk_rows=16)(batch)
    assert 0 < max(saved) <= 256 * 4


class MatrixProducts(TorchDispatchMode):
    """Adds up the multiplications in products of matrices."""

    def __init__(self):
        super().__init__()
        self.multiplications = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            a, b = args[-2:]
            self.multiplications += a.shape[0] * a.shape[1] * b.shape[1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("chunk_rows", [3, 64])
def test_a_step_costs_three_products_of_queries_documents_and_width_and_a_value_one(chunk_rows):
    batch, size = make_batch([(1, 1)] * 64, dim=4), 64 * 128 * 4
    loss = InfoNCE(chunk_rows=chunk_rows)
    with MatrixProducts() as products, torch.no_grad():
        loss(batch)
    assert products.multiplications == size
    with MatrixProducts() as products:
        value_and_gradients(lambda b: loss(b).value, batch)
    assert products.multiplications == 3 * size


def test_positives_share_the_row_of_their_query():
    batch, size = make_batch([(3, 1)] * 8, dim=4), 8 * 32 * 4
    with MatrixProducts() as products:
        value_and_gradients(lambda b: InfoNCE()(b).value, batch)
    assert products.multiplications == 3 * size


def test_a_retained_graph_gives_its_gradient_again_and_a_scaled_one():
    batch = ragged_batch()
    query_BD = batch.query_BD.requires_grad_()
    value = InfoNCE(0.1, symmetric=True, chunk_rows=2)(batch).value
    (first,) = torch.autograd.grad(value, query_BD, retain_graph=True)
    kept = first.clone()
    (third,) = torch.autograd.grad(value / 3, query_BD)
    torch.testing.assert_close(third, kept / 3, rtol=1e-12, atol=0)
    assert torch.equal(first, kept), "the first gradient was written to again"


def test_a_second_derivative_is_refused():
    batch = ragged_batch()
    value = InfoNCE(0.1)(batch._replace(query_BD=batch.query_BD.requires_grad_())).value
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(value, batch.query_BD, create_graph=True)


@pytest.mark.parametrize("temperature", [0.01, 0.02])
def test_fp32_at_extreme_logits_stays_near_float64(temperature):
    batch = make_batch([(1, 2)] * 8, dtype=torch.float32, dim=3)
    batch = batch._replace(document_ND=batch.document_ND.clone())
    batch.document_ND[0] = -batch.query_BD[0]  # a positive at -1, logits from -100 to 100
    value, gradients = value_and_gradients(lambda b: InfoNCE(temperature)(b).value, batch)
    double = batch._replace(query_BD=batch.query_BD.double(), document_ND=batch.document_ND.double())
    expected, expected_gradients = value_and_gradients(lambda b: oracles.info_nce(b, temperature), double)
    assert value.dtype == torch.float32
    assert value > 1
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient.double(), expected_gradients[name], rtol=1e-3, atol=1e-4)


def test_bf16_embeddings_under_autocast_still_give_fp32_logits():
    batch = make_batch([(1, 2)] * 16, dtype=torch.bfloat16, dim=32)
    upcast = batch._replace(query_BD=batch.query_BD.float(), document_ND=batch.document_ND.float())

    def under_autocast(b):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return InfoNCE()(b).value

    value, gradients = value_and_gradients(under_autocast, batch)
    naive = cross_entropy((batch.query_BD @ batch.document_ND.T / 0.02).float(), torch.arange(0, 48, 3))
    expected, expected_gradients = value_and_gradients(lambda b: InfoNCE()(b).value, upcast)
    assert value.dtype == torch.float32
    assert value == expected
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected_gradients[name].to(torch.bfloat16))
    assert abs(naive - expected) > 1e-4, "bf16 logits would have been seen"


def test_without_gradient_the_value_is_the_same():
    batch = ragged_batch()
    expected, _ = value_and_gradients(lambda b: InfoNCE(0.1, chunk_rows=2)(b).value, batch)
    with torch.no_grad():
        value = InfoNCE(0.1, chunk_rows=2)(batch).value
    assert not value.requires_grad
    assert value == expected


def test_margins_are_constants_to_the_gradient_and_mask_by_similarity():
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    d = normalize(
        torch.tensor([[3.0, 4.0], [0.58, 0.8], [0.4, 0.9], [-1.0, 0.5]], dtype=torch.float64), dim=1
    )
    batch = make_batch([(1, 3)], dim=2)._replace(query_BD=q, document_ND=d)
    s = (d @ q[0]) / 0.5  # similarities 0.6, 0.587, 0.406, -0.894
    loss = InfoNCE(0.5, margin_absolute=0.1)
    torch.testing.assert_close(loss(batch).value, torch.logsumexp(s[[0, 2, 3]], 0) - s[0])
    loss = InfoNCE(0.5, margin_percent=0.5)
    torch.testing.assert_close(loss(batch).value, torch.logsumexp(s[[0, 3]], 0) - s[0])
    torch.testing.assert_close(loss(batch).logs["masked_share"], torch.tensor(2 / 3))
    both = InfoNCE(0.5, margin_absolute=0.1, margin_percent=0.5)
    torch.testing.assert_close(both(batch).value, loss(batch).value)


def test_logs_describe_the_batch():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    d = torch.tensor([[0.96, 0.28], [0.6, 0.8], [0.8, 0.6], [0.8, 0.6]])
    # query 0: positive 0, hard negative 1; query 1: positive 2, and the text of its positive again
    batch = make_batch([(1, 1), (1, 1)], document_hash=[10, 11, 12, 12], dim=2)
    logs = InfoNCE()(batch._replace(query_BD=q, document_ND=d)).logs
    assert set(logs) == {"masked_share", "positive_similarity", "hardest_negative_similarity", "accuracy@1"}
    # query 0 meets 0.6, 0.8, 0.8; query 1 meets 0.28 and 0.8, its third candidate is masked
    expected = {
        "masked_share": 1 / 6,
        "positive_similarity": (0.96 + 0.6) / 2,
        "hardest_negative_similarity": 0.8,
        "accuracy@1": 0.5,
    }
    for key, value in expected.items():
        assert not logs[key].requires_grad
        assert logs[key].item() == pytest.approx(value, abs=1e-6), key


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_the_order_of_queries_does_not_matter(groups, seed, data):
    batch = make_batch(groups, seed=seed)
    order = data.draw(st.permutations(range(len(groups))))
    documents = torch.cat([(batch.document_owner_N == i).nonzero().squeeze(1) for i in order])
    place = torch.empty(len(groups), dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(len(groups))
    shuffled = batch._replace(
        query_BD=batch.query_BD[order],
        query_hash_B=batch.query_hash_B[order],
        document_ND=batch.document_ND[documents],
        document_owner_N=place[batch.document_owner_N[documents]],
        document_is_positive_N=batch.document_is_positive_N[documents],
        document_hash_N=batch.document_hash_N[documents],
    )
    for options in ({}, {"other_positives": "aligned"}, {"symmetric": True}):
        loss = InfoNCE(0.1, **options)
        torch.testing.assert_close(loss(shuffled).value, loss(batch).value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"in_batch": False, "symmetric": True}, "in_batch"),
        ({"in_batch": False, "query_query": True}, "in_batch"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        InfoNCE(**arguments)
