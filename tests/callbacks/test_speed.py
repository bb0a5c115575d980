"""Speed: its figures stand in every line of the metrics, whatever the accumulation."""

import json

import pytest

from codiemb.callbacks import Speed
from tests.support.tiny_run import KNOWN_WARNINGS, TinyRun

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS]


def test_speed_is_in_every_line_and_counts_all_tokens_since_the_line_before(tmp_path):
    run = TinyRun(tmp_path / "run", Speed(), steps=6, batch=8, log_every_n_steps=3, accumulate_grad_batches=2)
    run.fit()
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    assert [line["step"] for line in lines] == [2, 5]
    for line in lines:
        assert line["perf/tokens_per_second"] > 0
        assert 0 <= line["perf/data_wait"] <= 1
        assert line["perf/peak_memory_mib"] > 0
