"""Does a model that is read by another class than its own still mean what it means? A few sentences, at load.

It finds weights in wrong places, a wrong rotary layout where word order matters, and cosines that the model's
authors did not print. It proves nothing beyond the sentences it asks.
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from transformers import PreTrainedModel

from codiemb.encoder.encoder import Encoder
from codiemb.encoder.native import other_layout
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError

# (a sentence, one that means it without its words, one of much the same words that means another thing)
TRIPLES = (
    ("What's the weather like?", "It is warm and sunny outside.", "What's the price like?"),
    ("The man bites the dog.", "Someone hurt his pet with teeth.", "The dog bites the man."),
    ("My sister lent him money.", "He owes her some cash.", "He lent my sister money."),
    (
        "How many people live in Paris?",
        "France's capital has two million inhabitants.",
        "How many like pears?",
    ),
    ("怎么修改登录密码？", "忘了口令，想重新设一个", "怎么修改收货地址？"),
    ("他今天没来上班。", "同事生病请假，在家休息", "他今天没来上课。"),
)
MARGIN = 0.1  # of the mean cosine of related sentences over unrelated ones
LAYOUT_MARGIN = 0.1  # of one layout over the other, in telling related sentences from those of the same words
EXAMPLE_TOLERANCE = 0.05  # bfloat16, and a prompt with or without a space at its end
_OWN = "model.native.rotary=null model.trust_remote_code=true runs its own code"

log = logging.getLogger(__name__)


class Means(NamedTuple):
    """Mean cosines of related sentences, of those that share words, and of those of other triples."""

    related: float
    near: float
    unrelated: float


def check_native(encoder: Encoder, spec: ModelSpec) -> None:
    """Refuse a model that does not mean what it should.

    Raises:
        UserError: related sentences are no closer than others, the other rotary layout tells meaning from
            words clearly better, or the published example comes out otherwise.
    """
    found = means(encoder)
    log.info(
        "%s read as %s: mean cosine of related sentences %.3f, of the same words %.3f, of others %.3f",
        *(spec.path, spec.architecture["model_type"], *found),
    )
    if found.related - found.unrelated < MARGIN:
        raise UserError(
            f"{spec.path}: related sentences have a mean cosine of {found.related:.3f}, unrelated ones "
            f"{found.unrelated:.3f}: these weights are not what model.native takes them for. {_OWN}"
        )
    with other_layout(cast(PreTrainedModel, encoder.backbone), spec):
        other = means(encoder)
        other_distance = distance_to_example(encoder, spec.native.example)
    _check_layout(spec, found, other)
    _check_example(spec, distance_to_example(encoder, spec.native.example), other_distance)


def means(encoder: Encoder) -> Means:
    """Embed the sentences, without prompts, and compare."""
    texts = [text for triple in TRIPLES for text in triple]
    rows_SD = encoder.encode(texts, side="document")
    cosine_SS = rows_SD @ rows_SD.T
    first = np.arange(0, len(texts), 3)
    others = [cosine_SS[i, j + 1] for i in first for j in first if i != j]
    return Means(
        float(np.mean(cosine_SS[first, first + 1])),
        float(np.mean(cosine_SS[first, first + 2])),
        float(np.mean(others)),
    )


def distance_to_example(encoder: Encoder, example: Mapping[str, Any]) -> float:
    """The largest difference between the cosines here and those that the model's authors printed, if any."""
    if not example:
        return 0.0
    query_1D = encoder.encode([example["query"]], instruction=example["instruction"], side="query")
    document_ND = encoder.encode(example["documents"], side="document")
    return float(np.abs(document_ND @ query_1D[0] - np.asarray(example["cosines"])).max())


def _check_layout(spec: ModelSpec, found: Means, other: Means) -> None:
    here, there = found.related - found.near, other.related - other.near
    if there - here > LAYOUT_MARGIN:
        raise UserError(
            f"{spec.path}: model.native.rotary={_other(spec)} tells meaning from mere words better "
            f"({there:.3f} against {here:.3f}): choose it. {_OWN}"
        )


def _check_example(spec: ModelSpec, distance: float, other_distance: float) -> None:
    if not spec.native.example:
        return
    if distance <= EXAMPLE_TOLERANCE:
        log.info("the cosines of the published example are met within %.3f", distance)
        return
    better = other_distance <= EXAMPLE_TOLERANCE
    way = f"model.native.rotary={_other(spec)} meets them" if better else _OWN
    raise UserError(
        f"{spec.path}: the cosines here differ by up to {distance:.3f} from those of the published example: "
        f"{way}; "
        "model.native.example={} goes on if these are other weights than those of the example"
    )


def _other(spec: ModelSpec) -> str:
    return "pairs" if spec.native.rotary == "halves" else "halves"
