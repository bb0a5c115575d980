"""A server of answers, and a source to ask about."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chat_server import KEY, ChatServer, serving
from tests.support.sources import make_source
from tests.support.synthesis import PASSAGES, answer


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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    about = {"instruction": "Find the passage", "licence": "cc0"}
    qrels = [("q0", "d0"), ("q0", "d1"), ("q1", "d1")]
    return make_source(
        tmp_path / "in", {"q0": "old one whales", "q1": "old two rivers"}, PASSAGES, qrels, about=about
    )
