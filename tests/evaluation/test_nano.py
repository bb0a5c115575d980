"""The small twins of the builtin tasks: the same every time, nothing judged is lost, names of their own."""

from dataclasses import replace
from pathlib import Path

import pytest

from codiemb.config.schema import EvaluateConfig, EvaluationTaskConfig
from codiemb.config.task import build_evaluations, build_evaluator
from codiemb.errors import UserError
from codiemb.evaluation import builtin_tasks, evaluate, nano_tasks
from codiemb.evaluation.builtin import TASKS
from tests.support.evaluation_fakes import Stating, write_builtin_data, write_rows

NAMES = [f"Nano{task.metadata.name}" for task in TASKS]
KINDS = ("DocsRetrieval", "FramesRetrieval", "FramesReranking")


@pytest.fixture(scope="module")
def large_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More of everything than the small tasks take: 250 queries with two judged documents of 900 each."""
    data = tmp_path_factory.mktemp("large")
    for split in ("dev", "test"):
        write_builtin_data(data, split)
        for name in KINDS:
            folder = data / "eval" / split / name
            write_rows(folder / "queries.jsonl", [{"id": f"q{i}", "text": f"ask {i}"} for i in range(250)])
            write_rows(folder / "corpus.jsonl", [{"id": f"d{i}", "text": f"say {i}"} for i in range(900)])
            judged = [(i, j) for i in range(240) for j in (i, i + 300)]
            qrels = [{"query_id": f"q{i}", "corpus_id": f"d{j}", "score": 1} for i, j in judged]
            write_rows(folder / "qrels.jsonl", qrels)
        ranked = [
            {"query_id": f"q{i}", "corpus_ids": [f"d{(i + 30 * j) % 900}" for j in range(11)]}
            for i in range(250)
        ]
        write_rows(data / "eval" / split / "FramesReranking" / "top_ranked.jsonl", ranked)
        pairs = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "score": i % 9 / 8} for i in range(500)]
        write_rows(data / "eval" / split / "FramesSTS" / "pairs.jsonl", pairs)
        texts = [{"text": f"t {i}", "label": f"l {i % 30}"} for i in range(600)]
        for file in ("FramesClustering/texts", "FramesClassification/train", "FramesClassification/test"):
            write_rows(data / "eval" / split / f"{file}.jsonl", texts)
    return data


def loaded(data: Path, name: str) -> dict:
    task = nano_tasks(data, "test")[NAMES.index(f"Nano{name}")]
    task.load_data()
    return task.dataset


@pytest.mark.parametrize("name", KINDS)
def test_every_judged_document_and_candidate_of_a_kept_query_is_kept(large_data: Path, name: str):
    part = loaded(large_data, name)["default"]["test"]
    assert len(part["queries"]) == (25 if name == "FramesReranking" else 80)
    corpus = set(part["corpus"]["id"])
    assert part["relevant_docs"].keys() == set(part["queries"]["id"])
    for query in part["queries"]["id"]:
        number = int(query[1:])
        assert part["relevant_docs"][query] == {f"d{number}": 1, f"d{number + 300}": 1}
        assert {f"d{number}", f"d{number + 300}"} <= corpus
    if name == "FramesReranking":
        assert corpus == {doc for docs in part["top_ranked"].values() for doc in docs}
    else:
        assert len(corpus) == 240
        assert part["top_ranked"] is None


def test_pairs_texts_and_classes_are_cut(large_data: Path):
    assert len(loaded(large_data, "FramesSTS")["test"]) == 150
    assert len(loaded(large_data, "FramesClustering")["test"]) == 150
    classes = loaded(large_data, "FramesClassification")
    assert [len(classes[side]) for side in ("train", "test")] == [200, 200]
    assert set(classes["train"]["label"]) == set(classes["test"]["label"])
    assert len(set(classes["test"]["label"])) == 10


def test_the_choice_follows_from_the_texts_not_from_their_order(large_data: Path, tmp_path: Path):
    first = loaded(large_data, "FramesSTS")["test"]["sentence1"]
    write_builtin_data(tmp_path)
    source = large_data / "eval/test/FramesSTS/pairs.jsonl"
    lines = source.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "eval/test/FramesSTS/pairs.jsonl").write_text("".join(reversed(lines)), "utf-8")
    assert list(loaded(tmp_path, "FramesSTS")["test"]["sentence1"]) == list(reversed(list(first)))


def test_all_seven_have_names_and_revisions_of_their_own_and_the_instructions_of_the_whole_ones(
    large_data: Path,
):
    config = EvaluationTaskConfig(
        "nano", str(large_data), instructions={"FramesSTS": {"query": "compare"}}, tasks=["FramesSTS"]
    )
    assert [task.metadata.name for task in build_evaluator(replace(config, tasks=[])).tasks] == NAMES
    evaluator = build_evaluator(config)
    (result,) = evaluator.run(Stating(), bm25=False).results
    assert result.task == "NanoFramesSTS"
    assert result.prefix == {"text": "compare: "}
    whole = builtin_tasks(large_data, "test")[3]
    assert result.revision == f"{whole.revision}-nano"


def test_small_data_is_taken_whole(builtin_data: Path):
    small, whole = (make(builtin_data, "test")[2:5] for make in (nano_tasks, builtin_tasks))
    scores = [evaluate(Stating(), tasks, {}, bm25=False).scores for tasks in (small, whole)]
    assert {f"Nano{name}": score for name, score in scores[1].items()} == scores[0]


@pytest.mark.parametrize(
    ("task", "dev_tasks", "names"),
    [
        ("nano", ["FramesRetrieval", "FramesSTS"], ["NanoFramesRetrieval", "NanoFramesSTS"]),
        ("nano", ["NanoDocsRetrieval"], ["NanoDocsRetrieval"]),
        ("nano", [], NAMES),
        ("builtin", ["NanoFramesSTS", "FramesSTS"], ["NanoFramesSTS", "FramesSTS"]),
    ],
)
def test_a_training_run_can_look_at_the_small_dev_tasks(
    large_data: Path, task: str, dev_tasks: list[str], names: list[str]
):
    when = EvaluateConfig(before=False, after=False, every_n_steps=5, dev_tasks=dev_tasks)
    dev = build_evaluations(EvaluationTaskConfig(task, str(large_data)), when).dev
    assert dev is not None
    assert [each.metadata.name for each in dev.tasks] == names
    assert {each.found.split for each in dev.tasks} == {"dev"}


def test_an_unknown_small_task_is_named(large_data: Path):
    with pytest.raises(UserError, match=r"no NanoFrames in task=builtin; it has DocsRetrieval"):
        build_evaluator(EvaluationTaskConfig("builtin", str(large_data), tasks=["NanoFrames"]))
