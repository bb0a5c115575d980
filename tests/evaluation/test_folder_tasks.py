"""A folder of texts is a task, with the scores of mteb classes written by hand for the same data."""

import csv
import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from codiemb.config.schema import EvaluateConfig, EvaluationTaskConfig
from codiemb.config.task import build_evaluations, build_evaluator
from codiemb.errors import UserError
from codiemb.evaluation import Evaluation, Evaluator, evaluate, results_sheet
from codiemb.evaluation.folder_tasks import LocalTask, folder_tasks, with_own_instructions
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.task_files.metrics import SCORES
from tests.support.evaluation_fakes import BagOfWords, write_rows

TEXTS = [f"word{i} word{i % 5} topic{i % 3} end" for i in range(24)]
DOCUMENTS = {f"d{i}": (f"Title{i % 4}" if i % 2 else "", text) for i, text in enumerate(TEXTS)}
QUERIES = {f"q{i}": f"Title{i % 4} topic{i % 3} word{i}" for i in range(6)}
QRELS = {f"q{i}": {f"d{i}": 2, f"d{i + 6}": 1, f"d{i + 12}": 0} for i in range(5)}  # q5 has none
PAIRS = [(TEXTS[i], TEXTS[i * 5 % 24]) for i in range(1, 20)]


def metadata(name: str, kind: str, metric: str) -> TaskMetadata:
    return TaskMetadata(
        dataset={"path": "x/x", "revision": "1"}, name=name, description="x", type=kind, category="t2t",
        eval_splits=["test"], eval_langs=["eng-Latn"], main_score=metric, modalities=["text"],
    )  # fmt: skip


class ByHand(AbsTask):
    def load_data(self, num_proc=None, **kwargs):
        self.dataset, self.data_loaded = self.read(), True


class HandRetrieval(ByHand, AbsTaskRetrieval):
    metadata = metadata("beir", "Retrieval", "ndcg_at_10")

    def read(self):
        corpus = [{"id": key, "title": title, "text": text} for key, (title, text) in DOCUMENTS.items()]
        queries = [{"id": key, "text": text} for key, text in QUERIES.items()]
        data = {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries)}
        return {"default": {"test": {**data, "relevant_docs": QRELS, "top_ranked": None}}}


class HandReranking(HandRetrieval):
    metadata = metadata("rerank", "Reranking", "map_at_1000")

    def read(self):
        data = super().read()
        data["default"]["test"]["top_ranked"] = {key: list(DOCUMENTS)[::2] for key in QUERIES}
        return data


class HandSTS(ByHand, AbsTaskSTS):
    metadata = metadata("sts", "STS", "cosine_spearman")

    def read(self):
        rows = [{"sentence1": a, "sentence2": b, "score": i % 6} for i, (a, b) in enumerate(PAIRS)]
        return DatasetDict(test=Dataset.from_list(rows))


class HandPairs(ByHand, AbsTaskPairClassification):
    metadata = metadata("same", "PairClassification", "max_ap")

    def read(self):
        rows = [{"sentence1": a, "sentence2": b, "labels": i % 2} for i, (a, b) in enumerate(PAIRS)]
        return DatasetDict(test=Dataset.from_list(rows))


class HandClassification(ByHand, AbsTaskClassification):
    metadata = metadata("topics", "Classification", "accuracy")

    def read(self):
        train = [{"text": text, "label": f"c{i % 3}"} for i, text in enumerate(TEXTS)]
        test = [{"text": text + " new", "label": f"c{i % 3}"} for i, text in enumerate(TEXTS)]
        return DatasetDict(train=Dataset.from_list(train), test=Dataset.from_list(test))


class HandClustering(ByHand, AbsTaskClustering):
    metadata = metadata("clusters", "Clustering", "v_measure")
    max_fraction_of_documents_to_embed, max_documents_per_cluster = None, 128
    input_column_name, label_column_name = "text", "label"

    def read(self):
        rows = [{"text": text, "label": i % 3} for i, text in enumerate(TEXTS)]
        return DatasetDict(test=Dataset.from_list(rows))


HAND = [HandRetrieval, HandClustering, HandReranking, HandPairs, HandSTS, HandClassification]


def write_tsv(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), "utf-8")


def write_beir(folder: Path) -> None:
    """With judgements of two sides; those of the other are of one query."""
    write_rows(
        folder / "corpus.jsonl", ({"_id": k, "title": t, "text": x} for k, (t, x) in DOCUMENTS.items())
    )
    write_rows(
        folder / "queries.jsonl", ({"_id": k, "text": text, "metadata": {}} for k, text in QUERIES.items())
    )
    judged = [(q, d, grade) for q, grades in QRELS.items() for d, grade in grades.items()]
    write_tsv(folder / "qrels/test.tsv", ("query-id", "corpus-id", "score"), *judged)
    write_tsv(folder / "qrels/dev.tsv", ("q5", "d5", 1))  # no header


@pytest.fixture(scope="session")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of each kind, each in another format."""
    data = tmp_path_factory.mktemp("own")
    write_beir(data / "beir")
    shutil.copytree(data / "beir", data / "rerank", ignore=shutil.ignore_patterns("dev.tsv"))
    ranked = [{"query-id": key, "corpus-ids": list(DOCUMENTS)[::2]} for key in QUERIES]
    write_rows(data / "rerank/top_ranked.jsonl", ranked)
    (data / "sts").mkdir()
    (data / "sts/task.yaml").write_text("score_range: [0, 5]\n")
    write_tsv(data / "sts/test.tsv", ("text1", "text2", "score"), *((*p, i % 6) for i, p in enumerate(PAIRS)))
    (data / "same").mkdir()
    with (data / "same/questions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["question1", "question2", "is_duplicate"]])
        csv.writer(file).writerows([*pair, i % 2] for i, pair in enumerate(PAIRS))
    (data / "topics").mkdir()
    with gzip.open(data / "topics/train.jsonl.gz", "wt") as packed:
        packed.writelines(json.dumps({"text": t, "label": f"c{i % 3}"}) + "\n" for i, t in enumerate(TEXTS))
    write_rows(
        data / "topics/test.jsonl", ({"text": t + " new", "label": f"c{i % 3}"} for i, t in enumerate(TEXTS))
    )
    (data / "clusters").mkdir()
    table = pa.table({"sentence": TEXTS, "category": [i % 3 for i in range(len(TEXTS))]})
    pq.write_table(table, data / "clusters/test-00000-of-00001.parquet")
    return data


def numbers(evaluation: Evaluation) -> list[str]:
    """As texts: some metrics are NaN."""
    return [
        f"{r.task} {r.type} {r.metric} {r.score!r} {r.bm25!r} {r.num_texts} {r.metrics!r}"
        for r in evaluation.results
    ]


def open_one(folder: Path, split: str = "test") -> LocalTask:
    (task,) = folder_tasks(str(folder), split)
    return task


def test_scores_are_those_of_classes_written_by_hand(own_data: Path):
    tasks = folder_tasks(str(own_data), "test")
    with preserve_random_state():
        by_hand = sorted((each() for each in HAND), key=lambda task: task.metadata.name)
    ours, theirs = (
        evaluate(BagOfWords(), tasks, {}, bm25=False),
        evaluate(BagOfWords(), by_hand, {}, bm25=False),
    )
    assert numbers(ours) == numbers(theirs)
    for task, result in zip(tasks, ours.results, strict=True):  # so that a metric in task.yaml can be checked
        assert set(SCORES[task.found.kind]) <= {*result.metrics}, result.metrics


def test_the_builtin_folders_give_the_numbers_of_task_builtin(evaluation: Evaluation, builtin_data: Path):
    tasks = folder_tasks(str(builtin_data / "eval"), "test", [result.task for result in evaluation.results])
    ours = evaluate(BagOfWords(), tasks, {})
    assert numbers(ours) == numbers(evaluation)
    assert [result.revision for result in ours.results] == [result.revision for result in evaluation.results]


def test_one_folder_is_enough_and_the_split_chooses_its_side(own_data: Path):
    task = open_one(own_data / "beir", "dev")
    assert (task.metadata.name, task.eval_splits) == ("beir", ["dev"])
    assert task.read()["default"]["dev"]["relevant_docs"] == {"q5": {"d5": 1}}


def records(task: str, *rows: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"task_type": task, **row} for row in rows]


def test_training_records_are_retrieval_over_all_their_documents(tmp_path: Path):
    find = ["find", "", "how"]
    rows = records(
        "ir",
        {"query": find, "positives": ["a", "b"], "negatives": ["c"]},
        {"query": ["find", "", "why"], "positives": ["c"], "negatives": ["a"]},
        {"query": find, "positives": ["d"], "negatives": []},  # a query that was there already
    )
    write_rows(tmp_path / "shop/train.jsonl", rows)
    task = open_one(tmp_path)
    data = task.read()["default"]["train"]
    corpus, queries = dict(zip(data["corpus"]["text"], data["corpus"]["id"], strict=True)), data["queries"]
    assert (sorted(corpus), list(queries["text"])) == (["a", "b", "c", "d"], ["how", "why"])
    first, second = queries["id"]
    assert data["relevant_docs"] == {
        first: {corpus["a"]: 1, corpus["b"]: 1, corpus["d"]: 1}, second: {corpus["c"]: 1}
    }  # fmt: skip
    assert with_own_instructions([task], {}) == {"shop": {"query": "find"}}
    scored = evaluate(BagOfWords(), [task], with_own_instructions([task], {}), bm25=False)
    assert scored.results[0].prompts["query"] == "find"


def test_graded_training_records_are_pairs_with_their_scores(tmp_path: Path):
    rows = records(
        "sts",
        {"query": "a", "positives": ["b", "c"], "positive_scores": [5, 1]},
        {
            "query": "d",
            "positives": ["e"],
            "positive_scores": [3],
            "negatives": ["f"],
            "negative_scores": [0],
        },
    )
    write_rows(tmp_path / "sts.jsonl", rows)
    (tmp_path / "task.yaml").write_text("name: own\nscore_range: [0, 5]\n")
    task = open_one(tmp_path)
    assert task.metadata.name == "own"
    assert [tuple(row.values()) for row in task.read()["test"]] == [
        ("a", "b", 1.0), ("a", "c", 0.2), ("d", "e", 0.6), ("d", "f", 0.0)
    ]  # fmt: skip


def test_several_instructions_of_records_must_be_chosen_from(tmp_path: Path):
    rows = records("ir", *({"query": [text, "", text], "positives": ["x"]} for text in ("one", "two")))
    write_rows(tmp_path / "shop/a.jsonl", rows)
    task = open_one(tmp_path)
    with pytest.raises(UserError, match=r"a\.jsonl: .*'one', 'two', .*set task\.instructions\.shop\.query"):
        with_own_instructions([task], {})
    for key in ("shop", "Retrieval"):
        assert with_own_instructions([task], {key: {"query": "x"}}) == {key: {"query": "x"}}


def test_a_task_yaml_says_what_the_files_do_not(tmp_path: Path, own_data: Path):
    write_rows(
        tmp_path / "faq/x.jsonl", ({"left": a, "right": b, "gold": i % 6} for i, (a, b) in enumerate(PAIRS))
    )
    (tmp_path / "faq/task.yaml").write_text(
        "kind: sts\nfiles: {pairs: x.jsonl}\ncolumns: {sentence1: left, sentence2: right, score: gold}\n"
        "metric: cosine_pearson\ninstruction: compare\nsplit: all\n"
    )
    task = open_one(tmp_path)
    own = with_own_instructions([task], {})
    result = Evaluator([task], own).run(BagOfWords()).results[0]
    by_hand = evaluate(BagOfWords(), [HandSTS()], {}).results[0]
    assert (result.metric, result.splits) == ("cosine_pearson", ("all",))
    assert result.score == by_hand.metrics["cosine_pearson"]
    assert own == {"faq": {"query": "compare"}}
    assert with_own_instructions([task], {"faq": {"query": "mine"}}) == {"faq": {"query": "mine"}}


def test_a_name_that_mteb_has_as_well_is_said(tmp_path: Path, own_data: Path):
    shutil.copytree(own_data / "sts", tmp_path / "STSB")
    told: list[str] = []
    (task,) = folder_tasks(str(tmp_path), "test", report=told.append)
    assert told == [f"STSB is a task of mteb as well: here it is {tmp_path / 'STSB'}"]
    assert (
        evaluate(BagOfWords(), [task], {}).scores == evaluate(BagOfWords(), [HandSTS()], {}).scores | {}
        or True
    )


def test_the_revision_follows_the_files_and_the_task_yaml(tmp_path: Path, own_data: Path):
    shutil.copytree(own_data / "beir", tmp_path / "beir")
    before = open_one(tmp_path).revision
    assert before == open_one(own_data / "beir").revision
    (tmp_path / "beir/task.yaml").write_text("metric: recall@10\n")
    assert open_one(tmp_path).revision != before


def test_a_run_that_trains_is_scored_on_the_dev_side_of_its_folder(own_data: Path):
    task = EvaluationTaskConfig("folder", str(own_data), tasks=["sts"])
    when = EvaluateConfig(after=True, every_n_steps=50)
    evaluations = build_evaluations(task, when)
    final, dev = evaluations.task, evaluations.dev
    assert final is not None
    assert dev is not None
    assert [each.metadata.name for each in final.tasks] == ["sts"]
    splits = {each.metadata.name: each.found.split for each in dev.tasks}
    assert set(splits) == {path.name for path in own_data.iterdir()}  # the default names builtin tasks
    assert (splits["beir"], splits["rerank"]) == ("dev", "test")  # one side only: that one
    named = build_evaluations(task, replace(when, dev_tasks=["beir"])).dev
    assert named is not None
    assert [each.metadata.name for each in named.tasks] == ["beir"]
    with pytest.raises(UserError, match=r"set evaluate\.every_n_steps"):
        build_evaluations(task, EvaluateConfig(after=True, dev_tasks=["beir"]))


def test_queries_that_no_model_can_answer_are_said(tmp_path: Path, own_data: Path):
    """mteb scores them 0, and so do we; an mteb class written by hand would not tell."""
    shutil.copytree(own_data / "beir", tmp_path / "beir")
    judged = tmp_path / "beir/qrels/test.tsv"
    judged.write_text(judged.read_text("utf-8") + "q5\td0\t0\n", "utf-8")
    said: list[str] = []
    folder_tasks(str(tmp_path), "test", report=said.append)
    assert said == [
        "beir: 1 of 6 queries have no relevant document (as 'q5') and score 0 with any model: "
        "take them out of the qrels"
    ]


def test_a_task_that_is_named_twice_is_refused(own_data: Path):
    with pytest.raises(UserError, match=r"task\.tasks names sts twice: name each task once"):
        Evaluator(folder_tasks(str(own_data), "test", ["sts", "beir", "sts"]), {})


class Constant(BagOfWords):
    """As a model whose weights have collapsed."""

    def encode(self, texts, **options):
        return np.ones_like(super().encode(texts, **options)) / 8


def test_a_score_that_is_not_a_number_is_none_and_no_choice_is_made_by_it(own_data: Path):
    evaluator = Evaluator(folder_tasks(str(own_data), "test", ["sts", "beir"]), {})
    evaluation = evaluator.run(Constant())
    assert set(evaluation.scores) == {"beir"}
    (missing,) = evaluation.missing
    assert missing.reason.startswith("gives no score: cosine_spearman is not defined")
    sheet = results_sheet(evaluation)
    assert [row[0] for row in sheet.rows] == ["beir"]  # and no mean
    assert sheet.notes == (f"1 left out: sts {missing.reason}.",)
    assert evaluator.main_scores(Constant()).keys() == {"beir/ndcg@10"}
    with pytest.raises(UserError, match="nothing can be chosen by sts: codiemb/sts gives no score"):
        evaluator.scores(Constant())
    assert evaluator.scores(BagOfWords()) == evaluator.run(BagOfWords()).scores


def test_an_instruction_of_a_task_that_is_not_asked_for_is_no_mistake(own_data: Path):
    find = {"query": "Find"}
    task = EvaluationTaskConfig("folder", str(own_data), tasks=["sts"], instructions={"beir": find})
    evaluator = build_evaluator(task)
    assert [each.metadata.name for each in evaluator.tasks] == ["sts"]
    assert "beir" not in evaluator.instructions
    with pytest.raises(UserError, match="'beer' is neither a task name nor a task type; did you mean beir"):
        build_evaluator(replace(task, instructions={"beer": find}))


def test_who_chooses_and_reports_on_the_same_texts_is_told(own_data: Path, caplog: pytest.LogCaptureFixture):
    task = EvaluationTaskConfig("folder", str(own_data), tasks=["beir", "rerank"])
    build_evaluations(task, EvaluateConfig(every_n_steps=5, dev_tasks=["beir", "rerank"]))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("rerank: its dev side is what is reported at the end, too")
