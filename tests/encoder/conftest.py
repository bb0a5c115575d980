"""A model folder of each kind that sentence-transformers reads."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.st_folders import E5, OLD, edit


@pytest.fixture(scope="module")
def plain(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder, and nothing of sentence-transformers."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    tiny.tiny_encoder("bert", byte_level).backbone.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(byte_level / name, folder / name)
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """E5's layout as sentence-transformers 2 to 5 wrote it: mean pooling with the prompt, two prompts."""
    out = tmp_path / "model"
    shutil.copytree(plain, out)
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    entries = [{"idx": int(n), "name": n, "path": path, "type": OLD + kind} for n, path, kind in modules]
    (out / "modules.json").write_text(json.dumps(entries))
    edit(out / "1_Pooling/config.json", word_embedding_dimension=32, pooling_mode_mean_tokens=True)
    edit(out / "sentence_bert_config.json", max_seq_length=40, do_lower_case=False)
    edit(out / "config_sentence_transformers.json", prompts=E5, default_prompt_name=None)
    return out
