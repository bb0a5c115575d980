"""An export goes to the hub, or the run is told why not: before it begins, and without losing anything."""

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from codiemb.config.export_checks import check_destination
from codiemb.config.schema import ExportConfig, TrainConfig
from codiemb.errors import UserError
from codiemb.export import push

REPO = "somebody/model"


def refusal(text="403 Forbidden"):
    return HfHubHTTPError(text, response=httpx.Response(403, request=httpx.Request("GET", "http://hub")))


class FakeHub:
    """What HfApi is asked for, and what it got."""

    error = None
    fails_at = ""

    def __init__(self):
        self.calls = []

    def __call__(self):
        return self

    def _answer(self, name, value):
        self.calls.append(name)
        if name == self.fails_at:
            raise self.error
        return value

    def whoami(self):
        return self._answer("whoami", {"name": "somebody"})

    def create_repo(self, repo, *, private, exist_ok):
        assert (repo, private, exist_ok) == (REPO, True, True)
        return self._answer("create_repo", f"https://hub/{repo}")

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        assert repo_id == REPO
        self.uploaded = sorted(path.name for path in folder_path.iterdir())
        return self._answer("upload_folder", None)


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr(push, "HfApi", fake)
    monkeypatch.setattr(push, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(push, "get_token", lambda: "a token")
    return fake


def test_the_whole_folder_goes_to_a_private_repository(hub, tmp_path):
    for name in ("README.md", "model.safetensors"):
        (tmp_path / name).write_text("x")
    assert push.push(tmp_path, REPO) == f"https://hub/{REPO}"
    assert hub.uploaded == ["README.md", "model.safetensors"]


def destination():
    check_destination(TrainConfig(export=ExportConfig(push_to_hub=REPO)))


def test_a_hub_that_takes_the_token_lets_the_run_begin(hub):
    destination()
    assert hub.calls == ["whoami"]


def test_without_a_token_nothing_begins(hub, monkeypatch):
    monkeypatch.setattr(push, "get_token", lambda: None)
    with pytest.raises(UserError, match=r"export.push_to_hub=somebody/model needs a token: set HF_TOKEN"):
        destination()


def test_with_the_hub_out_of_reach_nothing_begins(hub, monkeypatch):
    monkeypatch.setattr(push, "hub_is_reachable", lambda: False)
    with pytest.raises(UserError, match=r"the hub is out of reach; .* hf upload somebody/model FOLDER"):
        destination()


@pytest.mark.parametrize("error", [refusal(), httpx.ConnectError("gone")], ids=["refused", "gone"])
def test_a_token_that_the_hub_refuses_is_one_error(hub, error):
    hub.fails_at, hub.error = "whoami", error
    with pytest.raises(UserError, match=r"the hub refuses the token in HF_TOKEN \((403 Forbidden|gone)"):
        destination()


@pytest.mark.parametrize("step", ["create_repo", "upload_folder"])
def test_an_upload_that_fails_says_how_to_go_on(hub, tmp_path, step):
    hub.fails_at, hub.error = step, refusal("413 too large\nand more")
    with pytest.raises(
        UserError, match=r"413 too large\). The run is complete; .* hf upload somebody/model /"
    ):
        push.push(tmp_path, REPO)


def test_our_own_mistakes_keep_their_traceback(hub, tmp_path):
    hub.fails_at, hub.error = "create_repo", TypeError("ours")
    with pytest.raises(TypeError):
        push.push(tmp_path, REPO)
