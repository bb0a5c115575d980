"""Each layout that people have: good rows become judgements and scores, a bad row is told with its place."""

import json

import pytest

from codiemb.errors import UserError
from data_prep.fetch.importers import load_importer
from data_prep.fetch.own import own_recipe
from data_prep.fetch.problems import BadRows
from data_prep.fetch.raw import find_files, read_items
from tests.support.fetching import fetch, judged, table, write_all, write_raw

CODIEMB = [
    {
        "task_type": "ir",
        "query": ["Find", "about ", "tea"],
        "positives": [["", "", "green"], ["", "", "black"]],
        "negatives": [["", "", "coffee"]],
        "positive_scores": [0.9, 0.8],
        "negative_scores": [0.1],
    }
]


def test_released_records_keep_their_instruction(tmp_path):
    write_raw(tmp_path / "raw/a.jsonl", CODIEMB)
    out = fetch(tmp_path / "out", importer="codiemb", from_=tmp_path / "raw/a.jsonl", instruction="other")
    assert judged(out) == {("about tea", "green", 1), ("about tea", "black", 1), ("about tea", "coffee", 0)}
    assert [row["instruction"] for row in table(out, "queries")] == ["Find"]
    assert {row["origin"] for row in table(out, "qrels")} == {"a.jsonl"}
    scores = [(row["score"], row["scorer"]) for row in table(out, "candidates/given")]
    assert scores == [(0.9, "given"), (0.8, "given"), (0.1, "given")]


def test_a_slip_in_a_label_does_not_leave_out_all_rows_of_it(tmp_path):
    rows = [
        {"query": "a", "positive": f"b{i}", "label": label}
        for i, label in enumerate(("yes", "contradiction"))
    ]
    raw = write_raw(tmp_path / "raw/a.jsonl", rows)
    with pytest.raises(
        UserError, match="no row has the label 'contradicton', and rows of the label 'contradic"
    ):
        fetch(tmp_path / "out", importer="pairs", from_=raw, labels=["yes=1", "contradicton=0"])
    out = fetch(tmp_path / "out", importer="pairs", from_=raw, labels=["yes=1", "no=0"])  # none may be there
    assert judged(out) == {("a", "b0", 1)}


def test_released_sts_records_have_their_score_as_grade(tmp_path):
    record = {
        "task_type": "sts",
        "query": ["Judge", "", "a"],
        "positives": [["Judge", "", "b"]],
        "positive_scores": [4],
    }
    write_raw(tmp_path / "raw/a.jsonl", [record])
    out = fetch(tmp_path / "out", importer="codiemb", from_=tmp_path / "raw", task="sts", score_range=[0, 5])
    assert judged(out) == {("a", "b", 0.8)}
    with pytest.raises(UserError, match=r"a\.jsonl:1: task_type is 'sts', and the recipe's task 'ir'"):
        fetch(tmp_path / "other", importer="codiemb", from_=tmp_path / "raw")


def test_flag_embedding_keeps_a_teachers_scores(tmp_path):
    rows = [
        {
            "query": "q",
            "pos": ["p"],
            "neg": ["n", "m"],
            "pos_scores": [3.5],
            "neg_scores": [-1, None],
            "prompt": "Find",
        },
        {"query": "r", "pos": "p", "neg": []},
    ]
    write_raw(tmp_path / "raw/a.jsonl", rows)
    out = fetch(tmp_path / "out", importer="flag_embedding", from_=tmp_path / "raw", instruction="own")
    assert judged(out) == {("q", "p", 1), ("q", "n", 0), ("q", "m", 0), ("r", "p", 1)}
    assert [row["score"] for row in table(out, "candidates/given")] == [3.5, -1]
    assert [row["instruction"] for row in table(out, "queries")] == ["Find", "own"]
    assert len(table(out, "corpus")) == 3


def test_columns_of_sentence_transformers(tmp_path):
    rows = [{"anchor": "q", "positive": "p", "negative_2": "n2", "negative_10": "n10", "negative_1": None}]
    write_raw(tmp_path / "raw/a.parquet", rows)
    out = fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    assert judged(out) == {("q", "p", 1), ("q", "n2", 0), ("q", "n10", 0)}
    assert [row["text"] for row in table(out, "corpus")] == ["p", "n2", "n10"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz", "a.json", "a.jsonl.zst", "a.parquet"])
def test_pairs_with_a_score_in_any_file(name, tmp_path):
    table_rows = [["sentence1", "sentence2", "score"], ["he, runs", "he moves", "2.5"]]
    rows = [dict(zip(table_rows[0], ["he, runs", "he moves", 2.5], strict=True))]
    write_raw(tmp_path / name, table_rows if name[2:5] in ("csv", "tsv") else rows)
    out = fetch(
        tmp_path / "out",
        importer="pairs",
        from_=tmp_path / name,
        task="sts",
        score_range=[0, 5],
    )
    assert judged(out) == {("he, runs", "he moves", 0.5)}


def test_pairs_with_a_label_need_its_meaning(tmp_path):
    rows = [{"premise": "a", "hypothesis": f"b{n}", "label": n} for n in range(3)]
    write_raw(tmp_path / "raw/a.jsonl", rows)
    with pytest.raises(UserError, match=r"there is a label, and nothing says what it means: --labels"):
        fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")
    out = fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw", labels=["0=1", "2=0"])
    assert judged(out) == {("a", "b0", 1), ("a", "b2", 0)}
    write_raw(tmp_path / "raw/a.jsonl", [{"sentence1": "a", "sentence2": "b", "score": 0.5}])
    with pytest.raises(UserError, match=r"there is a score, and the task is ir: --task sts"):
        fetch(tmp_path / "other", importer="pairs", from_=tmp_path / "raw")


def test_beir_folders_read_one_split(tmp_path):
    files = {
        "corpus.jsonl": [{"_id": "d1", "title": "T", "text": "x"}, {"_id": "d2", "title": "", "text": "y"}],
        "queries.jsonl": [{"_id": "q1", "text": "ask", "metadata": {}}],
        "qrels/train.tsv": [["query-id", "corpus-id", "score"], ["q1", "d1", "1"]],
        "qrels/test.tsv": [["query-id", "corpus-id", "score"], ["q1", "d2", "1"]],
    }
    raw = write_all(tmp_path / "beir", files)
    out = fetch(tmp_path / "out", importer="beir", from_=raw)
    assert judged(out) == {("ask", "x", 1)}
    assert [(row["id"], row["title"]) for row in table(out, "corpus")] == [("d1", "T"), ("d2", "")]
    assert judged(fetch(tmp_path / "test", importer="beir", from_=raw, split="test")) == {("ask", "y", 1)}


def test_tevatron_keeps_ids(tmp_path):
    passages = {name: [{"docid": name[0], "text": name}] for name in ("positive", "negative")}
    row = {"query_id": 7, "query": "q"} | {f"{name}_passages": each for name, each in passages.items()}
    write_raw(tmp_path / "raw/a.jsonl.gz", [row])
    out = fetch(tmp_path / "out", importer="tevatron", from_=tmp_path / "raw")
    found = [(row["query"], row["document"], row["grade"]) for row in table(out, "qrels")]
    assert found == [("7", "p", 1), ("7", "n", 0)]


def test_messages_of_ms_swift(tmp_path):
    rows = [
        {
            "messages": [{"role": "system", "content": "Find"}, {"role": "user", "content": "q"}],
            "positive_messages": [[{"role": "user", "content": "p"}]],
            "negative_messages": [[{"role": "user", "content": "n"}], [{"role": "user", "content": "m"}]],
        },
        {
            "messages": [{"role": "user", "content": "r"}],
            "positive_messages": [[{"role": "user", "content": "p"}]],
            "label": 0,
        },
    ]
    write_raw(tmp_path / "raw/a.jsonl", rows)
    out = fetch(tmp_path / "out", importer="messages", from_=tmp_path / "raw")
    assert judged(out) == {("q", "p", 1), ("q", "n", 0), ("q", "m", 0), ("r", "p", 0)}
    assert [row["instruction"] for row in table(out, "queries")] == ["Find", ""]


GOOD = {
    "flag_embedding": {"query": "q", "pos": ["p"], "neg": ["n"]},
    "pairs": {"anchor": "q", "positive": "p"},
    "tevatron": {"query_id": "1", "query": "q", "positive_passages": [{"docid": "1", "text": "p"}]},
    "messages": {
        "messages": [{"role": "user", "content": "q"}],
        "positive_messages": [[{"role": "user", "content": "p"}]],
    },
    "codiemb": {"task_type": "ir", "query": "q", "positives": ["p"]},
}
BAD = [
    ("flag_embedding", {"query": 5}, "query must be text, not a number"),
    ("flag_embedding", {"query": None}, "query must be text, not null"),
    ("flag_embedding", {"pos": []}, "pos is missing or empty"),
    ("flag_embedding", {"neg": [["n"]]}, "neg must be text, not a list"),
    ("flag_embedding", {"neg_scores": [1, 2]}, "neg_scores has 2 scores for 1 texts"),
    ("flag_embedding", {"pos_scores": ["high"]}, "pos_scores must be a finite number, not 'high'"),
    ("flag_embedding", {"query": "\ud800"}, "query has half of a surrogate pair"),
    ("pairs", {"positive": True}, "positive must be text, not true or false"),
    ("pairs", {"anchor": {}}, "anchor must be text, not an object"),
    ("tevatron", {"positive_passages": None}, "positive_passages is missing or empty"),
    ("tevatron", {"positive_passages": ["p"]}, "positive_passages must hold objects, not text"),
    ("tevatron", {"positive_passages": [{"docid": "1"}]}, "no column 'text'; it has docid"),
    ("tevatron", {"query_id": ""}, "query_id is empty; every row needs an id"),
    ("messages", {"messages": "q"}, "messages: a conversation is a list of objects"),
    ("messages", {"messages": [{"role": "tool", "content": "q"}]}, "not 'tool'"),
    ("messages", {"positive_messages": []}, "positive_messages is missing or empty"),
    ("messages", {"negative_messages": "n"}, "negative_messages must be a list of conversations, not text"),
    ("messages", {"label": 2}, "score is 2, outside [0, 1]"),
    ("codiemb", {"positives": []}, "positives is missing or empty"),
]


@pytest.mark.parametrize(("importer", "change", "told"), BAD)
def test_a_bad_row_is_told_with_file_row_and_reason(importer, change, told, tmp_path):
    text = "".join(
        f"{json.dumps(row)}\n" for row in (GOOD[importer], GOOD[importer] | change, GOOD[importer])
    )
    (tmp_path / "a.jsonl").write_text(text, "utf-8")
    recipe, bad = own_recipe(importer, tmp_path, [], {"task": "ir"}, "train"), BadRows()
    (file,) = find_files(recipe, tmp_path)
    items = list(read_items(recipe, file, load_importer(importer), bad))
    assert {where for where, _ in items} == {f"{tmp_path}/a.jsonl:1", f"{tmp_path}/a.jsonl:3"}
    ((where, problem),) = bad.first
    assert where == f"{tmp_path}/a.jsonl:2"
    assert told in problem


def test_a_column_of_another_name_is_told_with_those_that_are_there(tmp_path):
    write_raw(tmp_path / "raw/a.parquet", [{"asked": "q", "positive": "p"}])
    with pytest.raises(UserError, match=r"a\.parquet:1: no column 'anchor'; it has positive.*columns"):
        fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw")


def test_a_column_that_no_row_has_is_an_error_though_rows_may_lack_it(tmp_path):
    rows = [{"query": "q", "pos": ["p"]}, {"query": "r", "pos": ["p"], "hard": ["n"]}]
    write_raw(tmp_path / "raw/a.jsonl", rows)
    out = fetch(tmp_path / "out", importer="flag_embedding", from_=tmp_path / "raw", columns=["neg=hard"])
    assert ("r", "n", 0) in judged(out)
    with pytest.raises(UserError, match="no row has a column 'hrad'; it has query, pos"):
        fetch(tmp_path / "slip", importer="flag_embedding", from_=tmp_path / "raw", columns=["neg=hrad"])


def test_layouts_of_several_files_take_a_recipe(tmp_path):
    write_raw(tmp_path / "raw/a.jsonl", [{}])
    with pytest.raises(UserError, match="--importer tables needs a recipe"):
        fetch(tmp_path / "out", importer="tables", from_=tmp_path / "raw")
    with pytest.raises(UserError, match="--columns query: must be OURS=THEIRS"):
        fetch(tmp_path / "out", importer="pairs", from_=tmp_path / "raw", columns=["query"])
    with pytest.raises(UserError, match="either --recipe NAME or --importer NAME"):
        fetch(tmp_path / "out")
