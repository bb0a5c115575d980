"""The files of a folder of one's own tell what the task is; what is not scored is said."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from codiemb.evaluation.folder_tasks import folder_tasks
from codiemb.task_files.kinds import find_task
from tests.support.task_folders import IR, LABELLED, ONE_RECORD, PAIRS, STS, write

BOTH = "files: {train: a.jsonl, test: b.jsonl}"
KINDS = [
    (IR, "retrieval"),
    ({**IR, "top_ranked.jsonl": "{}\n"}, "reranking"),
    ({"corpus.csv": "", "queries.tsv": "", "qrels/test.tsv": "", "README.md": ""}, "retrieval"),
    ({"any.tsv": STS}, "sts"),
    ({"pairs.jsonl": '{"text1": "", "text2": "", "label": 0}\n', "notes.csv": "x\n"}, "pair_classification"),
    ({"train.jsonl": LABELLED, "test.csv": "text,label\n"}, "classification"),
    ({"train.tsv": PAIRS, "validation.tsv": STS}, "sts"),
    ({"test.jsonl": LABELLED}, "clustering"),
    ({"a.jsonl": ONE_RECORD, "b.jsonl": ONE_RECORD}, "retrieval"),
    ({"a.jsonl": LABELLED, "b.jsonl": LABELLED, "task.yaml": BOTH}, "classification"),
    ({"a.tsv": PAIRS.format("label", 1, 2), "task.yaml": "kind: sts"}, "sts"),
]


@pytest.mark.parametrize(("files", "kind"), KINDS)
def test_the_files_tell_the_kind(files: Mapping[str, str], kind: str, tmp_path: Path):
    write(tmp_path, files)
    assert find_task(tmp_path, "x", "test").kind == kind


@pytest.mark.parametrize("files", [("a.tsv", "a.csv"), ("b-00000-of-00002.tsv",)])
def test_of_files_with_one_name_and_of_shards_a_task_yaml_chooses(files: tuple[str, ...], tmp_path: Path):
    named = f"files: {{pairs: ['*.tsv', {files[0]}]}}\n"  # by two patterns, and is read once
    write(tmp_path, {**dict.fromkeys(files, STS), "task.yaml": named})
    assert [path.name for path in find_task(tmp_path, "x", "test").files["pairs"]] == [files[0]]


@pytest.mark.parametrize("corpus", ["corpus.json", "corpus.jsonl.gz"])
def test_a_folder_with_a_corpus_is_the_task_whatever_the_corpus_is_packed_in(corpus: str, tmp_path: Path):
    write(tmp_path, {**IR, "old/a.tsv": STS})
    (tmp_path / "queries.jsonl").rename(tmp_path / "queries.json")
    path = (tmp_path / "corpus.jsonl").rename(tmp_path / corpus)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert [task.found.kind for task in folder_tasks(str(tmp_path), "test")] == ["retrieval"]


def test_candidates_have_ids_as_those_of_the_corpus(tmp_path: Path):
    numbers = {name: text.replace('"a"', "7").replace('"b"', "8") for name, text in IR.items()}
    write(tmp_path, {**numbers, "top_ranked.jsonl": '{"query-id": 7, "corpus-ids": [8, " 7 "]}\n'})
    (task,) = folder_tasks(str(tmp_path), "test")
    assert task.read()["default"]["test"]["top_ranked"] == {"7": ["8", "7"]}


def test_other_tasks_of_a_folder_are_not_looked_at(tmp_path: Path):
    write(tmp_path / "good", IR)
    write(tmp_path / "bad", {"a.csv": "left,right\n"})
    assert [task.metadata.name for task in folder_tasks(str(tmp_path), "test", ["good"])] == ["good"]


def test_files_beside_the_folders_of_tasks_are_said(tmp_path: Path):
    write(tmp_path, {"t/a.tsv": STS, "b.tsv": STS, "notes.md": "x"})
    said: list[str] = []
    folder_tasks(str(tmp_path), "test", report=said.append)
    assert len(said) == 1
    assert "b.tsv beside the sub-folders are not scored" in said[0]
    folder_tasks(str(tmp_path / "t"), "test", report=said.append)
    folder_tasks(str(tmp_path), "test", ["t"], report=said.append)
    assert len(said) == 1


def test_texts_of_a_class_that_is_not_learned_are_said(tmp_path: Path):
    write(tmp_path, {"train.jsonl": LABELLED, "test.jsonl": LABELLED.replace('"x"', '"z"')})
    said: list[str] = []
    folder_tasks(str(tmp_path), "test", report=said.append)
    assert "1 of 2 texts have a label that train has not (as 'z') and are wrong with any model" in said[0]
