"""Every arm of the laboratory composes, passes preflight, and differs from the others."""

import json
from dataclasses import asdict

import pytest

from codiemb.config import build
from codiemb.config.losses import build_losses
from codiemb.config.preflight import preflight
from experiments.laboratory.arms import ARMS, EXPERIMENT, FUSION, START

# Laboratory

LABORATORY = {**ARMS, "fusion": (*FUSION, "fuse.checkpoints=[a,b]", "fuse.base=c"), "start": START}


@pytest.fixture(scope="module")
def seen():
    return {}


@pytest.mark.parametrize("arm", LABORATORY)
def test_an_arm_passes_preflight_and_is_like_no_other(composed, seen, arm):
    cfg = build.typed_train(composed(EXPERIMENT, *LABORATORY[arm]))
    preflight(cfg)
    build_losses(cfg.losses)
    differs = asdict(cfg) | {"export": None}
    assert seen.setdefault(json.dumps(differs, sort_keys=True), arm) == arm
