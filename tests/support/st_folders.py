"""Folders as sentence-transformers writes them, and what may be different in one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from tests.support import tiny

TEXTS = [*tiny.SENTENCES, "How Do I RESET My Password?", "hello world " * 60]
E5 = {"query": "query: ", "document": "passage: "}
OLD = "sentence_transformers.models."


def edit(path: Path, **values: Any) -> None:
    """Change keys of a JSON object, or write it; None takes a key out."""
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    after = {key: value for key, value in (before | values).items() if value is not None}
    path.write_text(json.dumps(after), "utf-8")


def old_layout(folder: Path) -> None:
    """The transformer in a folder of its own, and its settings under the name of its architecture."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(inner / name)
    (folder / "sentence_bert_config.json").rename(inner / "sentence_roberta_config.json")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def version_6(folder: Path) -> None:
    """Written by the installed release itself."""
    SentenceTransformer(str(folder), device="cpu").save(str(folder))
    assert "modality_config" in (folder / "sentence_bert_config.json").read_text()


def without_normalize(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))


def pooling(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=None, **values)


def transformer(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "sentence_bert_config.json", **values)


def model(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config_sentence_transformers.json", **values)


def tokenizer(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", **values)


def several(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: [change(folder) for change in changes] and None
