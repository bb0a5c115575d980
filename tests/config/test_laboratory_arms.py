"""Every arm of the laboratory composes, passes preflight, and differs from the others."""

import json
from dataclasses import asdict

import pytest

from codiemb.config.preflight import preflight
from codiemb.config.typed import typed_train
from tests.support.paths import CONF

ARMS = sorted(path.stem for path in (CONF / "experiment/lab").glob("*.yaml"))


@pytest.fixture(scope="module")
def seen():
    return {}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_passes_preflight_and_is_like_no_other(composed, seen, arm):
    needs = ["fuse.checkpoints=[a,b]", "fuse.base=c"] if arm == "fusion" else []
    cfg = typed_train(composed(f"experiment=lab/{arm}", *needs))
    preflight(cfg)
    differs = asdict(cfg) | {"export": None}  # what joint adds to base
    same = seen.setdefault(json.dumps(differs, sort_keys=True), arm)
    assert {same, arm} in ({arm}, {"base", "joint"})
