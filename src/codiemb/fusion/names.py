"""Which tensors of a file are weights of the encoder, and one name for each, whatever class wrote them."""

from collections.abc import Iterable, Mapping

# What a class for another task adds to the encoder, by the first part of the name.
_HEADS = {
    "lm_head",
    "cls",
    "score",
    "classifier",
    "qa_outputs",
    "embed_out",
    "predictions",
    "pred_layer",
    "vocab_projector",
    "vocab_transform",
    "vocab_layer_norm",
    "generator_predictions",
    "generator_lm_head",
    "discriminator_predictions",
    "mlm_head",
    "v_head",
    "head",
}
_OUTPUTS = {"decoder.weight", "decoder.bias"}  # ModernBERT's; below a `decoder.` there may be a whole model
# Tables that a model computes for itself, by the last part of the name.
_BUFFERS = {
    "position_ids",
    "token_type_ids",
    "inv_freq",
    "original_inv_freq",
    "cos_cached",
    "sin_cached",
    "masked_bias",
}
_INTEGERS = ("I", "U", "BOOL")  # safetensors' names of types: no parameter is one
_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # as the first BERT


def is_head(name: str) -> bool:
    """Part of a class for another task: a language-model head, a classifier."""
    return name.split(".", 1)[0] in _HEADS or name in _OUTPUTS


def is_pooler(name: str) -> bool:
    """BERT's dense layer over [CLS], which no pooling of ours reads."""
    return "pooler" in name.split(".")


def is_table(name: str) -> bool:
    """A buffer that the model computes for itself: positions, frequencies."""
    return name.rsplit(".", 1)[-1] in _BUFFERS


def is_buffer(name: str, dtype: str) -> bool:
    """What no training changes: a table, or anything of integers."""
    return is_table(name) or dtype.startswith(_INTEGERS)


def is_optional(name: str, dtype: str) -> bool:
    """Whether the encoder's embeddings are the same without it."""
    return is_head(name) or is_pooler(name) or is_buffer(name, dtype)


def plain_names(dtypes: Mapping[str, str]) -> dict[str, str]:
    """The stored name of every tensor by its plain one: without the encoder's prefix (`bert.`, `model.`).

    A prefix is what all weights have in common that are no head. Heads keep their names.

    Args:
        dtypes: by stored name.
    """
    prefix = ""
    while part := _common_part(name.removeprefix(prefix) for name in _encoder_names(dtypes, prefix)):
        prefix += part
    return {_modern(name.removeprefix(prefix)): name for name in dtypes}


def _encoder_names(dtypes: Mapping[str, str], prefix: str) -> list[str]:
    return [name for name, dtype in dtypes.items() if not is_optional(name.removeprefix(prefix), dtype)]


def _common_part(names: Iterable[str]) -> str:
    """The first part of all names with its dot, where there are several and they share it."""
    parts = [name.partition(".") for name in names]
    shared = (
        len(parts) > 1 and len({first for first, _, _ in parts}) == 1 and all(rest for _, _, rest in parts)
    )
    return parts[0][0] + "." if shared else ""


def _modern(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
