"""Fit a tokenizer to its model: padding token, where texts are cut, no unknown token, lower case, EOS."""

import json
import logging
from typing import Any

from tokenizers import normalizers, processors
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from codiemb.errors import UserError

log = logging.getLogger(__name__)


def set_padding_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """Without a padding token no batch can be padded, here or by whoever loads the export.

    Takes a token that is there already, so vocabulary and embeddings stay; padding is masked, so it does not
    matter which one.
    """
    if tokenizer.pad_token_id is not None:
        return
    known = ("eos_token", "sep_token", "unk_token", "bos_token", "cls_token", "mask_token")
    names = [getattr(tokenizer, name) for name in known]
    token = next((name for name in names if name is not None), tokenizer.convert_ids_to_tokens(0))
    tokenizer.pad_token = token
    log.info("the tokenizer has no padding token; %r stands in, masked", token)


def cut_at_the_end(tokenizer: PreTrainedTokenizerFast) -> None:
    """Cut long texts at their end, where a tokenizer states that it cuts them at their beginning.

    There stands the prompt: what is left of it would be embedded as if it were whole, here and, with other
    tokens taken for the prompt's, in sentence-transformers.
    """
    if tokenizer.truncation_side == "right":
        return
    log.warning("the tokenizer cuts long texts at their beginning, prompt first; here they end earlier")
    tokenizer.truncation_side = tokenizer.init_kwargs["truncation_side"] = "right"


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, backbone: PreTrainedModel, name: str) -> None:
    """A token beyond the embedding matrix would stop the run at the first text that has it.

    Raises:
        UserError: naming the first such tokens.
    """
    rows = backbone.get_input_embeddings()
    if not isinstance(rows, nn.Embedding):
        return
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows.num_embeddings)
    if beyond:
        tokens = ", ".join(f"{token!r} ({i})" for i, token in beyond[:3])
        raise UserError(
            f"{name}: {len(beyond)} of the tokenizer's tokens lie beyond the model's {rows.num_embeddings} "
            f"embeddings: {tokens}. Give the model rows for them (resize_token_embeddings, and save it), "
            "or a tokenizer without them (model.tokenizer=FOLDER)"
        )


def lower_case(tokenizer: PreTrainedTokenizerFast) -> None:
    """Lower-case every text before anything else, as sentence-transformers does for `do_lower_case`."""
    backend = tokenizer.backend_tokenizer
    before = backend.normalizer
    if before is not None and _lowers(json.loads(before.__getstate__())):
        return
    lower = normalizers.Lowercase()
    backend.normalizer = lower if before is None else normalizers.Sequence([lower, before])


def _lowers(state: dict[str, object]) -> bool:
    parts = state.get("normalizers")
    inside = any(_lowers(part) for part in parts) if isinstance(parts, list) else False
    return inside or state.get("type") == "Lowercase" or state.get("lowercase") is True


def append_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    """Make the tokenizer end every text with EOS, also a cut one: last-token pooling needs it.

    Two templates in a row would not do: the second is never applied, but its room is taken from the text. So
    the tokens that the tokenizer already adds and EOS become one template.

    Raises:
        UserError: there is no EOS token.
    """
    if tokenizer.eos_token is None:
        raise UserError(
            "model.append_eos=true, but the tokenizer has no EOS token; set model.append_eos=false"
        )
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = tokenizer("a")["input_ids"]
    if ids[-1:] == [tokenizer.eos_token_id] and ids != plain:
        return
    start = next(i for i in range(len(ids) - len(plain) + 1) if ids[i : i + len(plain)] == plain)
    before, after = ids[:start], [*ids[start + len(plain) :], tokenizer.eos_token_id]
    head, tail = (
        [f"T{i}" for i in before],
        [f"T{i}" for i in after],
    )  # a token's own name may have a colon in it
    special: list[dict[str, Any]] = [
        {"id": f"T{i}", "ids": [i], "tokens": [tokenizer.convert_ids_to_tokens(i)]} for i in {*before, *after}
    ]
    template = processors.TemplateProcessing(
        single=[*head, "$A", *tail],
        pair=[*head, "$A", *tail, "$B:1", *(f"{name}:1" for name in tail)],
        special_tokens=special,
    )
    trim = _trims_offsets(tokenizer)
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([trim, template]) if trim else template


def _trims_offsets(tokenizer: PreTrainedTokenizerFast) -> processors.ByteLevel | None:
    """What leaves a word's leading space out of its token's offsets, where the tokenizer does that."""
    post = tokenizer.backend_tokenizer.post_processor
    if post is None:
        return None
    state = json.loads(post.__getstate__())
    for part in state.get("processors", [state]):
        if part["type"] in ("ByteLevel", "RobertaProcessing"):
            return processors.ByteLevel(
                add_prefix_space=part["add_prefix_space"], trim_offsets=part["trim_offsets"], use_regex=True
            )
    return None
