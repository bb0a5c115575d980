"""On datatrove the step gives the same bytes; without datatrove it says what to install."""

import sys
from importlib.util import find_spec

import pytest

from codiemb.errors import UserError
from data_prep.dedup.on_datatrove import finish, launch, sign_share
from data_prep.runner import run_step, shared_work
from data_prep.steps.dedup import Parameters
from tests.data_prep.steps.test_dedup import planted
from tests.data_prep.test_runner import hashes
from tests.support.sources import make_source


@pytest.fixture
def source(tmp_path):
    texts = planted()
    qrels = [("q", document) for document in list(texts)[:9]]
    return make_source(tmp_path / "fetch", {"q": "a question"}, texts, qrels, block_rows=32)


def test_tasks_that_share_the_blocks_give_the_bytes_of_one_process(source, tmp_path):
    """What each executor calls, without one."""
    run_step("dedup", [source], tmp_path / "alone", Parameters())
    work = shared_work("dedup", [source], tmp_path / "out", Parameters(), begin=True)
    task = {"sources": [source], "out": tmp_path / "out", "options": Parameters()}
    for rank in (2, 0, 1):
        sign_share(None, rank, 3, **task)
    signed = {path.name: path.stat().st_mtime_ns for path in work.parts.iterdir()}
    assert len(signed) == 6
    finish(None, 0, 1, **task)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "alone")


def test_a_machine_with_other_versions_makes_no_piece(source, tmp_path, monkeypatch):
    shared_work("dedup", [source], tmp_path / "out", Parameters(), begin=True)
    monkeypatch.setattr("data_prep.steps.dedup.metadata.version", lambda name: "0.4.1")
    with pytest.raises(UserError, match="install the same packages on all machines"):
        sign_share(None, 0, 1, sources=[source], out=tmp_path / "out", options=Parameters())


def test_without_datatrove_or_with_an_unknown_executor_one_error(source, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="executor=spark: there are local, slurm, ray"):
        launch([source], tmp_path / "out", Parameters(), tasks=2, executor="spark")
    monkeypatch.setitem(sys.modules, "datatrove.executor.local", None)
    with pytest.raises(UserError, match="needs datatrove"):
        launch([source], tmp_path / "out", Parameters(), tasks=2)
    assert not (tmp_path / ".out.partial").exists()


# 2026-11-26: datatrove is no dependency of the tests; with it (0.10.1) this passed, see docs/data_prep.md
@pytest.mark.skipif(find_spec("datatrove") is None, reason="2026-11-26: an extra of its own")
def test_the_local_executor_gives_the_bytes_of_one_process(source, tmp_path):
    run_step("dedup", [source], tmp_path / "alone", Parameters())
    launch([source], tmp_path / "out", Parameters(), tasks=3, arguments={"workers": 1})
    assert hashes(tmp_path / "out") == hashes(tmp_path / "alone")
