"""Whether `model.path` can be a model: told from the names of files, before torch is imported."""

from pathlib import Path

from codiemb.encoder.model_files import ADAPTER_CONFIG, check_parts, has_weights, inner_folder, is_adapter
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError

# what its files may be called: tokenizer.json, vocab.txt, spiece.model, qwen.tiktoken, tokenization_x.py
_TOKENIZERS = ("tokeniz*", "vocab*", "*.model", "*.tiktoken")


def check_path(spec: ModelSpec) -> None:
    """Refuse a `model.path` on this machine that is no model folder, or no tokenizer; the hub knows its ids.

    Raises:
        UserError: what is there instead, and what was probably meant.
    """
    if spec.tokenizer is not None and Path(spec.tokenizer).is_dir():
        _check_tokenizer(Path(spec.tokenizer), f"model.tokenizer={spec.tokenizer}")
    if spec.path is None or spec.weights == "random":
        return
    folder, key = Path(spec.path), f"model.path={spec.path}"
    if folder.is_dir():
        _check_folder(folder, key, spec)
    elif folder.exists():
        raise UserError(f"{key} is a file; it must be a folder with config.json and weights, or a hub id")
    elif spec.path.startswith((".", "/", "~")) or spec.path.count("/") > 1:  # a hub id is NAME or OWNER/NAME
        raise UserError(
            f"{key}: no such folder. A stage leaves its model in outputs/STAGE/export when it is done"
        )


def _check_folder(folder: Path, key: str, spec: ModelSpec) -> None:
    model = folder / (spec.subfolder or inner_folder(folder))
    check_parts(model, key)
    if is_adapter(model):
        if not any(model.glob("adapter_model.*")):
            raise UserError(f"{key} has {ADAPTER_CONFIG} but no weights (adapter_model.safetensors)")
    elif not (model / "config.json").is_file():
        found = [name for name in ("export", "0_Transformer") if (folder / name / "config.json").is_file()]
        meant = f"; did you mean {key}/{found[0]}?" if found else ""
        raise UserError(f"{key} is no model folder: it has no config.json{meant}")
    elif not has_weights(model):
        raise UserError(f"{key} has a config.json but no weights (*.safetensors)")
    elif spec.tokenizer is None:
        _check_tokenizer(model, key)


def _check_tokenizer(folder: Path, key: str) -> None:
    if not any(path for pattern in _TOKENIZERS for path in folder.glob(pattern)):
        raise UserError(
            f"{key} has no tokenizer (tokenizer.json); copy that of its base into it, or name one: "
            "model.tokenizer=FOLDER_OR_HUB_ID"
        )
