"""How InfoNCE is computed: gradients, memory, matrix products, precision."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from codiemb.losses import InfoNCE
from tests.support import oracles
from tests.support.batches import assert_same, make_batch, value_and_gradients
from tests.support.ragged import OPTIONS, ragged_batch


def test_gradient_agrees_with_finite_differences():
    batch = ragged_batch(dim=3)
    gte = {"document_document": True, "document_query": True, "positive_twice": True}
    loss = InfoNCE(0.2, other_positives="aligned", symmetric=True, chunk_rows=5, **gte)
    inputs = (batch.query_BD.clone().requires_grad_(), batch.document_ND.clone().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda q, d: loss(batch._replace(query_BD=q, document_ND=d)).value, inputs
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_negatives_left_gives_a_constant_with_a_graph_and_no_nan(options, dtype):
    alone = make_batch([(2, 0)], dtype=dtype)
    value, gradients = value_and_gradients(lambda b: InfoNCE(**options)(b).value, alone)
    assert value == pytest.approx(math.log(2) if "positive_twice" in options else 0)
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
