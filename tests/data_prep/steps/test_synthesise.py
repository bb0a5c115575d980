"""synthesise: what a recipe makes of a source, for the steps that follow."""

import json
import re

import pytest

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.layout import CORPUS, QRELS, QUERIES
from data_prep.manifest import read_manifest
from tests.support.sources import make_source
from tests.support.synthesis import PASSAGES, TOPICS, prompt_of, rows, synthesise

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections that a test cuts


def test_queries_are_added_to_the_source_each_with_its_passage_and_origin(server, source, tmp_path):
    out = synthesise(server, source, tmp_path / "out", "query")
    queries, qrels = rows(out / QUERIES), rows(out / QRELS)
    assert queries[:2] == rows(source / QUERIES)
    assert qrels[:3] == rows(source / QRELS)
    made = {row["id"]: row for row in queries[2:]}
    assert len(made) == len(PASSAGES)
    assert {row["lang"] for row in made.values()} == {"en"}
    assert {row["instruction"] for row in made.values()} == {"Find the passage"}
    for row in qrels[3:]:
        topic = TOPICS[int(row["document"][1:])]
        assert made[row["query"]]["text"].startswith(f"what of {topic}")
        assert (row["grade"], row["origin"]) == (1.0, "synthesise query.en")
    assert rows(out / CORPUS) == rows(source / CORPUS)
    about = read_manifest(out)
    assert (about["requests"], about["tokens"]) == (12, {"asked": 120, "answered": 60})


def test_a_query_is_asked_for_in_two_steps_and_the_second_knows_the_first(server, source, tmp_path):
    synthesise(server, source, tmp_path / "out", "query")
    first = [prompt_of(body) for body in server.bodies if '"question_type"' in prompt_of(body)]
    second = [prompt_of(body) for body in server.bodies if '"question_type"' not in prompt_of(body)]
    assert len(first) == len(second) == len(PASSAGES)
    assert all("Person: a sailor" in prompt and "Length: " in prompt for prompt in second)
    personas = [re.findall(r"^(?:an?|the) .*", prompt, re.MULTILINE) for prompt in first]
    assert {len(each) for each in personas} == {5}
    assert len({tuple(each) for each in personas}) > 1


def test_the_same_input_gives_the_same_requests_in_any_order_of_rows(server, source, tmp_path):
    synthesise(server, source, tmp_path / "out", "query", "--per-row", "2")
    asked = {json.dumps(body, sort_keys=True) for body in server.bodies}
    assert len(server.bodies) == 4 * len(PASSAGES)
    turned = make_source(
        tmp_path / "turned", {}, dict(reversed(PASSAGES.items())), about={"instruction": "Find the passage"}
    )
    synthesise(server, turned, tmp_path / "again", "query", "--per-row", "2")
    assert {json.dumps(body, sort_keys=True) for body in server.bodies} == asked


def test_a_sample_of_rows_does_not_depend_on_their_order_but_on_the_seed(server, source, tmp_path):
    turned = make_source(tmp_path / "turned", {}, dict(reversed(PASSAGES.items())))
    found = {}
    for name, read, seed in (("a", source, "0"), ("b", turned, "0"), ("c", source, "2")):
        out = synthesise(server, read, tmp_path / name, "query", "--count", "3", "--seed", seed)
        found[name] = {row["document"] for row in rows(out / QRELS) if row["origin"] != "test"}
        assert len(found[name]) == 3
    assert found["a"] == found["b"] != found["c"]


def test_a_query_over_two_passages_has_both_for_positives(server, source, tmp_path):
    out = synthesise(server, source, tmp_path / "out", "multi_hop")
    by_query: dict[str, list[str]] = {}
    for row in rows(out / QRELS)[3:]:
        by_query.setdefault(row["query"], []).append(row["document"])
    assert by_query
    assert all(len(set(documents)) >= 2 for documents in by_query.values())


def test_paraphrases_are_answered_by_all_that_answers_the_query(server, source, tmp_path):
    out = synthesise(server, source, tmp_path / "out", "paraphrases")
    texts = {row["id"]: row["text"] for row in rows(out / QUERIES)[2:]}
    assert len(texts) == 4
    right = {(texts[row["query"]].split()[-2], row["document"]) for row in rows(out / QRELS)[3:]}
    assert right == {("whales", "d0"), ("whales", "d1"), ("rivers", "d1")}


def test_hard_negatives_are_candidates_that_export_takes_for_negatives(server, source, tmp_path):
    out = synthesise(server, source, tmp_path / "out", "hard_negatives")
    found = rows(out / "candidates/hard_negatives.en.parquet")
    assert [(row["query"], row["rank"], row["score"]) for row in found] == [
        ("q0", 1, None), ("q0", 2, None), ("q1", 1, None), ("q1", 2, None)
    ]  # fmt: skip
    main(["export", "--in", str(out), "--out", str(tmp_path / "export")])
    (first, _) = [
        json.loads(line) for line in (tmp_path / "export/toy.jsonl").read_text().split("\n") if line
    ]
    assert [text.split()[0] for _, _, text in first["negatives"]] == ["not", "nor"]
    assert "negative_scores" not in first
    with pytest.raises(UserError, match=r"has candidates of the name 'hard_negatives.en'"):
        synthesise(server, out, tmp_path / "again", "hard_negatives")


def test_a_graded_list_gives_positives_candidates_and_scores(server, source, tmp_path):
    out = synthesise(server, source, tmp_path / "out", "graded_list")
    scored = [(row["rank"], row["score"]) for row in rows(out / "candidates/graded_list.en.parquet")][:4]
    assert scored == [(None, 1.0), (1, 0.666667), (2, 0.333333), (3, 0.0)]
    main(["export", "--in", str(out), "--out", str(tmp_path / "export")])
    (first, _) = [
        json.loads(line) for line in (tmp_path / "export/toy.jsonl").read_text().split("\n") if line
    ]
    assert first["positive_scores"] == [None, None, 1.0]
    assert first["negative_scores"] == [0.666667, 0.333333, 0.0]


@pytest.mark.parametrize(("recipe", "reads"), [("graded_pairs", True), ("sts", False)])
def test_graded_pairs_are_a_source_of_their_own_that_export_writes(server, source, tmp_path, recipe, reads):
    read = source if reads else None
    out = synthesise(server, read, tmp_path / "out", recipe, "--count", "3", "--name", "pairs")
    grades = [0.0, 0.5, 0.8, 1.0] if reads else [0.5, 1.0]
    assert sorted({row["grade"] for row in rows(out / QRELS)}) == grades
    assert all(row["id"] not in ("q0", "q1") for row in rows(out / QUERIES))
    main(["export", "--in", str(out), "--out", str(tmp_path / "export")])
    records = [json.loads(line) for line in (tmp_path / "export/pairs.jsonl").read_text().split("\n") if line]
    assert len(records) == 3 * len(grades)
    assert {record["task_type"] for record in records} == {"sts"}
    assert json.loads((out / "source.json").read_text())["made_by"] == "m"


def test_examples_of_brainstormed_tasks_share_a_list_of_tasks_and_carry_theirs(server, tmp_path):
    out = synthesise(server, None, tmp_path / "out", "tasks", "--count", "30")
    brainstorms = [body for body in server.bodies if '"tasks"' in prompt_of(body)]
    assert len(brainstorms) == 2
    assert len(server.bodies) == 2 + 30
    instructions = [row["instruction"] for row in rows(out / QUERIES)]
    assert instructions[:3] == [f"Given a thing, find number {i}" for i in range(3)]
    assert len({row["query"] for row in rows(out / "candidates/tasks.en.parquet")}) == 30


def test_mine_filter_dedup_and_stats_take_what_was_made(server, source, tmp_path):
    made = synthesise(server, source, tmp_path / "made", "query")
    negatives = synthesise(server, made, tmp_path / "negatives", "hard_negatives")
    step = tmp_path / "dedup"
    main(["dedup", "--in", str(negatives), "--out", str(step)])
    main(["mine", "--in", str(step), "--out", str(tmp_path / "mine"), "--search", "bm25", "--max-rank", "3"])
    main(["audit", "--in", str(tmp_path / "mine"), "--out", str(tmp_path / "audit")])
    main(
        [
            "filter",
            "--in",
            str(tmp_path / "mine"),
            "--out",
            str(tmp_path / "filter"),
            "--scorer",
            "bm25",
            "--max-rank",
            "3",
        ]
    )
    main(["export", "--in", str(tmp_path / "filter"), "--out", str(tmp_path / "export")])
    records = [json.loads(line) for line in (tmp_path / "export/toy.jsonl").read_text().split("\n") if line]
    assert any(record["query"][2].startswith("what of") and record["negatives"] for record in records)


PIPELINE = """out: {out}
sources:
  made:
    - synthesise: {{recipe: tasks, count: 4, endpoint: '{url}', model: m}}
    - mine: {{search: bm25, max_rank: 3}}
    - export
"""


def test_a_pipeline_may_begin_with_synthesise_and_does_nothing_twice(server, tmp_path, capsys):
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE.format(out=tmp_path / "road", url=server.url))
    main(["run", str(file)])
    asked = len(server.bodies)
    assert asked == 5
    assert (tmp_path / "road/made/export/tasks.en.jsonl").is_file()
    server.answer = lambda body: "no"
    main(["run", str(file)])
    assert "made from has not changed" in capsys.readouterr().out
    file.write_text(
        PIPELINE.format(out=tmp_path / "road", url="http://127.0.0.1:9/v1").replace(
            "m}", "m, concurrency: 2}"
        )
    )
    main(["run", str(file)])  # other options, no server: the ledger has it all
    assert len(server.bodies) == asked
