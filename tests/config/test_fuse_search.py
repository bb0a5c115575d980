"""fuse.search tries its grids in order, scores each fusion once, and takes a scale that harms no task."""

import json

import pytest

from codiemb.config import fuse_search
from codiemb.config.fuse_checks import check_fuse, check_fuse_with_start
from codiemb.config.fuse_search import Trial, best_scale, method_trials, scale_trials, search
from codiemb.config.schema import EvaluationTaskConfig, ExportConfig, FuseConfig, TrainConfig
from codiemb.errors import UserError

ONE = FuseConfig(checkpoints=["a"], base="b", search=True, search_scales=[0.3, 0.6])
TWO = FuseConfig(
    checkpoints=["a", "c"],
    base="b",
    search=True,
    search_exponents=[1.0, 0.0],
    search_granularities=["tensor", "row"],
    search_scales=[0.5],
)
TASK = EvaluationTaskConfig()


@pytest.fixture
def fused(monkeypatch):
    """Fusions are remembered instead of written."""
    made = []

    def fake(checkpoints, folder, spec, base):
        made.append(spec)
        return folder

    monkeypatch.setattr(fuse_search, "fuse", fake)
    return made


def test_one_checkpoint_is_tried_from_the_base_to_itself():
    assert method_trials(ONE) == []
    assert [trial.scale for trial in scale_trials(ONE)] == [0.0, 0.3, 0.6, 1.0]
    by_tensor = FuseConfig(**vars(ONE) | {"search_scale_exponents": [0.0, 1.0]})
    assert [(t.scale, t.scale_exponent) for t in scale_trials(by_tensor)] == [
        (0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.3, 1.0), (0.6, 1.0), (1.0, 0.0),
    ]  # fmt: skip


def test_several_checkpoints_are_weighed_first_and_scaled_then(fused, tmp_path):
    def score(folder):
        spec = fused[-1]
        return {"A": spec.exponent + (spec.granularity == "row") + spec.scale * (1.2 - spec.scale)}

    best, sheet = search(TWO, tmp_path, score)
    tried = [(spec.exponent, spec.granularity, spec.scale) for spec in fused]
    grid = [(1, "tensor", 1.0), (1, "row", 1.0), (0, "tensor", 1.0)]
    assert tried == [*grid, (1, "row", 0.0), (1, "row", 0.5)]  # the whole of the way is known already
    assert (best.exponent, best.granularity, best.scale) == (1, "row", 0.5)
    record = json.loads((tmp_path / "search.json").read_text("utf-8"))
    assert [row["options"].get("scale", 1.0) for row in record] == [1.0, 1.0, 1.0, 0.0, 0.5]
    assert len(sheet.rows) == 5
    assert sheet.notes[0].startswith("Chosen: exponent 1, row, scale 0.5, ")


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([(0.5, 0.5), (0.6, 0.5), (0.9, 0.4)], 1),  # the best mean is below the base in a task
        ([(0.5, 0.5), (0.6, 0.6), (0.9, 0.7)], 2),
        ([(0.5, 0.5), (0.4, 0.8), (0.9, 0.4)], 2),  # each is below it somewhere: the best mean
        ([(0.9, 0.9), (0.4, 0.8), (0.3, 0.4)], 1),  # the base itself is never the choice
    ],
)
def test_a_scale_below_the_base_in_no_task_wins(scores, chosen):
    trials = [Trial(ONE, {"A": a, "B": b}) for a, b in scores]
    assert best_scale(trials) is trials[chosen]


def test_a_choice_that_harms_a_task_says_so(fused, tmp_path):
    _, sheet = search(ONE, tmp_path, lambda folder: {"A": fused[-1].scale, "B": 1 - fused[-1].scale})
    assert sheet.header == ("Trial", "A", "B", "Mean")
    assert sheet.notes[1] == "Below the base in B: every scale is, in some task"


def test_where_tasks_are_more_than_trials_each_trial_is_a_column(fused, tmp_path):
    _, sheet = search(ONE, tmp_path, lambda folder: dict.fromkeys("ABCDEFG", fused[-1].scale))
    assert sheet.header[:2] == ("Trial", "scale 0")
    assert sheet.header[-1] == "scale 1"
    assert [row[0] for row in sheet.rows] == [*"ABCDEFG", "Mean"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": False}, "fuse.scale=1 of one checkpoint is a itself"),
        ({"search_scales": []}, "fuse.search_scales=[] leaves nothing"),
        ({"search_scale_exponents": []}, "fuse.search_scale_exponents=[] leaves nothing"),
        ({"checkpoints": ["a", "c"], "method": "uniform", "base": None, "search_exponents": [1.0],
          "search_granularities": ["row"]}, "nothing to choose with fuse.method=uniform"),
    ],
)  # fmt: skip
def test_what_leaves_nothing_to_do_is_refused(change, message):
    with pytest.raises(UserError) as error:
        check_fuse(FuseConfig(**vars(ONE) | change), TASK)
    assert message in str(error.value)


@pytest.mark.parametrize("value", [0, 1, 1.0, -0.5, "serach", True, float("nan"), [0.5]])
def test_fuse_with_start_is_search_or_a_share(value):
    with pytest.raises(UserError, match="must be search, a number above 0 and below 1, or null"):
        check_fuse_with_start(TrainConfig(fuse_with_start=value))


def test_fuse_with_start_needs_folders_and_a_training():
    for value in (None, "search", 0.5):
        check_fuse_with_start(TrainConfig(fuse_with_start=value))
    with pytest.raises(UserError, match=r"set export\.enabled=true"):
        check_fuse_with_start(TrainConfig(fuse_with_start=0.5, export=ExportConfig(enabled=False)))
    with pytest.raises(UserError, match=r"stage=fuse has fuse\.base and fuse\.scale for it"):
        check_fuse_with_start(TrainConfig(fuse_with_start=0.5, fuse=ONE))
