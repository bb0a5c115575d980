"""The fused tensor is the formula's, computed anew in plain float64 loops, its limits included."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.fusion import weights
from codiemb.fusion.method import FusionSpec
from codiemb.fusion.weights import delta_weights, fuse_tensor

EXPONENTS = [-math.inf, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, math.inf]
SHAPES = [(5, 4), (6,), (), (3, 2, 2)]


def shares(sizes: list[float], exponent: float) -> list[float]:
    """size^p / sum_j size_j^p, and at its poles the limit as the offending sizes go there together."""
    if exponent == 0:
        return [1 / len(sizes)] * len(sizes)
    if math.isinf(exponent):
        winner = max(sizes) if exponent > 0 else min(sizes)
    elif max(sizes) == 0 or (exponent < 0 and min(sizes) == 0):
        winner = 0.0
    else:
        powers = [size**exponent for size in sizes]
        return [power / sum(powers) for power in powers]
    return [(size == winner) / sizes.count(winner) for size in sizes]


def norm_of(values: np.ndarray, norm: str) -> float:
    magnitudes = [abs(float(value)) for value in values.ravel()]
    return {
        "l1": math.fsum(magnitudes),
        "l2": math.sqrt(math.fsum(m * m for m in magnitudes)),
        "max": max(magnitudes),
    }[norm]


def oracle(spec: FusionSpec, base: np.ndarray, thetas: list[np.ndarray]) -> np.ndarray:
    """theta_0 + sum_k w_k delta_k, entry by entry."""
    fused = np.array(base)
    for entry in np.ndindex(base.shape):
        group = {"tensor": (), "row": entry[:1], "element": entry}[spec.granularity]
        sizes = [norm_of(theta[group] - base[group], spec.norm) for theta in thetas]
        for share, theta in zip(shares(sizes, spec.exponent), thetas, strict=True):
            fused[entry] += share * (theta[entry] - base[entry])
    return fused


def some_tensors(shape, dtype, seed=0):
    """A base and three checkpoints; here and there one, two or all of them have not moved, or equally far."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator)
    deltas = [torch.randn(shape, generator=generator) * scale for scale in (0.1, 0.3, 1.0)]
    if shape:
        deltas[0][0] = 0.0  # one
        deltas[0][1] = deltas[1][1] = 0.0  # two
        for delta in deltas:
            delta[2] = 0.0  # all
        deltas[1][-1] = -deltas[2][-1]  # a tie
    if len(shape) > 1:
        deltas[2][-1, 0] = 0.0  # an element
    return base.to(dtype), [(base + delta).to(dtype) for delta in deltas]


def as_numpy(tensor):
    return tensor.double().numpy()


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("granularity", ["tensor", "row", "element"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_a_fused_tensor_is_the_formulas(exponent, granularity, norm):
    spec = FusionSpec("delta", exponent, granularity, norm)
    for shape, dtype in itertools.product(SHAPES, [torch.float32, torch.float64]):
        base, thetas = some_tensors(shape, dtype)
        fused, _ = fuse_tensor(spec, base, thetas)
        assert (fused.shape, fused.dtype) == (shape, dtype)
        expected = oracle(spec, as_numpy(base), [as_numpy(theta) for theta in thetas])
        tolerance = 1e-12 if dtype == torch.float64 else 1e-7
        np.testing.assert_allclose(as_numpy(fused), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("granularity", ["tensor", "row", "element"])
def test_half_precision_is_rounded_once_at_the_end(granularity):
    spec = FusionSpec("delta", 1.0, granularity)
    base, thetas = some_tensors((5, 4), torch.bfloat16)
    fused, _ = fuse_tensor(spec, base.float(), thetas)  # the base may be of another dtype
    expected = oracle(spec, as_numpy(base), [as_numpy(theta) for theta in thetas])
    assert torch.equal(fused, torch.from_numpy(expected).to(torch.bfloat16))


def test_a_large_tensor_is_fused_in_blocks_with_the_same_result(monkeypatch):
    base, thetas = some_tensors((23, 4), torch.float32)
    for granularity, norm in itertools.product(["tensor", "row", "element"], ["l1", "l2", "max"]):
        spec = FusionSpec("delta", 0.7, granularity, norm)
        whole, report = fuse_tensor(spec, base, thetas)
        monkeypatch.setattr(weights, "_BLOCK_ENTRIES", 9)  # two rows
        parts, report_of_parts = fuse_tensor(spec, base, thetas)
        monkeypatch.undo()
        torch.testing.assert_close(parts, whole, rtol=1e-7, atol=0)
        torch.testing.assert_close(report_of_parts, report, rtol=1e-12, atol=1e-12)


@given(
    sizes=st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1e300)), min_size=2, max_size=4),
    exponent=st.one_of(st.floats(-300, 300), st.sampled_from([math.inf, -math.inf])),
)
@settings(max_examples=300, deadline=None)
def test_weights_are_shares_whatever_the_sizes_and_follow_the_sign_of_the_exponent(sizes, exponent):
    share_K = delta_weights(torch.tensor(sizes, dtype=torch.float64)[:, None, None], exponent).flatten()
    assert float(share_K.sum()) == pytest.approx(1, abs=1e-12)
    assert bool(((share_K >= 0) & (share_K <= 1)).all())
    for (size_a, share_a), (size_b, share_b) in itertools.combinations(
        zip(sizes, share_K.tolist(), strict=True), 2
    ):
        if size_a == size_b or exponent == 0:
            assert share_a == share_b
        elif (size_a > size_b) == (exponent > 0):
            assert share_a >= share_b
        else:
            assert share_a <= share_b


def test_weights_depend_on_the_ratio_of_the_sizes_alone():
    size_KRC = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(
        delta_weights(size_KRC, 1.0).flatten(), torch.tensor([1, 2, 4]).double() / 7, rtol=1e-15, atol=0
    )
    assert torch.equal(delta_weights(size_KRC * 2.0**-900, 3.0), delta_weights(size_KRC, 3.0))


# Exact cases


@pytest.mark.parametrize("granularity", ["tensor", "row", "element"])
def test_the_only_checkpoint_that_moved_is_taken_whole_bit_for_bit(granularity):
    base, thetas = some_tensors((40, 30), torch.float32)
    for exponent in (0.5, 1.0, 2.0, math.inf):
        fused, report = fuse_tensor(FusionSpec("delta", exponent, granularity), base, [base, thetas[2], base])
        moved = thetas[2]
        assert torch.equal(fused, moved)
        assert report.weight_K[1] == report.weight_K.max()


@pytest.mark.parametrize("granularity", ["tensor", "row", "element"])
def test_with_a_negative_exponent_a_checkpoint_that_did_not_move_keeps_the_base_bit_for_bit(granularity):
    base, thetas = some_tensors((40, 30), torch.float32)
    for exponent in (-0.5, -1.0, -math.inf):
        fused, _ = fuse_tensor(FusionSpec("delta", exponent, granularity), base, [thetas[1], base, thetas[2]])
        assert torch.equal(fused, base)


@pytest.mark.parametrize(
    "spec",
    [
        *(FusionSpec("delta", p, g) for p in (-1.0, 0.0, 1.5) for g in ("tensor", "row", "element")),
        FusionSpec("uniform"),
        FusionSpec("weighted", weights=[0.3, 0.1, 7.0]),
    ],
)
def test_fusing_copies_of_one_checkpoint_gives_it_back_bit_for_bit(spec):
    base, thetas = some_tensors((40, 30), torch.float32)
    assert torch.equal(fuse_tensor(spec, base, [thetas[1]] * 3)[0], thetas[1])


@pytest.mark.parametrize("granularity", ["tensor", "row", "element"])
def test_exponent_zero_is_the_uniform_soup_bit_for_bit(granularity):
    base, thetas = some_tensors((40, 30), torch.float32)
    soup, _ = fuse_tensor(FusionSpec("uniform"), base, thetas)
    assert torch.equal(fuse_tensor(FusionSpec("delta", 0.0, granularity), base, thetas)[0], soup)
    np.testing.assert_allclose(soup, np.mean([as_numpy(t) for t in thetas], axis=0), rtol=1e-7, atol=1e-8)


def test_a_weighted_average_takes_the_ratios_of_its_weights():
    _, thetas = some_tensors((40, 30), torch.float32)
    fused, report = fuse_tensor(FusionSpec("weighted", weights=[1.0, 0.0, 3.0]), thetas[0], thetas)
    expected = np.average([as_numpy(t) for t in thetas], axis=0, weights=[1, 0, 3])
    np.testing.assert_allclose(fused, expected, rtol=1e-7, atol=1e-8)
    assert report.weight_K.tolist() == [0.25, 0.0, 0.75]


def test_granularities_differ_where_checkpoints_moved_different_parts():
    """Checkpoint 1 moved row 0 far, checkpoint 2 row 1: row by row each decides its own."""
    base = torch.zeros(2, 2)
    one, two = torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])

    def fused(granularity):
        return fuse_tensor(FusionSpec("delta", 1.0, granularity), base, [one, two])[0]

    torch.testing.assert_close(fused("element"), torch.tensor([[4.0, 2.0], [3.0, 1.0]]))
    torch.testing.assert_close(fused("row"), torch.tensor([[4 * 4 / 6, 2 * 2 / 6], [3 * 3 / 4, 1 / 4]]))
    a, b = math.sqrt(17), math.sqrt(13)
    tensor = torch.tensor([[4 * a, 2 * b], [3 * b, a]]) / (a + b)
    torch.testing.assert_close(fused("tensor"), tensor)


def test_the_report_tells_mean_weights_and_deviations():
    base, thetas = some_tensors((5, 4), torch.float64)
    _, report = fuse_tensor(FusionSpec("delta", 1.0, "element"), base, thetas)
    deltas = [as_numpy(theta) - as_numpy(base) for theta in thetas]
    means = np.mean([shares([abs(float(d[e])) for d in deltas], 1.0) for e in np.ndindex(5, 4)], axis=0)
    np.testing.assert_allclose(report.weight_K, means, rtol=1e-12)
    np.testing.assert_allclose(report.squared_delta_K, [(d * d).sum() for d in deltas], rtol=1e-12)
    np.testing.assert_allclose(
        report.delta_dot_origin_K, [(d * as_numpy(base)).sum() for d in deltas], rtol=1e-10
    )
    assert report.squared_origin == pytest.approx((as_numpy(base) ** 2).sum())
    assert report.num_entries == 20


def test_a_tensor_without_entries_stays_one():
    for shape in [(0,), (0, 3), (3, 0)]:
        for granularity in ("tensor", "row", "element"):
            fused, _ = fuse_tensor(
                FusionSpec("delta", 1.0, granularity), torch.zeros(shape), [torch.zeros(shape)] * 2
            )
            assert fused.shape == shape
