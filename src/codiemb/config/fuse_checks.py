"""Refuse a fusion that could only fail later, of stage=fuse or at the end of a training run."""

from dataclasses import replace

from codiemb.config.fuse_search import method_trials, scale_trials
from codiemb.config.schema import EvaluationTaskConfig, FuseConfig, TrainConfig
from codiemb.errors import UserError
from codiemb.fusion import check_fusion

SEARCH = "search"


def check_fuse(spec: FuseConfig, task: EvaluationTaskConfig) -> None:
    """Refuse a fusion or a search that could only fail later.

    Raises:
        UserError: naming the key, the value and the possible values.
    """
    if spec.search and spec.method == "weighted":
        spec = replace(spec, weights=spec.weights or [1.0] * len(spec.checkpoints))
    check_fusion(spec, spec.checkpoints, spec.base)
    if spec.search:
        _check_search(spec, task)
    elif len(spec.checkpoints) == 1 and spec.scale == 1:
        raise UserError(
            f"fuse.scale=1 of one checkpoint is {spec.checkpoints[0]} itself: set fuse.scale=0.5, or "
            "fuse.search=true chooses one"
        )


def _check_search(spec: FuseConfig, task: EvaluationTaskConfig) -> None:
    if task.name not in ("builtin", "folder"):
        raise UserError(
            f"fuse.search=true chooses on the dev side of task=builtin or folder; task={task.name} has none"
        )
    lists = ["search_exponents", "search_granularities"] if len(spec.checkpoints) > 1 else ["search_scales"]
    for key in [*lists, "search_scale_exponents"]:
        if not getattr(spec, key):
            raise UserError(f"fuse.{key}=[] leaves nothing to choose from")
    ways, scaled = method_trials(spec), scale_trials(spec)
    if not ways and not scaled:
        raise UserError(
            f"fuse.search=true has nothing to choose with fuse.method={spec.method} and no fuse.base: use "
            "delta or weighted, or set fuse.base and it chooses fuse.scale"
        )
    for trial in [*ways, *scaled]:
        check_fusion(trial, spec.checkpoints, spec.base)


def check_fuse_with_start(cfg: TrainConfig) -> None:
    """Refuse what could only fail after training.

    Raises:
        UserError: naming the key, the value and the possible values.
    """
    value = cfg.fuse_with_start
    if value is None:
        return
    key = f"fuse_with_start={value}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != SEARCH and not (is_number and 0 < value < 1):
        raise UserError(f"{key} must be search, a number above 0 and below 1, or null")
    if cfg.fuse is not None:
        raise UserError(f"{key} ends a run that trains; stage=fuse has fuse.base and fuse.scale for it")
    if not cfg.export.enabled:
        raise UserError(f"{key} averages folders: set export.enabled=true")
