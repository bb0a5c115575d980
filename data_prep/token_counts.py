"""Lengths of texts in tokens of a named tokenizer."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from codiemb.errors import UserError


@cache
def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer in a folder, or of a name on the hub; nothing of its repository is run.

    Raises:
        UserError: there is none, or only a slow one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=Path(name).is_dir())
    except Exception as error:  # damaged files make libraries fall over in any way
        first = str(error).partition("\n")[0]
        raise UserError(
            f"no tokenizer at {name!r} ({first}); give --tokenizer the folder of a model, with its "
            "tokenizer.json, or its name on the hub"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"the tokenizer at {name!r} is a slow one (no tokenizer.json); name another")
    return tokenizer


def fingerprint(name: str) -> str:
    """sha256 of all that a tokenizer is: the same under another name or in another folder."""
    return hashlib.sha256(load_tokenizer(name).backend_tokenizer.to_str().encode()).hexdigest()


def count_tokens(name: str, texts: Sequence[str], *, special: bool = False) -> list[int]:
    """Tokens of each text, uncut; with `special` also those that the tokenizer puts around it."""
    backend = load_tokenizer(name).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [len(encoding) for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=special)]
