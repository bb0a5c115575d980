"""synthesise: what a recipe makes of a source, whatever happens on the way, for the steps that follow."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.layout import CORPUS, QRELS, QUERIES
from data_prep.manifest import read_manifest
from data_prep.synthesis.prompt import PROMPTS, load_prompt, names
from tests.support.chat_server import KEY, ChatServer, serving
from tests.support.forks import fork
from tests.support.sources import make_source

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections that a test cuts
TOPICS = ("whales", "rivers", "volcanoes", "bridges", "clocks", "bread")
PASSAGES = {
    f"d{i}": f"Everything about {topic} number {i}, told at length." for i, topic in enumerate(TOPICS)
}


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with serving() as service:
        yield service


@pytest.fixture
def server(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chat.plan, chat.delay, chat.answer, chat.fault = [], 0.0, answer, lambda body: ""
    chat.bodies.clear()
    chat.finished.clear()
    return chat


def prompt_of(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def answer(body: dict[str, Any]) -> str:
    """A model that does what it is asked: the last JSON of the prompt, about the topic there."""
    prompt = prompt_of(body)
    topic = next((topic for topic in TOPICS if topic in prompt), "nothing")
    said = f"{topic} {body['seed'] % 1000}"
    if '"question_type"' in prompt:
        return json.dumps({"persona": "a sailor", "question_type": "keywords", "difficulty": "student"})
    if '"paraphrases"' in prompt:
        return json.dumps({"paraphrases": [f"in other words {said}", f"again {said}"]})
    if '"hard_negatives"' in prompt:
        return f"Here they are:\n```json\n{json.dumps({'hard_negatives': [f'not {said}', 'nor that']})}\n```"
    if '"documents"' in prompt:
        graded = [{"grade": g, "text": f"of grade {g} {said}"} for g in (1, 3, 0, 2)]
        return json.dumps({"documents": graded})
    if '"tasks"' in prompt:
        return json.dumps({"tasks": [f"Given a thing, find number {i}" for i in range(20)]})
    if '"pairs"' in prompt:
        grades = (5, 2.5) if "two others" in prompt else (5, 4, 2.5, 0)
        pairs = [{"grade": g, "text": f"like {g} {said}"} for g in grades]
        return json.dumps({"sentence": f"This sentence is {said}", "pairs": pairs})
    if '"sentence"' in prompt:
        return json.dumps({"sentence": f"This sentence is {said}"})
    if '"positive"' in prompt:
        texts = {"query": f"Question {said}", "positive": f"The right answer {said}"}
        return json.dumps(texts | {"hard_negative": f"A wrong answer {said}"})
    query = {"query": f"what of {said}", "from_first": "a", "from_second": "b"}
    return f"<think>They want {{one}}.</think>{json.dumps(query)}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    about = {"instruction": "Find the passage", "licence": "cc0"}
    qrels = [("q0", "d0"), ("q0", "d1"), ("q1", "d1")]
    return make_source(
        tmp_path / "in", {"q0": "old one whales", "q1": "old two rivers"}, PASSAGES, qrels, about=about
    )


def synthesise(server: ChatServer, source: Path | None, out: Path, recipe: str, *more: str) -> Path:
    read = ["--in", str(source)] if source is not None else []
    fast = ["--first-wait-seconds", "0.001", "--concurrency", "4", "--max-attempts", "3"]
    where = ["--endpoint", server.url, "--model", "m"]
    main(["synthesise", *read, "--out", str(out), "--recipe", recipe, *where, *fast, *more])
    return out


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


BAD = {
    "no JSON": "I would rather not",
    "schema": '{"querry": "x"}',
    "language": '{"query": "鲸鱼有多长"}',
    "repeats what it was made from": json.dumps({"query": PASSAGES["d0"]}),
}


@pytest.mark.parametrize("reason", BAD)
def test_an_answer_that_is_of_no_use_is_kept_with_its_reason(server, source, tmp_path, reason):
    def spoiled(body: dict[str, Any]) -> str:
        is_spoiled = "Person: a sailor" in prompt_of(body) and "whales" in prompt_of(body)
        return BAD[reason] if is_spoiled else answer(body)

    server.answer = spoiled
    out = synthesise(server, source, tmp_path / "out", "query")
    (reject,) = [json.loads(line) for line in (out / "rejects.jsonl").read_text("utf-8").split("\n") if line]
    assert (reject["row"], reject["question"], reject["answer"]) == ("d0", "query", BAD[reason])
    assert reject["reason"].startswith(reason)
    assert read_manifest(out)["rejected"] == {reason: 1}
    assert len(rows(out / QUERIES)) == 2 + len(PASSAGES) - 1


def test_a_rejected_answer_is_asked_for_again_with_another_seed(server, source, tmp_path):
    spoiled: set[int] = set()

    def once(body: dict[str, Any]) -> str:
        if "Person: a sailor" in prompt_of(body) and not spoiled:
            spoiled.add(body["seed"])
            return "no"
        return answer(body)

    server.answer = once
    out = synthesise(server, source, tmp_path / "out", "query", "--tries", "2")
    assert len(rows(out / QUERIES)) == 2 + len(PASSAGES)
    assert read_manifest(out)["rejected"] == {"no JSON": 1}
    again = synthesise(
        server,
        source,
        tmp_path / "out2",
        "query",
        "--tries",
        "2",
        "--ledger",
        str(tmp_path / "out.ledger/m.jsonl"),
    )
    assert contents(again).keys() == contents(out).keys()
    assert len(server.bodies) == 2 * len(PASSAGES) + 1


def test_not_one_answer_of_use_is_an_error_and_no_result(server, source, tmp_path):
    server.answer = lambda body: "no"
    with pytest.raises(UserError, match=r"not one of 6 answers is of use.*no JSON.*look at"):
        synthesise(server, source, tmp_path / "out", "query")
    assert not (tmp_path / "out").exists()


def test_other_options_ask_for_nothing_that_was_answered(server, source, tmp_path):
    synthesise(server, source, tmp_path / "out", "query", "--count", "3")
    synthesise(server, source, tmp_path / "out", "query", "--concurrency", "1", "--price-input", "2")
    assert len(server.bodies) == 2 * len(PASSAGES)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_ends_with_the_same_bytes_and_asks_nothing_twice(server, source, tmp_path, end):
    """In the middle, among faults of every kind; then half a line, as a lost power leaves it."""
    faults = ["429", "", "500", "", "cut", "", "half JSON", "", "wrong schema", ""]
    more = ["--per-row", "4", "--max-attempts", "9"]
    whole = synthesise(server, source, tmp_path / "whole", "query", *more)
    server.bodies.clear()
    server.finished.clear()
    out, ledger = tmp_path / "killed", tmp_path / "killed.ledger/m.jsonl"
    server.plan, server.fault = faults * 4, lambda body: "hang"  # however late the signal, it is not done
    process = fork(run_per_row_4, server.url, source, out, output=tmp_path / "output")
    wait_until(lambda: ledger.is_file() and ledger.read_bytes().count(b"\n") > 12)
    os.kill(process.pid, end)
    process.join()
    assert not out.exists()
    kept = ledger.read_bytes()
    there = {json.loads(line)["key"] for line in kept.split(b"\n")[1:-1]}
    ledger.write_bytes(kept + b'{"key": "0123", "tok')
    server.plan, server.fault = faults, lambda body: ""
    before = dict(server.finished)
    synthesise(server, source, out, "query", *more)
    assert {k: v for k, v in contents(out).items() if k != "manifest.json"} == {
        k: v for k, v in contents(whole).items() if k != "manifest.json"
    }
    assert read_manifest(out) == read_manifest(whole)
    assert len(ledger.read_bytes().split(b"\n")) - 2 == 8 * len(PASSAGES)
    again = sum(count > 1 for count in server.finished.values())
    assert again <= sum(before.values()) - len(there)  # only what had not come to the disk when it was killed
    assert len(there) >= 12


def run_per_row_4(url: str, source: Path, out: Path) -> None:
    where = ["--in", str(source), "--out", str(out), "--recipe", "query", "--endpoint", url, "--model", "m"]
    fast = ["--first-wait-seconds", "0.001", "--concurrency", "4", "--max-attempts", "9"]
    main(["synthesise", *where, *fast, "--per-row", "4"])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_cap_stops_the_step_and_a_higher_one_goes_on(server, source, tmp_path):
    cap = ["--max-answer-tokens", "5", "--max-total-tokens"]
    with pytest.raises(UserError, match="max_total_tokens=500 is reached"):
        synthesise(server, source, tmp_path / "out", "query", "--per-row", "4", *cap, "500")
    asked = len(server.bodies)
    assert 0 < asked < 8 * len(PASSAGES)
    synthesise(server, source, tmp_path / "out", "query", "--per-row", "4", *cap, "100000")
    assert len(server.bodies) == 8 * len(PASSAGES)


def test_the_key_is_in_no_file_and_no_line(server, source, tmp_path, capfd):
    server.answer = lambda body: answer(body).replace("what of", f"what of {KEY}")
    server.plan = ["", "401"]
    with pytest.raises(UserError, match="refuses the key") as caught:
        synthesise(server, source, tmp_path / "out", "query")
    synthesise(server, source, tmp_path / "out", "query")
    said = capfd.readouterr()
    everything = [said.out, said.err, str(caught.value)]
    for path in tmp_path.rglob("*"):
        if path.suffix == ".parquet":
            everything.append(str(rows(path)))
        elif path.is_file():
            everything.append(path.read_text("utf-8", "replace"))
    assert "what of ***" in "".join(everything)
    assert not any(KEY in text for text in everything)


OWN = """about: my own
reads: document
makes: query
ask:
  - name: only
    prompt: |
      What would you ask to find this? {passage}
      {"query": "..."}
    answer: {query: {at_most: 50}}
"""


def test_a_prompt_file_of_ones_own_is_a_recipe(server, source, tmp_path):
    (tmp_path / "mine.yaml").write_text(OWN)
    out = synthesise(server, source, tmp_path / "out", str(tmp_path / "mine.yaml"))
    assert {row["origin"] for row in rows(out / QRELS)[3:]} == {"synthesise mine"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("{passage}", "{pasage}"),
            r"mine.yaml: ask.only.prompt: nothing fills \{pasage\}; did you mean passage",
        ),
        (("query: {at", "text: {at"), "query needs a field query of kind text"),
        (("reads: document", "reads: nothing"), "makes: query reads document or documents, not nothing"),
        (("about:", "abuot:"), "abuot"),
        (("at_most: 50", "at_most: 50, language: xx"), "no language 'xx'"),
    ],
)
def test_a_wrong_prompt_file_is_told_before_any_request(server, source, tmp_path, change, said):
    (tmp_path / "mine.yaml").write_text(OWN.replace(*change))
    with pytest.raises(UserError, match=said):
        synthesise(server, source, tmp_path / "out", str(tmp_path / "mine.yaml"))
    assert not server.bodies


@pytest.mark.parametrize(
    ("recipe", "more", "said"),
    [
        ("querry", [], "no recipe 'querry'; did you mean query"),
        ("query", ["--endpoint", "localhost:8000"], "no address with http"),
        ("query", ["--max-cost", "1"], "needs prices"),
        ("query", ["--name", "a/b"], "only letters, digits"),
        ("query", ["--count", "0"], "count=0 must be at least 1"),
        ("query", ["--key-variable", "NOT_SET"], "NOT_SET: this environment variable is not set"),
        ("tasks", ["--count", "2"], "reads nothing: leave --in out"),
    ],
)
def test_a_wrong_option_is_told_before_any_request(server, source, tmp_path, recipe, more, said):
    with pytest.raises(UserError, match=said):
        synthesise(server, source, tmp_path / "out", recipe, *more)
    assert not server.bodies
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_reads_needs_a_folder_and_one_that_does_not_a_count(server, tmp_path):
    with pytest.raises(UserError, match=r"query.en reads a source \(document\): --in DIR"):
        synthesise(server, None, tmp_path / "out", "query")
    with pytest.raises(UserError, match="say how many examples: --count"):
        synthesise(server, None, tmp_path / "out", "bitext")


def test_every_recipe_is_there_in_english_and_chinese_and_says_where_it_is_from():
    assert {
        "query",
        "multi_hop",
        "paraphrases",
        "hard_negatives",
        "graded_list",
        "graded_pairs",
        "tasks",
        "sts",
        "bitext",
    } == set(names())
    for name in names():
        english, chinese = (load_prompt(PROMPTS / f"{name}.{code}.yaml") for code in ("en", "zh"))
        assert (english.reads, english.makes) == (chinese.reads, chinese.makes)
        assert [q.answer.keys() for q in english.ask] == [q.answer.keys() for q in chinese.ask]
        assert english.choices.keys() == chinese.choices.keys()
        for code in ("en", "zh"):
            assert "# - " in (PROMPTS / f"{name}.{code}.yaml").read_text("utf-8").partition("about:")[0]


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


def test_the_prompts_of_a_recipe_are_there_in_chinese_and_want_chinese_answers(server, source, tmp_path):
    def chinese(body: dict[str, Any]) -> str:
        if '"question_type"' in prompt_of(body):
            return answer(body)
        return '{"query": "鲸鱼有多长"}' if "whales" in prompt_of(body) else answer(body)

    server.answer = chinese
    out = synthesise(server, source, tmp_path / "out", "query", "--prompt-language", "zh")
    assert all("只输出一个 JSON 对象" in prompt_of(body) for body in server.bodies)
    assert [(row["text"], row["lang"]) for row in rows(out / QUERIES)[2:]] == [("鲸鱼有多长", "zh")]
    assert read_manifest(out)["rejected"] == {"language": len(PASSAGES) - 1}
