"""Each request is answered once, through every fault of a server and every kind of end of the run."""

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codiemb.errors import UserError
from data_prep.endpoint.faults import Stop
from data_prep.endpoint.options import EndpointOptions
from data_prep.endpoint.request import Answer, Request
from data_prep.endpoint.session import Session, ledger_path
from tests.support.chat_server import KEY, ChatServer, serving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of connections that a test cuts


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as service:
        yield service


def options(server: ChatServer, **settings: Any) -> EndpointOptions:
    fast = {"first_wait_seconds": 0.001, "timeout_seconds": 5.0, "concurrency": 4, "max_attempts": 3}
    return EndpointOptions(**({"endpoint": server.url, "model": "m"} | fast | settings))


def request(text: str) -> Request:
    return Request([{"role": "user", "content": text}], about=f"test {text}")


async def ask_once(ask: Any, text: str) -> Answer:
    return await ask(request(text))


def ask_all(server: ChatServer, folder: Path, texts: list[str], **settings: Any) -> list[Answer]:
    with Session.opened(options(server, **settings), folder / "ledger.jsonl") as session:
        return session.map(texts, ask_once)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text("utf-8").split("\n") if line]


TEXTS = [f"text {number}" for number in range(12)]
ECHO = [f"echo: {text}" for text in TEXTS]


def test_answers_come_in_the_order_of_the_items_whatever_order_they_were_given_in(server, tmp_path):
    server.delay = 0.01
    assert [a.text for a in ask_all(server, tmp_path, TEXTS, concurrency=3)] == ECHO
    assert server.max_at_once == 3
    assert set(server.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("fault", ["429", "500", "hang", "cut", "half JSON", "wrong schema", "a list"])
def test_a_request_that_fails_is_sent_again_and_answered_once(server, tmp_path, fault):
    server.plan = ["", fault, "", fault, fault]
    timeout = 0.3 if fault == "hang" else 5.0
    assert [a.text for a in ask_all(server, tmp_path, TEXTS, timeout_seconds=timeout)] == ECHO
    assert len(server.bodies) == len(TEXTS) + 3
    assert set(server.finished.values()) == {1}
    assert len(lines(tmp_path)) == 1 + len(TEXTS)


def test_what_is_answered_is_never_sent_again(server, tmp_path, monkeypatch):
    first = ask_all(server, tmp_path, TEXTS[:5])
    again = ask_all(server, tmp_path, TEXTS)
    assert again[:5] == first
    assert len(server.bodies) == len(TEXTS)
    monkeypatch.delenv("OPENAI_API_KEY")  # nor is a key looked for
    elsewhere = {"endpoint": "http://elsewhere.invalid/v1"}
    assert ask_all(server, tmp_path, TEXTS, **elsewhere) == again


def test_equal_requests_under_way_are_sent_once(server, tmp_path):
    server.delay = 0.02
    assert {a.text for a in ask_all(server, tmp_path, ["same"] * 4)} == {"echo: same"}
    assert len(server.bodies) == 1


def test_all_wait_for_as_long_as_retry_after_says(server, tmp_path):
    server.plan = ["429"]
    started = time.monotonic()
    ask_all(server, tmp_path, TEXTS[:2], concurrency=1)
    assert time.monotonic() - started > 0.05


@pytest.mark.parametrize(
    ("fault", "said"),
    [("401", "refuses the key"), ("404", "no such model"), ("400", "unknown parameter: seed"),
     ("insufficient_quota", "quota is used up"), ("429 for an hour", "says to wait 3600 s")],
)  # fmt: skip
def test_what_no_retry_can_mend_stops_the_run_and_the_next_one_goes_on(server, tmp_path, fault, said):
    server.plan = ["", "", fault]
    server.delay = 0.01
    with pytest.raises(Stop, match=said) as caught:
        ask_all(server, tmp_path, TEXTS, concurrency=1)
    assert KEY not in str(caught.value)
    assert len(server.bodies) == 3
    assert [a.text for a in ask_all(server, tmp_path, TEXTS)] == ECHO
    assert len(server.bodies) == 3 + len(TEXTS) - 2


def test_what_is_under_way_when_the_quota_ends_is_kept(server, tmp_path):
    server.delay = 0.05
    server.plan = ["", "", "insufficient_quota", ""]
    with pytest.raises(Stop):
        ask_all(server, tmp_path, TEXTS, concurrency=4)
    assert len(lines(tmp_path)) == 1 + 3


def test_a_request_that_always_fails_stops_the_run_or_is_rejected(server, tmp_path):
    server.fault = lambda body: "500" if "text 3" in body["messages"][0]["content"] else ""
    with pytest.raises(Stop, match=r"failed again and again.*HTTP 500.*--on-failure reject"):
        ask_all(server, tmp_path, TEXTS)
    server.delay = 0.002
    answers = ask_all(server, tmp_path, TEXTS, on_failure="reject")
    assert [a.problem for a in answers if a.problem] == ["no answer: HTTP 500: oh"]
    asked = len(server.bodies)
    assert ask_all(server, tmp_path, TEXTS, on_failure="reject") == answers
    assert len(server.bodies) == asked
    server.fault = lambda body: ""  # and a run that does not reject asks for it again
    assert [a.text for a in ask_all(server, tmp_path, TEXTS)] == ECHO
    assert [a.text for a in ask_all(server, tmp_path, TEXTS, on_failure="reject")] == ECHO
    assert len(server.bodies) == asked + 1


def test_nothing_is_rejected_by_an_endpoint_that_answers_nobody(server, tmp_path):
    server.fault = lambda body: "500"
    with pytest.raises(Stop):
        ask_all(server, tmp_path, TEXTS, on_failure="reject")
    assert len(lines(tmp_path)) == 1


@pytest.mark.parametrize(
    ("fault", "problem"),
    [("too long", "refused"), ("length", "cut off"), ("content_filter", "content filter")],
)
def test_what_a_server_will_never_answer_is_an_answer_of_its_own(server, tmp_path, fault, problem):
    server.plan = [fault]
    (answer, _) = ask_all(server, tmp_path, TEXTS[:2], concurrency=1)
    assert problem in answer.problem
    assert len(server.bodies) == 2


def test_tokens_are_capped_and_a_higher_cap_goes_on(server, tmp_path):
    texts = [f"{text}, and some more words" for text in TEXTS]  # 14 tokens or less by the estimate
    cap = {"max_answer_tokens": 5, "max_total_tokens": 15 * 4 + 14}  # four answers, and not a fifth
    with pytest.raises(Stop, match=r"max_total_tokens=74 is reached.*60 tokens.*4 answers"):
        ask_all(server, tmp_path, texts, **cap)
    assert len(server.bodies) == 4
    assert len(ask_all(server, tmp_path, texts, max_answer_tokens=5, max_total_tokens=1000)) == len(TEXTS)
    assert len(server.bodies) == len(TEXTS)


def test_cost_is_counted_from_the_ledger_and_capped(server, tmp_path):
    prices = {"price_input": 100.0, "price_output": 1000.0, "max_answer_tokens": 5}  # 0.006 a request
    with pytest.raises(Stop, match=r"max_cost=0.02 is reached.*cost 0.0180"):
        ask_all(server, tmp_path, TEXTS, **prices, max_cost=0.02)
    with Session.opened(options(server, **prices), tmp_path / "ledger.jsonl") as session:
        session.map(TEXTS[:4], ask_once)
        assert session.taken() == {"requests": 4, "tokens": {"asked": 40, "answered": 20}, "cost": 0.024}
        assert session.note() == "60 tokens, cost 0.0240"


def test_the_rate_of_requests_is_kept(server, tmp_path):
    started = time.monotonic()
    ask_all(server, tmp_path, TEXTS[:6], requests_per_minute=60 / 0.1, concurrency=6)
    assert time.monotonic() - started >= 5 * 0.1  # without a rate it takes a tenth of that


def test_the_key_is_in_no_file_and_no_message(server, tmp_path, capsys):
    server.answer = lambda body: f"your key is {KEY}"
    ask_all(server, tmp_path, TEXTS[:3])
    server.plan = ["401"]
    with pytest.raises(Stop) as caught:
        ask_all(server, tmp_path, TEXTS)
    captured = capsys.readouterr()
    everything = [str(caught.value), captured.out, captured.err]
    everything += [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert any("your key is ***" in text for text in everything)
    assert not any(KEY in text for text in everything)


def test_a_result_takes_what_is_on_the_disk_when_the_disk_is_full(server, tmp_path, monkeypatch):
    ask_all(server, tmp_path, TEXTS[:2])
    before = (tmp_path / "ledger.jsonl").read_bytes()

    def full(file: int, data: bytes, place: int) -> int:
        if place > len(before):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:7], place)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        ask_all(server, tmp_path, TEXTS)
    monkeypatch.undo()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert [a.text for a in ask_all(server, tmp_path, TEXTS)] == ECHO


def test_a_ledger_lies_beside_the_folder_and_is_named_after_the_model(tmp_path):
    given = EndpointOptions(model="Qwen/Qwen3-8B")
    assert ledger_path(given, tmp_path / "out") == tmp_path / "out.ledger/Qwen_Qwen3-8B.jsonl"
    assert ledger_path(EndpointOptions(ledger="a/b.jsonl"), tmp_path) == Path("a/b.jsonl")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"endpoint": ""}, "--endpoint http"),
        ({"endpoint": "localhost:8000/v1"}, "no address with http"),
        ({"endpoint": "https://u:secret@host/v1"}, "belongs into the environment"),
        ({"model": ""}, "--model NAME"),
        ({"key_variable": "sk-abc-1"}, "NAME of an environment variable"),
        ({"max_cost": 1.0}, "needs prices"),
        ({"concurrency": 0}, "concurrency=0 must be above 0"),
        ({"extra_body": "[1"}, "is not JSON"),
        ({"extra_body": "[1]"}, "must be a JSON object"),
    ],
)
def test_a_wrong_option_is_told_before_any_request(server, tmp_path, settings, said):
    with pytest.raises(UserError, match=said) as caught:
        ask_all(server, tmp_path, TEXTS, **settings)
    assert "secret" not in str(caught.value)
    assert "sk-abc" not in str(caught.value)
    assert not server.bodies


def test_a_key_that_is_not_there_is_told_unless_the_server_is_here_and_needs_none(
    server, tmp_path, monkeypatch
):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert [a.text for a in ask_all(server, tmp_path, TEXTS)] == ECHO
    for settings in ({"endpoint": "https://api.example.invalid/v1"}, {"key_variable": "MY_KEY"}):
        with pytest.raises(UserError, match="environment variable is not set"):
            ask_all(server, tmp_path, ["another"], **settings)


@pytest.mark.parametrize("package", ["openai", "tenacity", "aiolimiter"])
def test_a_package_that_is_missing_is_told(server, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"package {package}: pip install -e '\.\[synthesise\]'"):
        ask_all(server, tmp_path, TEXTS)
    assert not server.bodies


def test_an_address_where_nobody_answers_is_told_soon(server, tmp_path):
    nobody = {"endpoint": "http://127.0.0.1:9/v1", "max_attempts": 1000}
    with pytest.raises(Stop, match=r"127.0.0.1:9/v1: a request failed.*Cannot connect"):
        ask_all(server, tmp_path, TEXTS, **nobody)
