"""From raw texts to a batch of the language-model task: windows, masks, and what each state must predict."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from codiemb.batch import LanguageBatch
from codiemb.data.permutation import Permutation, mix
from codiemb.encoder.stream import pack_texts
from codiemb.encoder.tokenization import TextTokenizer, Window

PredictFrom = Literal["previous", "mask", "embedding"]


class LanguageExample(NamedTuple):
    """One window as the model sees it, the places whose states predict, and the token that each predicts."""

    input_ids: list[int]
    predictors: list[int]  # ascending, 0..len - 1
    targets: list[int]


def choose_windows(
    tokenizer: TextTokenizer,
    text: str,
    *,
    max_tokens: int,
    num_windows: int | None,
    mask_share: float | None,
    predict_from: PredictFrom = "previous",
    key: int,
) -> list[LanguageExample]:
    """This epoch's windows of one raw text, masked or not: a pure function of its arguments.

    Args:
        tokenizer: of the model.
        text: the whole document; a long one is cut into windows without overlap.
        max_tokens: of a window, special tokens included.
        num_windows: sampled without replacement; None takes all.
        mask_share: share of the tokens that is masked, all of them by the mask token (80/10/10 is no better,
            arXiv 2202.08005); None predicts every next token.
        predict_from: which state predicts a masked token: the one before it (MNTP, as the backbone was
            trained to), or the mask's own (MLM: states of other tokens need not predict anything). With
            `embedding` tokens are left out instead, and what is left is embedded to predict them.
        key: chooses windows and masks, from (seed, epoch, example).
    """
    windows = tokenizer.windows(text, max_tokens)
    chosen = list(range(len(windows)))
    if num_windows is not None and num_windows < len(windows):
        chosen = sorted(Permutation(len(windows), mix(key, 0))(np.arange(num_windows)).tolist())
    if mask_share is None:
        return [_every_next_token(windows[i]) for i in chosen]
    if predict_from == "embedding":
        return [_left_out(windows[i], mask_share, mix(key, 1, i)) for i in chosen]
    shift = 1 if predict_from == "previous" else 0
    return [_masked(windows[i], mask_share, shift, tokenizer.mask_id, mix(key, 1, i)) for i in chosen]


def pack_examples(
    examples: Sequence[LanguageExample], task: str, source: str, *, from_embedding: bool = False
) -> LanguageBatch:
    """One stream, shortest first (long runs for the attention)."""
    ordered = sorted(examples, key=lambda example: len(example.input_ids))
    predictors: list[int] = []
    targets: list[int] = []
    start = 0
    for example in ordered:
        predictors += [start + place for place in example.predictors]
        targets += example.targets
        start += len(example.input_ids)
    return LanguageBatch(
        task=task,
        source=source,
        texts=pack_texts([(example.input_ids, 0) for example in ordered]),
        predictor_P=torch.tensor(predictors, dtype=torch.int64),
        target_P=torch.tensor(targets, dtype=torch.int64),
        mean_targets=float(len(targets)),
        from_embedding=from_embedding,
    )


def _every_next_token(window: Window) -> LanguageExample:
    """Every token but the first, special ones included: a causal model learns where a text ends."""
    ids = window.input_ids
    return LanguageExample(ids, list(range(len(ids) - 1)), ids[1:])


def _masked(window: Window, mask_share: float, shift: int, mask_id: int, key: int) -> LanguageExample:
    """At least one token of the text is masked; with a shift never the first, which no state precedes."""
    ids = list(window.input_ids)
    places = [i for i, is_text in enumerate(window.is_text) if is_text and i >= shift]
    if not places:
        return LanguageExample(ids, [], [])
    masked = _draw(places, max(1, round(mask_share * len(places))), key)
    targets = [ids[place] for place in masked]
    for place in masked:
        ids[place] = mask_id
    return LanguageExample(ids, [place - shift for place in masked], targets)


def _left_out(window: Window, mask_share: float, key: int) -> LanguageExample:
    """At least one token of the text is left out, if one stays; all are predicted from the window's start."""
    ids = window.input_ids
    places = [i for i, is_text in enumerate(window.is_text) if is_text]
    count = min(max(1, round(mask_share * len(places))), len(places) - 1)
    if count < 1:
        return LanguageExample(ids, [], [])
    left_out = set(_draw(places, count, key))
    kept = [token for i, token in enumerate(ids) if i not in left_out]
    return LanguageExample(kept, [0] * count, [ids[i] for i in sorted(left_out)])


def _draw(places: Sequence[int], count: int, key: int) -> list[int]:
    """`count` of the places, ascending."""
    drawn = Permutation(len(places), key)(np.arange(count))
    return sorted(places[i] for i in drawn.tolist())
