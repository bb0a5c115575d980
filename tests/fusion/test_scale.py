"""A scale keeps a share of the way from the base: of one checkpoint or a fusion, of all tensors or each."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from codiemb.fusion import FUSION_FILE, FusionSpec, fuse
from codiemb.fusion.scale import scales_of
from codiemb.fusion.weights import TensorReport, fuse_tensor
from tests.support.family import weights_of


def states(*folders):
    return [{name: t.double().numpy() for name, t in weights_of(folder).items()} for folder in folders]


def assert_is(folder, expected):
    found = weights_of(folder)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].double().numpy(), values, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.9])
def test_one_checkpoint_and_its_base_are_averaged(family, children, tmp_path, scale):
    fused = fuse([children[1]], tmp_path / "fused", FusionSpec(scale=scale), base=family / "base")
    base, child = states(family / "base", children[1])
    assert_is(fused, {name: (1 - scale) * base[name] + scale * child[name] for name in base})
    record = json.loads((fused / FUSION_FILE).read_text("utf-8"))
    assert record["options"]["scale"] == scale
    assert set(record["scales"].values()) == {scale}
    assert [row["weight"] for row in record["checkpoints"]] == [1.0]


def test_the_ends_are_the_base_and_the_checkpoint_bit_for_bit(family, children, tmp_path):
    for scale, folder in ((0.0, family / "base"), (1.0, children[2])):
        for exponent in (0.0, 1.0, -1.0):
            spec = FusionSpec(scale=scale, scale_exponent=exponent)
            fused = weights_of(fuse([children[2]], tmp_path / "fused", spec, base=family / "base"))
            assert all(torch.equal(fused[name], tensor) for name, tensor in weights_of(folder).items())


def test_a_scale_goes_on_top_of_the_weights_of_several_checkpoints(family, children, tmp_path):
    spec = FusionSpec("weighted", weights=[2.0, 1.0, 1.0], scale=0.4)
    fused = fuse(children, tmp_path / "fused", spec, base=family / "base")
    base, *others = states(family / "base", *children)
    shares = (0.5, 0.25, 0.25)
    assert_is(
        fused,
        {
            name: base[name]
            + 0.4 * sum(w * (o[name] - base[name]) for w, o in zip(shares, others, strict=True))
            for name in base
        },
    )


@pytest.mark.parametrize("exponent", [1.0, -0.5])
def test_a_tensors_own_scale_is_the_formulas(family, children, tmp_path, exponent):
    """scale^((r_t / r)^exponent), with root mean squares of the soup's change, in plain loops over numpy."""
    spec = FusionSpec("uniform", scale=0.6, scale_exponent=exponent)
    fused = fuse(children[:2], tmp_path / "fused", spec, base=family / "base")
    base, *others = states(family / "base", *children[:2])
    change = {name: sum(other[name] - base[name] for other in others) / 2 for name in base}
    overall = math.sqrt(sum((c**2).sum() for c in change.values()) / sum(c.size for c in change.values()))
    scale = {n: 0.6 ** ((math.sqrt((c**2).mean()) / overall) ** exponent) for n, c in change.items()}
    assert max(scale.values()) - min(scale.values()) > 1e-3  # so that it says something
    assert_is(fused, {name: base[name] + scale[name] * change[name] for name in base})
    recorded = json.loads((fused / FUSION_FILE).read_text("utf-8"))["scales"]
    assert recorded == pytest.approx(scale, abs=1e-5)


def test_half_precision_is_rounded_once():
    base = torch.linspace(-1, 1, 12).reshape(3, 4)
    theta = (base + 0.01 * torch.arange(12).reshape(3, 4)).bfloat16()
    fused, _ = fuse_tensor(FusionSpec(), base, [theta], 0.3)
    expected = base.double() + 0.3 * (theta.double() - base.double())
    assert torch.equal(fused, expected.bfloat16())


def report(mean_square: float, entries: int) -> TensorReport:
    empty = torch.zeros(1, dtype=torch.float64)
    return TensorReport(entries, empty, empty, empty, 0.0, mean_square * entries)


@given(
    mean_squares=st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1e300)), min_size=1, max_size=4),
    scale=st.floats(1e-3, 0.999),
    exponent=st.floats(-300, 300).filter(bool),
)
@example([0.0, 3.352032812139893e16, 3.352032812139893e16], 0.5, 1.0)
def test_scales_lie_in_0_to_1_and_follow_the_size_of_the_change(mean_squares, scale, exponent):
    spec = FusionSpec(scale=scale, scale_exponent=exponent)
    reports = {str(n): report(square, 3 + n) for n, square in enumerate(mean_squares)}
    scales = scales_of(spec, reports)
    # of the means as they can be read back: from a sum over 5 entries one may differ in its last bit
    means = {name: each.squared_change / each.num_entries for name, each in reports.items()}
    moved = sorted((mean, scales[name]) for name, mean in means.items() if mean)
    assert all(0 <= value <= 1 for value in scales.values())
    values = [value for _, value in moved]
    assert values == sorted(values, reverse=exponent > 0)
    flat = scales_of(replace(spec, scale_exponent=0.0), {"a": report(2.0, 3), "b": report(5.0, 7)})
    assert set(flat.values()) == {scale}
