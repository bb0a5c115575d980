"""A sentence-transformers model on the hub is read and refused as a folder is; its cache may lack files."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from sentence_transformers import SentenceTransformer

from codiemb.encoder import ModelSpec, PromptSpec, load_encoder, model_files
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.errors import UserError
from tests.support.st_folders import E5, OLD, TEXTS, old_layout, pooling, several, transformer, version_6


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Puts the folder into a hub cache; returns its id."""

    def put() -> str:
        repository = tmp_path / "hub" / "models--owner--name"
        shutil.copytree(folder, repository / "snapshots" / ("a" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40)
        return "owner/name"

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model_files._snapshot.cache_clear()
    return put


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "as it is": several(),
    "0_Transformer": old_layout,
    "cls": pooling(pooling_mode_cls_token=True),
    "lower case": transformer(do_lower_case=True),
    "version 6": version_6,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_hub_id_in_the_cache_is_read_as_a_folder_is(folder: Path, cached, layout: str):
    LAYOUTS[layout](folder)
    path = cached()
    by_id, by_folder = (ModelSpec(path=place) for place in (path, str(folder)))
    assert with_folder_settings(by_id)[0] == ModelSpec(
        **{**vars(with_folder_settings(by_folder)[0]), "path": path}
    )
    encoder = load_encoder(by_id)
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert (encoder.encode(TEXTS, side="query") * theirs.encode_query(TEXTS)).sum(1).min() > 1 - 1e-6


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("modules.json", f'[{{"path": "", "type": "{OLD}StaticEmbedding"}}]', "a module StaticEmbedding"),
        (
            "config_sentence_transformers.json",
            '{"prompts": {"query": "q: ", "passage": "p: "}}',
            "named document",
        ),
        ("config.json", "[]", "config.json must hold an object, not a list"),
    ],
)
def test_a_hub_id_in_the_cache_is_refused_as_a_folder_is(
    folder: Path, cached, file: str, text: str, message: str
):
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        load_encoder(ModelSpec(path=cached()))


def test_a_hub_id_that_is_not_in_the_cache_is_asked_of_the_hub_without_its_weights(
    folder: Path, cached, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def fetch(path: str, **options: Any) -> str:
        calls.append((path, options["local_files_only"], options["allow_patterns"]))
        return str(folder)

    monkeypatch.setattr(model_files, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(model_files, "snapshot_download", fetch)
    spec, _ = with_folder_settings(ModelSpec(path="owner/name"))
    assert spec.prompt == PromptSpec(E5["query"], E5["document"])
    assert calls == [("owner/name", False, ["*.json", "adapter_model.*"])]
    model_files._snapshot.cache_clear()


def test_a_hub_that_answers_and_then_fails_is_an_error_and_not_a_model_without_settings(
    cached, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> str:
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(model_files, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(model_files, "snapshot_download", fail)
    with pytest.raises(UserError, match="settings of owner/name cannot be fetched from the hub: reset by"):
        with_folder_settings(ModelSpec(path="owner/name"))


def test_a_cache_that_may_lack_settings_is_warned_of(folder: Path, cached, caplog):
    """transformers alone fetched this model: whether it has a modules.json was never asked."""
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Pooling")
    path = cached()
    with_folder_settings(ModelSpec(path=path))
    assert "does not tell whether owner/name states its pooling and prompts" in caplog.text
    caplog.clear()
    model_files._snapshot.cache_clear()
    note = Path(constants.HF_HUB_CACHE) / "models--owner--name/.no_exist" / ("a" * 40)
    note.mkdir(parents=True)
    (note / "modules.json").write_text("")  # as huggingface_hub notes what the hub does not have
    with_folder_settings(ModelSpec(path=path))
    assert not caplog.records
