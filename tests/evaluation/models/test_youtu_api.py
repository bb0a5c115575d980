"""The hosted API, by the real SDK against a server of this machine."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codiemb.config.command_line import Script, check
from codiemb.config.eval_model import build_encoder
from codiemb.config.schema import EvalConfig
from codiemb.encoder import ModelSpec, PromptTemplate
from codiemb.errors import UserError
from codiemb.evaluation import Evaluator, builtin_tasks
from codiemb.evaluation.models.lkeap import ID, SECRET, Key, Lkeap
from codiemb.evaluation.models.youtu_api import YoutuApi
from tests.support.evaluation_fakes import BagOfWords, write_builtin_data
from tests.support.lkeap_server import Service, serving
from tests.support.paths import ROOT

KEY = Key("AKIDexample", "secret-of-a-test")
TEXTS = [f"text number{i} of the corpus" for i in range(16)]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would send even loopback requests to one."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


def api(service: Service, *, waits: list[float] | None = None, **settings: object) -> YoutuApi:
    slept = [] if waits is None else waits
    client = Lkeap(service.spec(**settings), KEY, sleep=slept.append)
    return YoutuApi(client, PromptTemplate().prompt, {})


def test_texts_go_in_sevens_and_come_back_in_order_with_length_1(service: Service) -> None:
    rows = api(service).encode(TEXTS)
    np.testing.assert_allclose(rows, BagOfWords().encode(TEXTS), atol=1e-6)
    assert service.inputs == [TEXTS[:7], TEXTS[7:14], TEXTS[14:]]
    assert rows.dtype == np.float32
    head = service.headers[0]
    assert (head["X-TC-Action"], head["X-TC-Version"]) == ("GetEmbedding", "2024-05-22")
    assert "Credential=AKIDexample/" in head["Authorization"]


def test_a_prompt_is_sent_as_the_instruction_of_a_query_and_of_nothing_else(service: Service) -> None:
    encoder = api(service)
    for instruction, side in (("Find it", "query"), ("", "document"), ("Compare", "text"), ("", "text")):
        encoder.encode(["a"], instruction=instruction, side=side)
    sent = [(body["Instruction"], body["TextType"]) for body in service.bodies]
    find, compare = (f"Instruction: {each} \nQuery: " for each in ("Find it", "Compare"))
    assert sent == [(find, "query"), ("", "document"), (compare, "query"), ("", "document")]
    api(service, text_type=False).encode(["a"])
    assert "TextType" not in service.bodies[-1]


@pytest.mark.parametrize(
    "event",
    ["RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded", "InternalError", 500, "hang", "short"],
)
def test_what_another_try_may_cure_is_tried_again_after_longer_and_longer_waits(
    service: Service, event
) -> None:
    waits: list[float] = []
    service.plan = [event, event]
    rows = api(service, waits=waits).encode(TEXTS[:8])
    np.testing.assert_allclose(rows, BagOfWords().encode(TEXTS[:8]), atol=1e-6)
    assert service.inputs == [TEXTS[:7]] * 3 + [TEXTS[7:8]]
    backoff = [wait for wait in waits if wait > 0.1]
    assert len(backoff) == 2
    assert 0.5 <= backoff[0] <= 1.0 <= backoff[1] <= 2.0


def test_patience_ends_with_one_error(service: Service) -> None:
    service.plan = ["InternalError"] * 9
    with pytest.raises(UserError, match=r"http://127.*GetEmbedding failed 4 times, last with InternalError"):
        api(service).encode(["a"])
    assert len(service.bodies) == 4


@pytest.mark.parametrize(
    "code", ["AuthFailure.SecretIdNotFound", "InvalidParameter", "ResourceUnavailable.InArrears"]
)
def test_a_refusal_stops_at_once_and_no_message_holds_the_key(service: Service, code: str) -> None:
    service.plan = [code] * 9
    with pytest.raises(UserError, match=f"refuses GetEmbedding .{code}") as refused:
        api(service).encode(["a"])
    assert len(service.bodies) == 1
    assert "***" in str(refused.value)  # the service's message named it
    assert KEY.secret_id not in str(refused.value)


def test_no_more_requests_in_a_second_than_allowed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("codiemb.evaluation.models.lkeap.time.monotonic", lambda: clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    client = Lkeap(service.spec(requests_per_second=2.0), KEY, sleep=sleep)
    YoutuApi(client, PromptTemplate().prompt, {}).encode(TEXTS * 2)  # five requests
    assert clock[0] == pytest.approx(102.0)


def test_long_texts_are_cut_counted_and_told(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    encoder = api(service)
    encoder.encode(["x" * 2_000, "y" * 2_001, "z"])
    assert [len(text) for text in service.inputs[0]] == [2_000, 2_000, 1]
    assert encoder.num_cut == 1
    assert "1 of 3 texts are longer than the 2000 characters" in caplog.text


def test_the_sdk_is_silent_about_who_asks(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        api(service).encode(["a"])
    assert KEY.secret_id not in caplog.text
    assert KEY.secret_key not in repr(KEY)


def test_builtin_are_scored_and_the_record_says_how(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ID, KEY.secret_id)
    monkeypatch.setenv(SECRET, KEY.secret_key)
    write_builtin_data(tmp_path)
    tasks = [task for task in builtin_tasks(tmp_path, "test") if task.metadata.name == "FramesRetrieval"]
    evaluator = Evaluator(tasks, {"FramesRetrieval": {"query": "Find it"}})
    encoder = build_encoder(EvalConfig(model=ModelSpec(loader="youtu_api", api=service.spec())))
    evaluation = evaluator.run(encoder)
    assert evaluation.scores == evaluator.run(BagOfWords()).scores
    assert evaluation.results[0].prefix == {
        "query": r"TextType=query, Instruction='Instruction: Find it \nQuery: '",
        "document": "TextType=document, Instruction=''",
    }
    assert evaluation.results[0].num_cut == 0
    assert evaluation.setup.settings["endpoint"] == f"127.0.0.1:{service.port}"
    assert not any(secret in evaluation.to_json() for secret in (KEY.secret_id, KEY.secret_key))
    monkeypatch.setattr("codiemb.evaluation.models.youtu_api.MAX_CHARACTERS", 24)
    texts = {text for inputs in service.inputs[1:] for text in inputs}  # the first asked for the width
    assert evaluator.run(encoder).results[0].num_cut == sum(len(text) > 24 for text in texts) > 0


def test_a_missing_key_is_told_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(ROOT / "conf", "eval")
    monkeypatch.setenv(ID, KEY.secret_id)
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(UserError, match=f"in the environment: {SECRET} not set; no config may hold it"):
        check(script, ["model=youtu_api"])
    monkeypatch.setenv(SECRET, KEY.secret_key)
    check(script, ["model=youtu_api"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, f"needs a key of Tencent Cloud in the environment: {ID} and {SECRET} not set"),
        ({"requests_per_second": 0.0}, r"model\.api\.requests_per_second=0\.0 must be above 0"),
        ({"endpoint": "https://a.example"}, r"model\.api\.endpoint='https://a\.example' must be a host"),
        ({"protocol": "ftp"}, r"model\.api\.protocol='ftp' is none of https, http"),
    ],
)
def test_what_cannot_work_is_refused_before_any_request(service: Service, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        build_encoder(EvalConfig(model=ModelSpec(loader="youtu_api", api=service.spec(**settings))))
    assert service.bodies == []
