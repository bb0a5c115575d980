"""Negatives that would be mined for nothing are refused: by the config alone, or once the data is known."""

from typing import Any, cast

import pytest

from codiemb.config.preflight import preflight
from codiemb.config.refresh_checks import check_refreshed
from codiemb.config.typed import typed_train
from codiemb.data import Proportional, SourceFile, TaskSpec
from codiemb.errors import UserError
from codiemb.mining.spec import RefreshSpec
from codiemb.training import EmbeddingDataModule
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.usefixtures("unchecked_shapes")  # of a data module without a tokenizer
ON = "refresh.every_n_steps=10"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("refresh.every_n_steps=0",), "refresh.every_n_steps=0 must be at least 1"),
        (("refresh.every_n_steps=9", "max_steps=9"), "refresh.every_n_steps=9: the run has 9 steps and"),
        (("refresh.rule=conan",), "refresh.rule=conan says how negatives are mined anew: set refresh"),
        ((ON, "refresh.rule=canon"), "refresh.rule='canon' must be replace or conan"),
        ((ON, "refresh.num_negatives=0"), "refresh.num_negatives=0 must be at least 1"),
        ((ON, "tasks.ir.num_negatives=9"), "refresh.num_negatives=8 keeps so many of a record, and tasks"),
        ((ON, "tasks.ir.num_negatives=0"), "refresh.num_negatives=8 keeps so many of a record, and tasks"),
        ((ON, "refresh.percent=95"), "refresh: percent=95.0 must be a share above 0 and at most 1"),
        ((ON, "refresh.percent=nan"), "refresh: percent=nan must be a share above 0 and at most 1"),
        ((ON, "refresh.min_rank=51"), "refresh: min_rank=51, max_rank=50: ranks count from 1"),
        ((ON, "refresh.factor=1.2"), "refresh.factor=1.2 says nothing with refresh.rule=replace"),
        ((ON, "refresh.rule=conan", "refresh.factor=0.9"), "refresh.factor=0.9 must be a finite number of"),
        ((ON, "refresh.rule=conan", "refresh.factor=inf"), "refresh.factor=inf must be a finite number of"),
        ((ON, "losses=distill"), "losses.ir.distill_kl learns from a teacher's scores, and"),
        ((ON, "stage=pretrain"), "refresh.every_n_steps=10 mines negatives of IR records, and"),
    ],
)  # fmt: skip
def test_what_no_step_would_see_is_refused_by_the_config_alone(refused, overrides, message):
    assert refused(*overrides).startswith(message)


def test_both_rules_pass(composed):
    preflight(typed_train(composed(ON)))
    preflight(typed_train(composed(ON, "refresh.rule=conan", "refresh.factor=1.3", "refresh.percent=null")))


def data(tmp_path, task: str, **settings: Any) -> EmbeddingDataModule:
    made = EmbeddingDataModule(
        [SourceFile("mine", GOLDEN / f"{task}.jsonl", **settings)],
        {task: TaskSpec(16)},
        Proportional(),
        cast(Any, None),  # no text is tokenised
        seed=1,
        cache=tmp_path,
    )
    made.prepare_data()
    made.setup()
    return made


@pytest.mark.parametrize(
    ("every_n_steps", "task", "settings", "message"),
    [
        (10, "ir", {}, "every_n_steps=10: the run has 10 steps and would end before its"),
        (5, "sts", {}, "no source of IR records can be mined for: mine is sts"),
        (5, "ir", {"in_batch": False}, "mined for: mine has in_batch: false .another record's documents"),
    ],
)  # fmt: skip
def test_what_the_training_files_leave_nothing_to_mine_for_is_refused(
    tmp_path, every_n_steps, task, settings, message
):
    with pytest.raises(UserError, match=message):
        check_refreshed(RefreshSpec(every_n_steps), data(tmp_path, task, **settings))


def test_a_run_with_a_source_to_mine_for_passes(tmp_path):
    check_refreshed(RefreshSpec(5), data(tmp_path, "ir"))
