"""What embeddings depend on beside the text, in readable form: weights, architecture, tokenizer, libraries.

A model's name says nothing about its weights: those of one path change with every run that exports to it.
"""

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
import xxhash
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedConfig

from codiemb.errors import UserError

Fingerprint = dict[str, Any]  # of JSON values
_VOLATILE = ("_name_or_path", "transformers_version")  # of a config: where it came from, not what it does


def packages(*names: str) -> Fingerprint:
    """The versions of the libraries that compute."""
    return {name: version(name) for name in names}


def module_identity(module: nn.Module) -> Fingerprint:
    """Weights, as they are in memory: an adapter, a changed file or another dtype are not overlooked.

    xxh3 reads them at memory speed; it guards against accidents only. The row of a padding token counts as
    zero: transformers zeroes it as it loads, so an export loaded again is what was trained.
    """
    digest, padding = xxhash.xxh3_128(), _padding_rows(module)
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        for part in _parts(value.detach().contiguous().cpu(), padding.get(name)):
            digest.update(part.reshape(-1).view(torch.uint8).numpy().data)
    parameter = next(module.parameters(), None)
    return {
        "weights": digest.hexdigest(),
        "dtype": "none" if parameter is None else str(parameter.dtype).removeprefix("torch."),
        "architecture": _hash(_configs(module)),
    }


def tokenizer_identity(tokenizer: object) -> str:
    """Hash of all that a fast tokenizer does, but cutting and padding, which change with every call.

    Raises:
        UserError: it is none of the tokenizers library, and cannot be told from another.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, Tokenizer):
        raise UserError(
            f"a tokenizer of class {type(tokenizer).__name__} has no fingerprint: only fast tokenizers have"
        )
    state = json.loads(backend.to_str())
    return _hash({key: value for key, value in state.items() if key not in ("truncation", "padding")})


def _padding_rows(module: nn.Module) -> dict[str, int]:
    """By the names of tables of token embeddings."""
    tables = ((name, part) for name, part in module.named_modules() if isinstance(part, nn.Embedding))
    return {
        f"{name}.weight".lstrip("."): part.padding_idx
        for name, part in tables
        if part.padding_idx is not None
    }


def _parts(value: torch.Tensor, padding: int | None) -> Iterator[torch.Tensor]:
    """A tensor in pieces, without a copy; the row of a padding token as zeros."""
    if padding is None:
        yield value
        return
    yield from (value[:padding], torch.zeros_like(value[padding]), value[padding + 1 :])


def _configs(module: nn.Module) -> list[dict[str, Any]]:
    """The transformers configs within a module."""
    found: dict[int, PreTrainedConfig] = {}
    for part in module.modules():
        config = getattr(part, "config", None)
        if isinstance(config, PreTrainedConfig):
            found[id(config)] = config
    states = [json.loads(config.to_json_string(use_diff=False)) for config in found.values()]
    return [{key: value for key, value in state.items() if key not in _VOLATILE} for state in states]


def _hash(value: Any) -> str:  # noqa: ANN401  JSON
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True, default=str).encode())
