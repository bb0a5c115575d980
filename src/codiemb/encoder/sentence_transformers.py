"""What a sentence-transformers folder states, as its own loader (6.2) reads it: honoured, or refused by name.

Facts of that loader which are easy to miss: `encode_query` and `encode_document` use the prompts named query
and document only (one named passage is for whoever asks for it by name); pooling `cls` without the prompt
takes the first token behind the prompt; without a limit of its own a model's positions are the limit.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.encoder.model_files import MODULES_FILE, read_module
from codiemb.encoder.spec import ModelSpec, PromptSpec
from codiemb.errors import UserError
from codiemb.json_files import FLAG, LENGTH, NAMES, NUMBER, OBJECT, PROMPTS, TEXT, read_json, take

log = logging.getLogger(__name__)

OVERRULE = "model.folder_settings=false takes all settings from the config instead"
_PROMPTS_FILE = "config_sentence_transformers.json"
_SUPPORTED = ("Transformer", "Pooling", "Normalize")  # modules that the encoder can stand for
# A vector's length is normalised away, and with it the square root of the number of tokens.
_POOLING = {"mean": "mean", "mean_sqrt_len_tokens": "mean", "cls": "cls", "lasttoken": "last_token"}
_OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_FILES = [
    "sentence_bert_config.json",
    *(f"sentence_{name}_config.json" for name in ("roberta", "distilbert", "camembert", "albert")),
    *(f"sentence_{name}_config.json" for name in ("xlm-roberta", "xlnet")),
]
# Settings of the transformer that change nothing here: the only such value, or True for any.
_PLAIN: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "unpad_inputs": True,
    "max_seq_length": True,  # read below, as do_lower_case
    "do_lower_case": True,
}
_MODEL = {
    "attn_implementation",
    "dtype",
    "torch_dtype",
    "device_map",
    "low_cpu_mem_usage",
    "trust_remote_code",
}
_TOKENIZER = {"model_max_length", "padding_side", "use_fast", "trust_remote_code"}
_CONFIG = {"use_cache", "trust_remote_code"}
# Arguments that change nothing here, in the spellings of versions 3 to 5 and of version 6.
_ARGUMENTS = {
    "model_args": _MODEL,
    "model_kwargs": _MODEL,
    "tokenizer_args": _TOKENIZER,
    "processor_kwargs": _TOKENIZER,
    "config_args": _CONFIG,
    "config_kwargs": _CONFIG,
}


class _Module(NamedTuple):
    kind: str  # the class's name, or the whole reference of a class that is not sentence-transformers' own
    folder: Path


def stated_settings(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """The settings of the model group that a folder states.

    Args:
        folder: with the small files; weights are not looked for.
        spec: the config; its prompt template and prompt names help to read the folder's prompts.

    Raises:
        UserError: the folder is damaged, or states something that this encoder does not do.
    """
    modules = _modules(folder)
    stated: dict[str, Any] = {}
    if modules and modules[0].folder != folder:
        stated["subfolder"] = modules[0].folder.relative_to(folder).as_posix()
    pooling = modules[1].folder / "config.json" if modules else folder / "1_Pooling" / "config.json"
    stated |= _pooling(pooling, required=bool(modules))
    stated |= _transformer(modules[0].folder if modules else folder, is_whole=bool(modules))
    stated |= _prompts(folder / _PROMPTS_FILE, spec)
    if modules:
        _check_similarity(folder / _PROMPTS_FILE, normalised=modules[-1].kind == "Normalize")
    _check_cls(stated, pooling, spec)
    return stated


def _modules(folder: Path) -> list[_Module]:
    """Transformer, Pooling and any Normalize; empty where the folder states no modules."""
    path = folder / MODULES_FILE
    modules = [_module(folder, path, entry) for entry in read_json(path, [], OVERRULE)]
    for module in modules:
        if module.kind not in _SUPPORTED:
            raise UserError(
                f"{folder} embeds with a module {module.kind}, which is not supported; {OVERRULE}"
            )
    kinds = [module.kind for module in modules]
    if path.is_file() and (kinds[:2] != ["Transformer", "Pooling"] or {*kinds[2:]} - {"Normalize"}):
        raise UserError(
            f"{path}: the modules are {', '.join(kinds) or 'none'}; supported are Transformer, Pooling and "
            f"then Normalize or nothing; {OVERRULE}"
        )
    for module in modules[2:]:
        _check_normalize(module.folder / "config.json")
    return modules


def _module(folder: Path, path: Path, entry: object) -> _Module:
    reference, inner = read_module(entry, path, OVERRULE)
    if isinstance(entry, dict) and entry.get("kwargs"):
        raise UserError(
            f"{path}: {reference} takes kwargs={entry['kwargs']!r}, which is not supported; {OVERRULE}"
        )
    own = reference.startswith("sentence_transformers.")
    return _Module(reference.rpartition(".")[2] if own else reference, folder / inner)


def _check_normalize(path: Path) -> None:
    for key, value in read_json(path, {}, OVERRULE).items():
        if key in ("module_input_name", "module_output_name") and value not in (None, "sentence_embedding"):
            raise UserError(f"{path}: {key}={value!r} is not supported; {OVERRULE}")


def _pooling(path: Path, *, required: bool) -> dict[str, Any]:
    """Both spellings: `pooling_mode` of sentence-transformers 6, one flag per mode before."""
    config = read_json(path, {}, OVERRULE)
    if not config:
        if required:
            raise UserError(f"{path} is missing or empty, so how to pool is not stated; {OVERRULE}")
        return {}
    modes = take(config, "pooling_mode", NAMES, path, OVERRULE)
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLING.items() if take(config, key, FLAG, path, OVERRULE)]
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise UserError(f"{path} pools by {' and '.join(modes)}, which is not supported; {OVERRULE}")
    pooling = _POOLING[modes[0]]
    with_prompt = take(config, "include_prompt", FLAG, path, OVERRULE) is not False
    # the last token is the same with and without the prompt
    stated = {"pooling": pooling, "pool_prompt": with_prompt or pooling == "last_token"}
    return stated if stated["pool_prompt"] else stated | {"prompt_apart": False}


def _check_cls(stated: dict[str, Any], path: Path, spec: ModelSpec) -> None:
    if stated.get("pooling") != "cls" or stated["pool_prompt"]:
        return
    prompt = stated.get("prompt") or {"query": spec.prompt.query, "document": spec.prompt.document}
    if prompt["query"] or prompt["document"]:
        raise UserError(
            f"{path}: pooling_mode cls with include_prompt=false takes the first token behind the prompt, "
            f"which is not supported (the encoder takes the very first); {OVERRULE}"
        )


def _transformer(folder: Path, *, is_whole: bool) -> dict[str, Any]:
    """Length limit and lower-casing; everything else that would change an embedding is refused."""
    files = [folder / name for name in _TRANSFORMER_FILES]
    path = next((path for path in files if read_json(path, {}, OVERRULE)), files[0])
    config = read_json(path, {}, OVERRULE)
    for key, value in config.items():
        _check_plain(path, key, value)
    arguments = config.get("processor_kwargs") or config.get("tokenizer_args") or {}
    limit = take(arguments, "model_max_length", LENGTH, path, OVERRULE)
    limit = limit or take(config, "max_seq_length", LENGTH, path, OVERRULE)
    if limit is None and is_whole:
        limit = _tokenizer_limit(folder)
    lower = take(config, "do_lower_case", FLAG, path, OVERRULE)
    return ({"max_tokens": limit} if limit else {}) | ({"lower_case": True} if lower else {})


def _check_plain(path: Path, key: str, value: Any) -> None:  # noqa: ANN401  JSON
    plain = _PLAIN.get(key)
    if value in (None, {}, []) or plain is True or value == plain:
        return
    if key in _ARGUMENTS:
        if not OBJECT.fits(value):
            raise UserError(f"{path}: {key}={value!r} must be an object; {OVERRULE}")
        unknown = [f"{key}.{name}" for name in value if name not in _ARGUMENTS[key]]
        key, value = (unknown[0], value[unknown[0].partition(".")[2]]) if unknown else ("", None)
    if key:
        raise UserError(f"{path}: {key}={value!r} is not supported; {OVERRULE}")


def _tokenizer_limit(folder: Path) -> int | None:
    """The tokenizer's limit (1e30 stands for none), or else the model's own number of positions."""
    tokenizer, model = folder / "tokenizer_config.json", folder / "config.json"
    limit = take(read_json(tokenizer, {}), "model_max_length", NUMBER, tokenizer)
    if limit is not None and limit < 10**9:
        return int(limit)
    positions = take(read_json(model, {}), "max_position_embeddings", NUMBER, model)
    return int(positions) if positions is not None and positions > 0 else None


def _prompts(path: Path, spec: ModelSpec) -> dict[str, Any]:
    """The prompts of queries and documents, where the folder states any."""
    config = read_json(path, {}, OVERRULE)
    kind = take(config, "model_type", TEXT, path, OVERRULE) or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise UserError(f"{path}: a {kind} is not supported, only a SentenceTransformer; {OVERRULE}")
    if config.get("truncate_dim") is not None:
        raise UserError(
            f"{path}: truncate_dim={config['truncate_dim']!r} is not supported: embeddings are whole here; "
            f"{OVERRULE}"
        )
    stored = take(config, "prompts", PROMPTS, path, OVERRULE) or {}
    prompts = {name: prompt or "" for name, prompt in stored.items()}
    default = take(config, "default_prompt_name", TEXT, path, OVERRULE)
    if default is not None and default not in prompts:
        raise UserError(f"{path}: default_prompt_name={default!r} is none of its prompts; {OVERRULE}")
    names = {
        "query": _name("query", prompts, spec.query_prompt_name, path),
        "document": _name("document", prompts, spec.document_prompt_name, path),
    }
    if default is not None and prompts[default] and default not in names.values():
        raise UserError(
            f"{path}: default_prompt_name={default!r} is neither the queries' prompt nor the documents'; "
            f"model.query_prompt_name={default} makes it the queries'; {OVERRULE}"
        )
    unused = [name for name in prompts if prompts[name] and name not in names.values()]
    if unused:
        log.info("%s: the prompts %s are not used", path, ", ".join(unused))
    if names == {"query": None, "document": None}:
        return {}
    query, document = (prompts[name] if name is not None else "" for name in names.values())
    if "{instruction}" in query + document:  # which it puts before texts as it is, braces and all
        raise UserError(f"{path}: a prompt holds {{instruction}}, which here would be filled in; {OVERRULE}")
    query = spec.prompt.query if spec.query_prompt_name == "" else query
    document = spec.prompt.document if spec.document_prompt_name == "" else document
    return {"prompt": _as_template(query, document, spec.prompt)}


def _name(side: str, prompts: dict[str, str], chosen: str | None, path: Path) -> str | None:
    """The name of a side's prompt: the chosen one, or the side's own; None if there is none for it."""
    if chosen == "":
        return None
    if chosen is not None and chosen not in prompts:
        raise UserError(
            f"model.{side}_prompt_name={chosen} is none of the prompts of {path}: {_list(prompts)}"
        )
    if chosen is not None or side in prompts:
        return chosen or side
    known = ("passage", "corpus") if side == "document" else [name for name in prompts if name != "document"]
    others = {name: prompts[name] for name in known if prompts.get(name)}
    if others:
        raise UserError(
            f"{path} has no prompt named {side}, but {_list(others)}, which sentence-transformers does not "
            f"use in encode_{side}: say which, as model.{side}_prompt_name={next(iter(others))}; {OVERRULE}"
        )
    return None


def _list(prompts: dict[str, str]) -> str:
    return ", ".join(f"{name} ({prompt!r})" for name, prompt in prompts.items()) or "none"


def _as_template(query: str, document: str, template: PromptSpec) -> dict[str, str]:
    """A stored prompt may be the config's template, filled in with one instruction (Qwen3-Embedding).

    That instruction then stands in for queries which have none.
    """
    head, found, tail = template.query.partition("{instruction}")
    filled = len(query) > len(head + tail) and query.startswith(head) and query.endswith(tail)
    if found and head and filled:
        instruction = query[len(head) : len(query) - len(tail)]
        return {"query": template.query, "document": document, "instruction": instruction}
    return {"query": query, "document": document, "instruction": ""}


def _check_similarity(path: Path, *, normalised: bool) -> None:
    """Embeddings have length 1 here: dot product and distance then rank as the cosine does."""
    similarity = take(read_json(path, {}), "similarity_fn_name", TEXT, path, OVERRULE)
    if similarity == "manhattan" or (similarity in ("dot", "euclidean") and not normalised):
        raise UserError(
            f"{path}: similarity_fn_name={similarity!r} of embeddings that are not normalised is not "
            f"supported: here they have length 1 and are compared by cosine; {OVERRULE}"
        )
