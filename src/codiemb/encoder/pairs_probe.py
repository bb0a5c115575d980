"""A few pairs of sentences at load: an encoder for which related ones are no closer is loaded wrongly."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from codiemb.encoder.encoder import Encoder
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError

# (a sentence, one that means nearly the same in other words, one that shares words with it and means another)
_TRIPLES = (
    ("What's the weather like?", "It is warm and sunny outside today.", "What's the price like?"),
    ("The man bites the dog.", "A dog is being bitten by a man.", "The dog bites the man."),
    ("怎么修改登录密码？", "忘记密码了，如何重新设置？", "怎么修改收货地址？"),
    ("他把钥匙借给了妹妹。", "妹妹从他那里借到了钥匙。", "妹妹把钥匙借给了他。"),
    ("How many people live in Paris?", "Two million is the population of Paris.", "How many are they?"),
    (
        "The flight was cancelled because of fog.",
        "Fog grounded the plane.",
        "Because of the flight, he left.",
    ),
)
MARGIN = 0.05  # mean cosine of related pairs over unrelated ones
EXAMPLE_TOLERANCE = 0.05  # bfloat16, and a prompt with or without a space at its end

_OTHER = "other weights, or model.native is wrong for them; compare with the model's own code"
log = logging.getLogger(__name__)


class Margins(NamedTuple):
    """Mean cosines: of related sentences, of those that share words, of those of other triples."""

    related: float
    near: float
    unrelated: float


def margins(encoder: Encoder) -> Margins:
    """Embed the probe's sentences, without prompts, and compare."""
    texts = [text for triple in _TRIPLES for text in triple]
    rows_SD = encoder.encode(texts, side="document")
    cosine_SS: Float[np.ndarray, "S S"] = rows_SD @ rows_SD.T
    first = np.arange(0, len(texts), 3)
    others = [cosine_SS[i, j + 1] for i in first for j in first if i != j]
    return Margins(
        float(np.mean(cosine_SS[first, first + 1])),
        float(np.mean(cosine_SS[first, first + 2])),
        float(np.mean(others)),
    )


def check_native(encoder: Encoder, spec: ModelSpec) -> None:
    """Refuse an encoder whose related sentences are not related, and tell how it does on a published example.

    Raises:
        UserError: as `refuse_unrelated`.
    """
    found = refuse_unrelated(encoder, str(spec.path))
    log.info(
        "%s, read as %s: related sentences have a mean cosine of %.3f, unrelated ones %.3f",
        *(spec.path, spec.architecture["model_type"], found.related, found.unrelated),
    )
    if not spec.native.example:
        return
    distance = distance_to_example(encoder, spec.native.example)
    is_near = distance <= EXAMPLE_TOLERANCE
    log.log(
        logging.INFO if is_near else logging.WARNING,
        "cosines of the published example and those here differ by up to %.3f: %s",
        *(distance, "the same model" if is_near else _OTHER),
    )


def distance_to_example(encoder: Encoder, example: Mapping[str, Any]) -> float:
    """The largest difference between the cosines here and those that the model's authors printed."""
    query_1D = encoder.encode([example["query"]], instruction=example["instruction"], side="query")
    document_ND = encoder.encode(example["documents"], side="document")
    return float(np.abs(document_ND @ query_1D[0] - np.asarray(example["cosines"])).max())


def refuse_unrelated(encoder: Encoder, path: str) -> Margins:
    """Related sentences must be clearly closer than unrelated ones.

    It finds weights in the wrong places, and frequencies or layouts so wrong that words no longer find each
    other. An error that leaves the words in place passes: it is no proof of equality.

    Raises:
        UserError: they are not.
    """
    found = margins(encoder)
    if found.related - found.unrelated >= MARGIN:
        return found
    raise UserError(
        f"{path}: related sentences have a mean cosine of {found.related:.3f}, unrelated ones "
        f"{found.unrelated:.3f}: the weights are not what model.native takes them for. Try "
        "model.native.rotary=pairs or =halves, or run the model's own code: model.native.rotary=null "
        "model.trust_remote_code=true"
    )
