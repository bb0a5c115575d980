"""The built-in tasks give the scores that a few lines of arithmetic give."""

import random
import shutil
from pathlib import Path

import mteb
import numpy as np
import pytest
import torch
from mteb.abstasks import AbsTask, AbsTaskClassification
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from codiemb.errors import UserError
from codiemb.evaluation import Evaluation, builtin_tasks, evaluate
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.evaluation.mteb_encoder import MtebEncoder
from tests.support.evaluation_fakes import BagOfWords, Oracle, read_rows, write_builtin_data, write_rows

NAMES = [
    "DocsRetrieval", "FramesRetrieval", "FramesReranking", "FramesSTS",
    "FramesPairClassification", "FramesClassification", "FramesClustering",
]  # fmt: skip


def _score(evaluation: Evaluation, task: str) -> float:
    return evaluation.scores[task]


def test_all_seven_tasks_are_scored(evaluation: Evaluation):
    assert [result.task for result in evaluation.results] == NAMES
    assert evaluation.missing == ()
    assert all(0 <= result.score <= 1 for result in evaluation.results if result.type != "STS")
    assert all(result.splits == ("test",) and result.seconds > 0 for result in evaluation.results)


def test_sts_is_scipys_spearman(evaluation: Evaluation, builtin_data: Path):
    pairs = read_rows(builtin_data / "eval/test/FramesSTS/pairs.jsonl")
    first_SD, second_SD = (
        BagOfWords().encode([pair[side] for pair in pairs]) for side in ("sentence1", "sentence2")
    )
    expected = spearmanr([pair["score"] for pair in pairs], (first_SD * second_SD).sum(axis=1))[0]
    assert _score(evaluation, "FramesSTS") == pytest.approx(expected, abs=1e-6)


def test_pair_classification_is_average_precision(evaluation: Evaluation, builtin_data: Path):
    pairs = read_rows(builtin_data / "eval/test/FramesPairClassification/pairs.jsonl")
    first_SD, second_SD = (
        BagOfWords().encode([pair[side] for pair in pairs]) for side in ("sentence1", "sentence2")
    )
    expected = average_precision_score([pair["label"] for pair in pairs], (first_SD * second_SD).sum(axis=1))
    result = next(result for result in evaluation.results if result.task == "FramesPairClassification")
    assert result.metrics["cosine_ap"] == pytest.approx(expected, abs=1e-6)
    assert result.score >= result.metrics["cosine_ap"]  # max_ap: the best of mteb's similarity functions


def _ndcg_at_10(grades: list[int], all_grades: list[int]) -> float:
    def gain(values: list[int]) -> float:
        return sum(value / np.log2(rank + 2) for rank, value in enumerate(values[:10]))

    return gain(grades) / gain(sorted(all_grades, reverse=True))


def test_retrieval_is_ndcg_at_10_with_grades(tmp_path: Path):
    write_builtin_data(tmp_path)
    folder = tmp_path / "eval/test/DocsRetrieval"
    # every document at its own distance from the query: with ties, any order would be right
    words = [f"w{i}" for i in range(14)]
    write_rows(
        folder / "corpus.jsonl", ({"id": f"d{i}", "text": " ".join(words[: i + 1])} for i in range(14))
    )
    write_rows(folder / "queries.jsonl", [{"id": "q", "text": " ".join(words)}])
    grades = {"d13": 1, "d9": 2, "d3": 2, "d0": 1}
    write_rows(
        folder / "qrels.jsonl", ({"query_id": "q", "corpus_id": d, "score": s} for d, s in grades.items())
    )
    evaluation = evaluate(BagOfWords(4096), builtin_tasks(tmp_path, "test")[:1], {})
    ranking = [grades.get(f"d{i}", 0) for i in reversed(range(14))]
    assert _score(evaluation, "DocsRetrieval") == pytest.approx(
        _ndcg_at_10(ranking, list(grades.values())), abs=1e-5
    )


def test_an_oracle_gets_one_on_retrieval(tmp_path: Path):
    write_builtin_data(tmp_path)
    folder = tmp_path / "eval/test/DocsRetrieval"
    write_rows(
        folder / "qrels.jsonl",
        ({"query_id": f"q{i % 4}", "corpus_id": f"d{i}", "score": 1} for i in range(16)),
    )
    rows = read_rows(folder / "corpus.jsonl") + read_rows(folder / "queries.jsonl")
    oracle = Oracle({row["text"]: int(row["id"][1:]) % 4 for row in rows})
    assert evaluate(oracle, builtin_tasks(tmp_path, "test")[:1], {}).scores == {
        "DocsRetrieval": pytest.approx(1.0)
    }


def test_reranking_ranks_only_its_candidates(evaluation: Evaluation, builtin_data: Path):
    # candidates d(i)..d(i+5): two relevant ones each; the worst order of six would still give more than 1/6
    result = next(result for result in evaluation.results if result.task == "FramesReranking")
    assert result.metric == "map_at_1000"
    assert result.metrics["recall_at_10"] < 1  # the third relevant document is no candidate


def test_the_same_tasks_twice_give_the_same_scores(builtin_data: Path):
    tasks = builtin_tasks(builtin_data, "test")[-2:]
    assert evaluate(BagOfWords(), tasks, {}).scores == evaluate(BagOfWords(), tasks, {}).scores


def _random_states() -> tuple[object, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_building_a_task_leaves_the_callers_random_state_alone():
    before = _random_states()
    with preserve_random_state():
        mteb.get_task("AFQMC")  # seeds all three
        assert _random_states() != before
    assert _random_states() == before


def test_an_evaluation_leaves_the_callers_random_state_alone(builtin_data: Path):
    # beartype, on in the tests only, draws from Python's generator: the other two tell
    before = _random_states()[1:]
    evaluate(BagOfWords(), builtin_tasks(builtin_data, "test")[-2:], {})
    assert _random_states()[1:] == before


def test_mteb_finds_the_metadata_complete(builtin_data: Path):
    for task in builtin_tasks(builtin_data, "test"):
        metadata = task.metadata
        empty = [name for name in type(metadata).model_fields if getattr(metadata, name) is None]
        assert set(empty) <= {"reference", "adapted_from", "contributed_by", "superseded_by"}


def test_the_revision_follows_the_data(evaluation: Evaluation, builtin_data: Path, tmp_path: Path):
    shutil.copytree(builtin_data, tmp_path, dirs_exist_ok=True)
    before = [task.revision for task in builtin_tasks(tmp_path, "test")]
    assert before == [result.revision for result in evaluation.results]
    path = tmp_path / "eval/test/FramesSTS/pairs.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    after = [task.revision for task in builtin_tasks(tmp_path, "test")]
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        name != "FramesSTS" for name in NAMES
    ]


def test_a_missing_folder_says_what_to_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"DocsRetrieval.*run the data preparation"):
        builtin_tasks(tmp_path, "dev")
    with pytest.raises(UserError, match=r"'train'.*dev and test"):
        builtin_tasks(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "FramesSTS/pairs.jsonl",
            '{"sentence1": "a", "sentence2": "b", "score": 5}',
            r":1: .*outside \[0, 1\]",
        ),
        ("DocsRetrieval/corpus.jsonl", "", "run the data preparation again"),
    ],
)
def test_a_damaged_file_is_named(name: str, line: str, message: str, builtin_data: Path, tmp_path: Path):
    shutil.copytree(builtin_data, tmp_path, dirs_exist_ok=True)
    (tmp_path / "eval/test" / name).write_text(line and line + "\n")
    with pytest.raises(UserError, match=f"{name.split('/')[1]}.*{message}"):
        evaluate(BagOfWords(), builtin_tasks(tmp_path, "test")[3:], {})


def test_embeddings_with_nan_are_an_error(builtin_data: Path):
    class Diverged(BagOfWords):
        def encode(self, texts, *, instruction="", side=None, progress=False):
            return super().encode(texts) * np.nan

    with pytest.raises(ValueError, match="DocsRetrieval: 4 of 4 embeddings contain NaN"):
        evaluate(Diverged(), builtin_tasks(builtin_data, "test")[:1], {})


def test_classification_reads_its_labels_once_and_scores_what_mteb_scores(
    builtin_data: Path, monkeypatch: pytest.MonkeyPatch
):
    """A lazy column is converted row by row, 150 times an experiment."""
    given = []
    score = AbsTaskClassification._calculate_scores

    def recorded(task: AbsTaskClassification, labels: object, predicted: object) -> object:
        given.append(type(labels))
        return score(task, labels, predicted)

    monkeypatch.setattr(AbsTaskClassification, "_calculate_scores", recorded)
    ours = evaluate(BagOfWords(), [_classification(builtin_data)], {})
    assert set(given) == {np.ndarray}
    task = _classification(builtin_data)
    with preserve_random_state():
        alone = mteb.evaluate(MtebEncoder(BagOfWords(), {}), task, cache=None, co2_tracker=False)
    theirs = alone.task_results[0].scores["test"][0]
    expected = {name: theirs[name] for name in ours.results[0].metrics}
    assert ours.results[0].metrics == pytest.approx(expected, abs=0, rel=0, nan_ok=True)


def _classification(data: Path) -> AbsTask:
    return builtin_tasks(data, "test")[NAMES.index("FramesClassification")]
