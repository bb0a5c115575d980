"""What is wrong with a folder of one's own is told before anything is scored: where, what, and what to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from codiemb.config.command_line import Script, check
from codiemb.errors import UserError
from codiemb.evaluation.folder_tasks import folder_tasks
from tests.support.paths import ROOT
from tests.support.task_folders import IR, JUDGED, LABELLED, ONE_RECORD, PAIRS, RAW, STS, TEXTS, TWO, write

GRADED = r"3: label is '3\.5', and a label of a pair is 0 .*: kind: sts, columns: {score: label}"
ERRORS = {
    "nothing of use": (
        {"t/picture.png": "x"},
        r"t: the folder is empty or holds no data; accepted are corpus",
    ),
    "unknown files": (
        {"t/a.jsonl": LABELLED, "t/b.csv": "text,label\n"},
        r"told by its files \(a\.jsonl, b\.csv\); acc",
    ),
    "unknown columns": ({"t/a.csv": "left,right\n1,2\n"}, r"the columns of a\.csv \(left, right\); accepted"),
    "no corpus": (
        {"t/queries.jsonl": TEXTS, "t/qrels.jsonl": JUDGED},
        r"corpus is missing \(corpus\.jsonl\); there are",
    ),
    "two corpora": (
        {**IR, "corpus.csv": ""},
        r"corpus\.csv, corpus\.jsonl are all called 'corpus'; keep one",
    ),
    "unknown ids": (
        {**IR, "qrels.jsonl": JUDGED + '{"query-id": "q", "corpus-id": "d", "score": 1}\n'},
        r"qrels\.jsonl:2: unknown ids: 'q' is not in queries\.jsonl, 'd' is not in corpus\.jsonl; add",
    ),
    "fractions": (
        {**IR, "qrels.jsonl": JUDGED.replace("1", "0.5")},
        r"qrels\.jsonl:1: score is 0\.5, a fraction",
    ),
    "nothing relevant": (
        {**IR, "qrels.jsonl": JUDGED.replace("1", "0")},
        r"qrels\.jsonl: no query has a relevant",
    ),
    "two grades": (
        {**IR, "qrels.jsonl": JUDGED + JUDGED.replace("1", "2")},
        r"qrels\.jsonl:2: .*judged twice",
    ),
    "unknown header": (
        {**TWO, "qrels/test.tsv": "q\td\tr\na\tb\t1\n"},
        r"test\.tsv:2: no column 'query-id'; it has q, d, r; say which one holds query",
    ),
    "a side that is not there": (
        {**TWO, "qrels/dev.tsv": "a\tb\t1\n", "qrels/all.tsv": "a\tb\t1\n"},
        r"qrels: no test among all, dev; choose one: task\.split=SPLIT",
    ),
    "an empty text": (
        {**IR, "corpus.jsonl": TEXTS + '{"_id": "c", "text": " "}\n'},
        r"corpus\.jsonl:3: text is empty",
    ),
    "an id twice": ({**IR, "queries.jsonl": TEXTS + TEXTS}, r"queries\.jsonl:3: the id 'a' occurs twice"),
    "no JSON": ({**IR, "corpus.jsonl": TEXTS + "{\n"}, r"corpus\.jsonl:3: not JSON"),
    "an empty file": ({**IR, "corpus.jsonl": ""}, r"corpus\.jsonl: the file is empty"),
    "no candidates": (
        {**IR, "top_ranked.jsonl": '{"query_id": "b", "corpus_ids": ["a"]}\n'},
        r"top_ranked\.jsonl: query 'a' has no candidates",
    ),
    "one score": (
        {"pairs.tsv": PAIRS.format("score", 1, 1)},
        r"pairs\.tsv: every score is 1\.0; a task needs two",
    ),
    "one label": (
        {"pairs.tsv": PAIRS.format("label", 1, 1)},
        r"pairs\.tsv: every label is 1; a task needs two",
    ),
    "one class": (
        {"texts.jsonl": LABELLED.replace("y", "x")},
        r"texts\.jsonl: every label is 'x'; a task needs two",
    ),
    "a graded label": (
        {"pairs.tsv": PAIRS.format("label", 1, 3.5)},
        r"pairs\.tsv:" + GRADED,
    ),
    "no number": (
        {"pairs.tsv": PAIRS.format("score", 1, "high")},
        r"pairs\.tsv:3: score must be a finite number, not 'hi",
    ),
    "labels of two types": (
        {"texts.jsonl": LABELLED + '{"text": "a", "label": 1}\n'},
        r"texts\.jsonl:3: label is 1; labels",
    ),
    "labels that look alike": (
        {"texts.csv": "text,label\na,x\nb,x \n"},
        r"texts\.csv: the labels 'x ' and 'x' differ in white space alone, and would",
    ),
    "labels of two sides that look alike": (
        {"train.jsonl": LABELLED, "test.jsonl": LABELLED.replace('"x"', '" x"')},
        r"test\.jsonl: the labels ' x' and 'x' differ in white space alone, and would",
    ),
    "train only": ({"train.jsonl": LABELLED}, r"train\.jsonl: train without test: add"),
    "other classes": (
        {"train.jsonl": LABELLED, "test.jsonl": LABELLED.replace('"x"', '"z"').replace('"y"', '"w"')},
        r"test\.jsonl: none of its labels is in train\.jsonl, which has 'x', 'y'",
    ),
    "a bad record": ({"a.jsonl": ONE_RECORD + '{"task_type": "ir"}\n'}, r"a\.jsonl:2: query is missing"),
    "records of two tasks": (
        {"a.jsonl": ONE_RECORD + RAW},
        r"a\.jsonl: record 2 has task_type 'lm', and the first one 'ir'",
    ),
    "raw text": ({"a.jsonl": RAW}, r"a\.jsonl:1: task_type is 'lm'; records of ir and"),
    "a key of task.yaml": (
        {**IR, "task.yaml": "metrics: x\n"},
        r"task\.yaml: unknown key metrics; did you mean metric\?",
    ),
    "a metric": (
        {**IR, "task.yaml": "metric: ndgc@10\n"},
        r"task\.yaml: metric: retrieval has no 'ndgc@10'; .*ndcg_at_10",
    ),
    "a column": (
        {**IR, "task.yaml": "columns: {body: x}\n"},
        r"task\.yaml: columns: 'body' is no name of ours; .*title, text",
    ),
    "a file": (
        {"a.csv": "", "task.yaml": "files: {pairs: b.csv}\n"},
        r"task\.yaml: files: none is called 'b\.csv'; there are a",
    ),
    "a grade that trec_eval has no room for": (
        {**IR, "qrels.jsonl": JUDGED.replace("1", "1700000000")},
        r"qrels\.jsonl:1: score is 1\.7e\+09, and no grade is above 1,000,000",
    ),
    "a number of 400 digits": (
        {"a.jsonl": '{"sentence1": "a", "sentence2": "b", "score": ' + "9" * 400 + "}\n"},
        r"a\.jsonl:1: score must be a finite number",
    ),
    "a label that no table holds": (
        {"texts.jsonl": LABELLED.replace('"x"', str(2**70))},
        r"texts\.jsonl:1: label is 1180591620717411303424; a label",
    ),
    "a shard that is missing": (
        {"pairs-00000-of-00002.tsv": STS},
        r"own: pairs is cut into 2 files, and 1 are there; add",
    ),
    "a task's file and a side's": ({"pairs.tsv": STS, "test.tsv": STS}, r"pairs\.tsv, test\.tsv may each be"),
    "judgements in two places": (
        {**IR, "qrels/test.tsv": "a\tb\t1\n"},
        r"qrels\.jsonl, qrels may each be what is scored; keep one",
    ),
    "a name that leads elsewhere": (
        {"a.tsv": STS, "task.yaml": "name: ../up\n"},
        r"task\.yaml: a task cannot be called '\.\./up'",
    ),
    "a path from the root": (
        {"a.tsv": STS, "task.yaml": "files: {pairs: /data/a.tsv}\n"},
        r"task\.yaml: files: '/data/a\.tsv' is no name in the folder; write it as",
    ),
    "no kind": (
        {"a.tsv": STS, "task.yaml": "kind: STS\n"},
        r"task\.yaml: kind: Input should be 'retrieval'.* or ''$",
    ),
    "two names": (
        {"t/a.tsv": STS, "u/a.tsv": STS, "u/task.yaml": "name: t\n"},
        r"u and .*t are both called 't'",
    ),
}


def test_a_link_to_data_that_is_not_there_is_told(tmp_path: Path):
    """A mount that is away must not take a task out of the mean."""
    write(tmp_path / "t", {"a.tsv": STS})
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"gone: a link to .*nowhere, which is not there; mend it or delete"):
        folder_tasks(str(tmp_path), "test")


@pytest.mark.parametrize("case", ERRORS)
def test_a_folder_of_no_use_is_told(case: str, tmp_path: Path):
    files, message = ERRORS[case]
    write(tmp_path / "own", files)
    with pytest.raises(UserError, match=message):
        folder_tasks(str(tmp_path / "own"), "test")


def test_a_path_that_is_no_folder_is_told(tmp_path: Path):
    write(tmp_path, {"a.tsv": STS, "sides/dev/t/a.tsv": STS})
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("", "task=folder needs task.data=DIR"),
        (str(tmp_path / "a.tsv"), "is a file; name the folder that holds it"),
        (str(tmp_path / "none"), "no such folder"),
        (str(tmp_path / "empty"), "the folder is empty"),
        (str(tmp_path / "sides"), r"has the sides dev, no test: choose one with task\.split"),
    ):
        with pytest.raises(UserError, match=message):
            folder_tasks(path, "test")
    with pytest.raises(UserError, match=r"task\.tasks: no u in task\.data=.*; it has t"):
        folder_tasks(str(tmp_path / "sides"), "dev", ["u"])


def test_the_command_line_tells_a_bad_row_before_torch_is_imported(tmp_path: Path):
    write(tmp_path / "bad", {"pairs.tsv": PAIRS.format("score", 1, "high")})
    write(tmp_path / "good", IR)
    arguments = ["task=folder", f"task.data={tmp_path}"]
    with pytest.raises(UserError, match=r"bad/pairs\.tsv:3: score must be a finite number"):
        check(Script(ROOT / "conf", "eval"), arguments)
    check(Script(ROOT / "conf", "eval"), [*arguments, "task.tasks=[good]"])
    heavy = "{'torch', 'datasets', 'mteb'} & sys.modules.keys()"
    light = f"import sys, codiemb.config.folder_check; sys.exit(bool({heavy}))"
    subprocess.run([sys.executable, "-c", light], check=True)


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(self: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); give your user the right"):
        folder_tasks(str(tmp_path), "test")
