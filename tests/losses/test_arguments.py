"""What a loss cannot be built with, it names, argument and value, whatever kind of thing a config holds."""

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
from torch import nn

from codiemb.losses import (
    PRO,
    AnglE,
    CoSENT,
    DistillKL,
    Graded,
    InfoNCE,
    ListNet,
    MarginMSE,
    Matryoshka,
    MidLayerInfoNCE,
    Pearson,
    RankKL,
    TokenPrediction,
    Ungraded,
    WeightedSum,
)

NAN, INF = float("nan"), float("inf")
NO_NUMBERS = [NAN, INF, -INF, True, "0.05", "much", [0.05], {}, 10**400]
TEMPERATURES = [*NO_NUMBERS, None, 0, 0.0, -1, -0.05, False]
COUNTS = [*NO_NUMBERS[:-1], None, 0, -1, 0.5, 1.0, 1e9]
NO_FLAGS = [None, 0, 1, "yes", "false", NAN, []]
IMPOSSIBLE = {
    **{(loss, "temperature"): TEMPERATURES for loss in (InfoNCE, MidLayerInfoNCE, RankKL, ListNet)},
    **{(loss, "temperature"): TEMPERATURES for loss in (CoSENT, AnglE, PRO, DistillKL, MarginMSE)},
    (DistillKL, "teacher_temperature"): TEMPERATURES,
    **{(loss, "chunk_rows"): COUNTS for loss in (InfoNCE, MidLayerInfoNCE, TokenPrediction)},
    **{(loss, "mask_false_negatives"): NO_FLAGS for loss in (InfoNCE, MidLayerInfoNCE)},
    (InfoNCE, "in_batch"): NO_FLAGS,
    (InfoNCE, "symmetric"): NO_FLAGS,
    (InfoNCE, "query_query"): NO_FLAGS,
    (InfoNCE, "document_document"): NO_FLAGS,
    (InfoNCE, "document_query"): NO_FLAGS,
    (InfoNCE, "positive_twice"): NO_FLAGS,
    (InfoNCE, "other_positives"): [None, "some", 1, ["all"], True],
    (InfoNCE, "margin_percent"): [*NO_NUMBERS, 95, 1.01, 0, -1, -0.95, False],
    (InfoNCE, "margin_absolute"): [*NO_NUMBERS, 2, -2.0, 95],
    (MidLayerInfoNCE, "min_score"): [*NO_NUMBERS, None, 1.5, -0.1, 5],
    (Pearson, "eps"): [*TEMPERATURES, 0.5, 1],
}


@pytest.fixture
def _as_in_a_run() -> Iterator[None]:
    """Without the checks of annotations, which tests have and runs have not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_as_in_a_run")
@pytest.mark.parametrize(("loss", "name"), IMPOSSIBLE, ids=lambda x: getattr(x, "__name__", x))
def test_an_impossible_argument_is_named_with_its_value(loss: type[nn.Module], name: str) -> None:
    for value in IMPOSSIBLE[loss, name]:
        with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is looked at
            loss(**{name: value})
        assert str(error.value).startswith(f"{name} must be ")
        assert str(error.value).endswith(f"got {value!r}")


@pytest.mark.usefixtures("_as_in_a_run")
@pytest.mark.parametrize(
    "dims", [[], [0], [8, 8], [8.0], [8, 0.5], [True], ["8"], [NAN], 8, "8", None, {8: 1}, [[8]]], ids=str
)
def test_impossible_widths_are_named(dims: object) -> None:
    with pytest.raises(ValueError, match=r"^dims must be a list of different integers of at least 1, got "):
        Matryoshka(CoSENT(), dims)


@pytest.mark.usefixtures("_as_in_a_run")
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "weights must be a list of 2"),
        (1.0, "weights must be a list of 2"),
        ("11", "weights must be a list of 2"),
        ({"a": 1, "b": 1}, "weights must be a list of 2"),
        ([1.0, NAN], "the weight of dim_4 must be finite and not negative, got nan"),
        ([INF, 1.0], "the weight of dim_8 must be finite and not negative, got inf"),
        ([-1, 1.0], "the weight of dim_8 must be finite and not negative, got -1"),
        ([1.0, True], "the weight of dim_4 must be finite and not negative, got True"),
        (["1", 1.0], "the weight of dim_8 must be finite and not negative, got '1'"),
        ([0, 0], "at least one term with a weight above 0"),
    ],
)
def test_impossible_weights_are_named(weights: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Matryoshka(CoSENT(), [8, 4], weights)
    if isinstance(weights, list) and len(weights) == 2:
        with pytest.raises(ValueError, match=message.replace("dim_", "term_")):
            WeightedSum({f"term_{dim}": (w, CoSENT()) for dim, w in zip((8, 4), weights, strict=True)})


@pytest.mark.usefixtures("_as_in_a_run")
@pytest.mark.parametrize("inner", [None, 5, {"temperature": 1}, "InfoNCE", InfoNCE], ids=str)
def test_what_wraps_a_loss_wraps_nothing_else(inner: object) -> None:
    for wrap in (Graded, Ungraded, lambda loss: Matryoshka(loss, [8])):
        with pytest.raises(ValueError, match=r"^loss must be a loss, a node with a _target_, got "):
            wrap(inner)


@pytest.mark.usefixtures("_as_in_a_run")
def test_every_number_that_is_one_will_do() -> None:
    """YAML has integers where a float is meant, and a sweep may bring numbers of numpy."""
    assert InfoNCE(1, chunk_rows=np.int64(7)).chunk_rows == 7
    assert CoSENT(np.float32(0.5)).temperature == 0.5
    assert InfoNCE(margin_percent=1, margin_absolute=-1).margins == (-1.0, 1.0)
    assert MidLayerInfoNCE(min_score=0).min_score == 0
    assert Matryoshka(CoSENT(), (np.int64(8), 4), (1, 0)).dims == (8, 4)
