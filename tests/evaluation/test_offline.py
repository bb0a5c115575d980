"""Without the hub: nothing hangs, what is missing is named once, and what is cached still counts."""

import logging
from pathlib import Path

import datasets
import httpx
import mteb
import pytest
from datasets.arrow_writer import ArrowWriter
from datasets.exceptions import DatasetNotFoundError
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import constants
from mteb.abstasks import AbsTask

from codiemb.evaluation import (
    Evaluation,
    builtin_tasks,
    cmteb_table,
    cmteb_tasks,
    dataset_cache,
    evaluate,
    results_sheet,
)
from tests.support.evaluation_fakes import BagOfWords, shown

COMMIT = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty cache, and a session that counts requests and refuses them."""
    requests: list[str] = []

    class Refused:
        def head(self, url: str, timeout: float) -> None:
            requests.append(url)
            raise ConnectionError("no network in this test")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("codiemb.hub.get_session", Refused)
    return requests


def _cache(cache: Path, repository: str, config: str, split: str, rows: list[dict]) -> None:
    """Put rows where `datasets` would have put a downloaded dataset."""
    owner, name = repository.split("/")
    name = camelcase_to_snakecase(name)
    folder = cache / f"{owner}___{name}" / config / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    features = datasets.Dataset.from_list(rows).features
    with ArrowWriter(features=features, path=str(folder / f"{name}-{split}.arrow")) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    splits = datasets.SplitDict(
        {split: datasets.SplitInfo(name=split, num_examples=len(rows), dataset_name=name)}
    )
    info = datasets.DatasetInfo(features=features, config_name=config, dataset_name=name, splits=splits)
    info.write_to_directory(str(folder))


def _cache_reranking(cache: Path, *, candidates: bool) -> None:
    texts = ["red apple", "green pear", "blue plum", "red car"]
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(texts)]
    _cache(cache, "mteb/T2Reranking", "corpus", "dev", documents)
    _cache(cache, "mteb/T2Reranking", "queries", "dev", [{"_id": "q0", "text": "red apple pie"}])
    judgements = [{"query-id": "q0", "corpus-id": f"d{i}", "score": int(i == 2)} for i in range(4)]
    _cache(cache, "mteb/T2Reranking", "default", "dev", judgements)
    if candidates:  # without d0 and d3, which share words with the query
        ranked = [{"query-id": "q0", "corpus-ids": ["d2", "d1"]}]
        _cache(cache, "mteb/T2Reranking", "top_ranked", "dev", ranked)


def test_all_of_cmteb_is_named_once_after_one_request(
    no_network: list[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    evaluation = evaluate(BagOfWords(), cmteb_tasks(), {}, report=lines.append)
    assert len(no_network) == 1
    assert (evaluation.results, len(evaluation.missing)) == ((), 31)
    assert len(lines) == 32
    assert "hub cannot be reached" in lines[0]
    for missing in evaluation.missing:
        named = [line for line in lines if f" {missing.task}:" in line]
        assert named == [line for line in lines if missing.dataset + " is not in the local cache" in line]
        assert len(named) == 1
    assert not [record for record in caplog.records if record.name.split(".")[0] in ("mteb", "datasets")]
    assert cmteb_table(evaluation.scores).coverage == "0 of 31"
    assert max(map(len, shown(results_sheet(evaluation)).splitlines())) <= 100


def test_the_run_goes_on_after_a_missing_dataset(builtin_data: Path):
    tasks = [mteb.get_task("AFQMC"), *builtin_tasks(builtin_data, "test")[3:4]]
    evaluation = evaluate(BagOfWords(), tasks, {})
    assert [missing.task for missing in evaluation.missing] == ["AFQMC"]
    assert list(evaluation.scores) == ["FramesSTS"]


def test_built_in_tasks_ask_for_no_network(no_network: list[str], builtin_data: Path):
    evaluate(BagOfWords(), builtin_tasks(builtin_data, "test")[3:4], {})
    assert no_network == []


def test_offline_mode_ends_with_the_run(builtin_data: Path):
    evaluate(BagOfWords(), [mteb.get_task("AFQMC")], {})
    assert not constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_cached_dataset_is_used_and_its_revision_recorded(tmp_path: Path):
    rows = [{"sentence1": f"a b{i}", "sentence2": f"a c{i % 2}", "score": i % 2} for i in range(6)]
    rows[1]["sentence2"] = "a b1"
    _cache(tmp_path / "cache", "C-MTEB/AFQMC", "default", "validation", rows)
    (result,) = evaluate(BagOfWords(), [mteb.get_task("AFQMC")], {}).results
    assert (result.task, result.revision, result.splits) == ("AFQMC", COMMIT, ("validation",))


def _reranked(tmp_path: Path, *, candidates: bool) -> Evaluation:
    _cache_reranking(tmp_path / "cache", candidates=candidates)
    return evaluate(BagOfWords(), [mteb.get_task("T2Reranking")], {})


def test_cached_reranking_keeps_its_candidates(tmp_path: Path):
    """Offline, mteb alone would drop them and rank the whole corpus: then d2 is third at best."""
    (result,) = _reranked(tmp_path, candidates=True).results
    assert result.score >= 0.5
    assert result.num_texts == 5


def test_reranking_without_its_candidates_is_left_out(tmp_path: Path):
    evaluation = _reranked(tmp_path, candidates=False)
    assert evaluation.results == ()
    assert evaluation.missing[0].reason == "is in the local cache without its candidates"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DatasetNotFoundError("gated"), "cannot be had: gated"),
        (FileNotFoundError("Couldn't find any data file at /here"), "was not found on the hub"),
        (httpx.ReadTimeout("slow"), "cannot be had: slow"),
        (KeyError("bug"), None),
        (ValueError("bug"), None),
    ],
)
def test_only_a_missing_dataset_is_forgiven(
    error: Exception, reason: str | None, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: AbsTask, *args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(dataset_cache, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(AbsTask, "load_data", fail)
    if reason is None:
        with pytest.raises(type(error), match="bug"):
            evaluate(BagOfWords(), [mteb.get_task("AFQMC")], {})
    else:
        (missing,) = evaluate(BagOfWords(), [mteb.get_task("AFQMC")], {}).missing
        assert missing.reason == reason
