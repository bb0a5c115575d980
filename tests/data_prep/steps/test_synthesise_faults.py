"""synthesise, whatever happens on the way: answers of no use, kills, caps, a wrong key."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.layout import QUERIES
from data_prep.manifest import read_manifest
from tests.support.chat_server import KEY
from tests.support.forks import fork
from tests.support.synthesis import PASSAGES, answer, contents, prompt_of, rows, synthesise

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections that a test cuts


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
    process.join(60)
    assert process.exitcode is not None
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
