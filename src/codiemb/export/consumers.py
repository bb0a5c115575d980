"""What an export tells other releases of its two libraries: both spellings of a field, or a refusal.

An older release reads an export without a word and embeds otherwise where it does not know a field. So every
field that was renamed is written under both names, and where no spelling can be right the old release is made
to stop with a message. experiments/consumers holds the table of what was tried.
"""

import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from codiemb.json_files import read_json

# (model type, attention) that embed the same under transformers 4.57: experiments/consumers tries each.
RIGHT_UNDER_4 = frozenset(
    [(kind, "bidirectional") for kind in ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet")]
    + [(kind, "causal") for kind in ("llama", "mistral", "qwen2", "qwen3")]
)
# transformers 5 loads the tokenizer of some model types (qwen2, qwen3_5) as a class that rebuilds it,
# whatever the folder states, unless the folder names code of its own. That code is not there, and is only
# asked for under trust_remote_code=True: its name is the message that is then read.
KEEP_TOKENIZER_CLASS = {
    "auto_map": {
        "AutoTokenizer": [None, "load_this_folder_without_trust_remote_code.PreTrainedTokenizerFast"]
    }
}
MATRYOSHKA = "matryoshka_dimensions"
_LEAST_TRANSFORMERS = "5.2"  # the first that runs a decoder without its causal mask where the config says so
_LEAST_STRIPPING = "5.4"  # the first sentence-transformers that does not strip a prompt before it counts it
_TRANSFORMER = "sentence_transformers.models.Transformer"  # every release since 2.0 has it
_TRANSFORMER_SINCE_5_4 = "sentence_transformers.base.modules.transformer.Transformer"
_PACKAGES = {
    "sentence_transformers": "sentence-transformers",
    "transformers": "transformers",
    "pytorch": "torch",
}


def is_right_under_4(config: dict[str, Any], attention: str) -> bool:
    """Whether transformers 4.57 computes the same: a kind that was tried, with one rotary base at most."""
    rope = config.get("rope_parameters") or {}
    nested = any(isinstance(value, dict) for value in rope.values())
    return (config.get("model_type"), attention) in RIGHT_UNDER_4 and not nested


def spelled_twice(config: dict[str, Any]) -> dict[str, Any]:
    """config.json with the names of transformers 4 beside those of 5.

    transformers 5 takes `rope_scaling`, where there is one, for `rope_parameters` without its base, and adds
    `rope_theta` and `partial_rotary_factor` from beside it; so both releases read the same numbers.
    """
    spelled = dict(config)
    rope = dict(config.get("rope_parameters") or {})
    if rope and not any(isinstance(value, dict) for value in rope.values()):
        beside = {key: rope.pop(key) for key in ("rope_theta", "partial_rotary_factor") if key in rope}
        spelled |= beside | {"rope_scaling": None if rope.get("rope_type", "default") == "default" else rope}
    if "dtype" in config:
        spelled["torch_dtype"] = config["dtype"]
    return spelled


def config_for_consumers(
    config: dict[str, Any], attention: str, matryoshka_dims: Sequence[int] = ()
) -> dict[str, Any]:
    """config.json spelled for both releases; transformers 4 refuses it where it would compute something else.

    vLLM reads `matryoshka_dimensions`: the widths that a request may ask for. sentence-transformers has no
    such list, only `truncate_dim`, one width to which it cuts every embedding; the export states none.

    The refusal lies in `pruned_heads`, which transformers 5 no longer reads, and whose keys 4 turns into
    numbers: it stops with "invalid literal for int()" and our sentence.
    """
    spelled = spelled_twice(config)
    for key in ("pruned_heads", MATRYOSHKA):  # those of the model that this one was trained from
        spelled.pop(key, None)
    if matryoshka_dims:
        spelled[MATRYOSHKA] = list(matryoshka_dims)
    if not is_right_under_4(config, attention):
        what = f"{attention} {config.get('model_type')}"
        spelled["pruned_heads"] = {f"this model ({what}) needs transformers>={_LEAST_TRANSFORMERS}": []}
    return spelled


def tokenizer_for_consumers(config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json with its further special tokens under the name that both releases read."""
    spelled = dict(config)
    if isinstance(spelled.get("extra_special_tokens"), list):
        spelled["additional_special_tokens"] = spelled.pop("extra_special_tokens")
    return spelled


def requirements(config: dict[str, Any], attention: str) -> dict[str, Any]:
    """`__version__` for config_sentence_transformers.json, and `requirements` where a release is too old.

    sentence-transformers before 6 warns of a newer `__version__`; since 6 it refuses unmet requirements.
    """
    versions = {key: importlib.metadata.version(package) for key, package in _PACKAGES.items()}
    stated: dict[str, Any] = {"__version__": versions}
    if not is_right_under_4(config, attention):
        reason = f"Older ones run a {attention} {config.get('model_type')} otherwise, or do not know it."
        needed = {"specifier": f">={_LEAST_TRANSFORMERS}", "reason": reason}
        stated["requirements"] = {"transformers": needed}
    return stated


def transformer_module(*, survives_stripping: bool) -> str:
    """The class of the first module: where stripping does harm, under a name that 5.1 to 5.3 do not have."""
    return _TRANSFORMER if survives_stripping else _TRANSFORMER_SINCE_5_4


def survives_stripping(
    tokenizer: PreTrainedTokenizerFast, prompts: Iterable[str], *, prompt_is_pooled: bool
) -> bool:
    """Whether sentence-transformers before 5.4, which strips texts and prompts, embeds queries the same.

    It strips prompt and text together, which harms a prompt that begins with a space, and counts the tokens
    of the stripped prompt, which harms one that ends in a token of space where prompts are not pooled.
    """
    return all(
        prompt == prompt.lstrip()
        and (prompt_is_pooled or _num_tokens(tokenizer, prompt) == _num_tokens(tokenizer, prompt.strip()))
        for prompt in prompts
    )


def refusals(config: dict[str, Any], attention: str, *, survives_stripping: bool) -> list[str]:
    """What to tell who exports: which releases are turned away, and why."""
    said = []
    if not is_right_under_4(config, attention):
        kind = f"{attention} {config.get('model_type')}"
        said.append(
            f"transformers>={_LEAST_TRANSFORMERS}, since older ones cannot run a {kind}, or run it causally"
        )
    if not survives_stripping:
        said.append(
            f"sentence-transformers>={_LEAST_STRIPPING}, since older ones strip a prompt of its outer spaces "
            "and count it too short; a prompt without them avoids this"
        )
    return said


def is_read_by_stripping(folder: Path) -> bool:
    """Whether an export lets sentence-transformers before 5.4 load it."""
    modules: list[dict[str, str]] = read_json(folder / "modules.json", [])
    return modules[0]["type"] == _TRANSFORMER


def supported(config: dict[str, Any], attention: str, *, survives_stripping: bool) -> list[str]:
    """What to tell who loads an export: the releases that embed as the trainer does."""
    if is_right_under_4(config, attention):
        transformers = "transformers 4.57, and 5.2 or newer."
    else:
        kind = f"{attention} {config.get('model_type')}"
        transformers = (
            f"transformers {_LEAST_TRANSFORMERS} or newer. 4 stops with a message. 5.0 and 5.1 run a {kind} "
            "causally or do not know it; sentence-transformers 6 refuses them, AutoModel says nothing."
        )
    oldest = "5.1" if survives_stripping else _LEAST_STRIPPING
    stopped = "" if survives_stripping else " Older ones count the prompt too short, and cannot load it."
    return [transformers, f"sentence-transformers {oldest} or newer.{stopped}"]


def _num_tokens(tokenizer: PreTrainedTokenizerFast, prompt: str) -> int:
    return len(tokenizer(prompt)["input_ids"])
