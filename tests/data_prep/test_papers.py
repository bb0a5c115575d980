"""Out-of-domain text: what mteb's source says of datasets, read and never imported."""

import json

import pytest

from data_prep import papers
from data_prep.records import write_jsonl

TASK = '''
raise SystemExit("imported")
class A(AbsTask):
    metadata = TaskMetadata(
        name="A", type={kind!r}, description={description!r},
        bibtex_citation=r"""@inproceedings{{x,
  title = {{{{{title}}}}},
  booktitle = {{Proceedings of nothing}},
}}""",
    )
'''


FINE = "One \\emph{fine} paper of pairs"


@pytest.fixture
def source(tmp_path):
    """Tasks of two kinds; two of one paper, one that repeats its title, one too short, one without one."""
    rows = [
        (
            "STS",
            f"Pairs number {n} of sentences with a graded similarity between them",
            FINE,
        )
        for n in range(2)
    ]
    rows += [
        (
            "STS",
            "In A long title that is repeated here we describe sentences",
            "A long title that is repeated",
        )
    ]
    rows += [("Retrieval", "Too short", "Another title of another paper")]
    rows += [("Retrieval", "A sentence that says what this dataset of questions is about", "Short")]
    folder = tmp_path / "tasks"
    folder.mkdir()
    for number, (kind, description, title) in enumerate(rows):
        text = TASK.format(kind=kind, description=description, title=title)
        (folder / f"t{number}.py").write_text(text, "utf-8")
    return folder


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_title_finds_the_descriptions_of_its_datasets(source, tmp_path):
    papers.build_papers(tmp_path, source)
    folder = tmp_path / "eval/dev/PapersRetrieval"
    corpus = {row["id"]: row["text"] for row in read(folder / "corpus.jsonl")}
    (query,) = read(folder / "queries.jsonl")
    assert query["text"] == "One fine paper of pairs"
    found = {
        corpus[row["corpus_id"]] for row in read(folder / "qrels.jsonl") if row["query_id"] == query["id"]
    }
    assert found == {f"Pairs number {n} of sentences with a graded similarity between them" for n in range(2)}
    assert len(corpus) == 2


def test_kinds_have_as_many_texts_on_both_sides_and_none_twice(source, tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "PER_LABEL", 1)
    papers.build_papers(tmp_path, source)
    sides = {
        name: read(tmp_path / f"eval/dev/PapersClassification/{name}.jsonl") for name in ("train", "test")
    }
    assert {name: [row["label"] for row in rows] for name, rows in sides.items()} == {
        "train": ["STS"],
        "test": ["STS"],
    }
    assert sides["train"][0]["text"] != sides["test"][0]["text"]


def test_as_folders_they_are_the_same_tasks_on_the_dev_side(source, tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "PER_LABEL", 1)
    papers.build_papers(tmp_path, source)
    papers.build_paper_folders(tmp_path, source)
    builtin, folders = tmp_path / "eval/dev", tmp_path / "eval"
    (record,) = read(folders / "PapersRetrieval/dev.jsonl")
    assert record["query"][2] == read(builtin / "PapersRetrieval/queries.jsonl")[0]["text"]
    corpus = [row["text"] for row in read(builtin / "PapersRetrieval/corpus.jsonl")]
    assert [text for _, _, text in record["positives"]] == corpus
    for side, name in (("train", "train"), ("dev", "test")):
        there = read(builtin / f"PapersClassification/{name}.jsonl")
        assert read(folders / f"PapersClassification/{side}.jsonl") == there


def test_a_training_file_with_one_of_these_texts_stops_the_build(source, tmp_path):
    text = "Pairs number 1, of sentences, with a graded similarity between them!"
    write_jsonl(tmp_path / "train/docs_ir.jsonl", [{"query": ["", "", text], "positives": [["", "", "b"]]}])
    with pytest.raises(ValueError, match="would be in docs_ir"):
        papers.build_papers(tmp_path, source)
    assert not (tmp_path / "eval").exists()
