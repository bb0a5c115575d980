"""Meanings and their gold similarity."""

from dataclasses import dataclass

from data_prep.frames.grammar import Frame
from data_prep.frames.values import Value

FRAME_SHARE = 0.3  # what two meanings of one frame share when no slot agrees
NEAR_NUMBER = 0.8  # the most credit a different number or date can earn
NEAR_DAYS = 30.0  # dates this far apart earn nothing
DENIAL = 0.4  # factor for opposite polarity
SAME_DOMAIN = 0.1  # another frame of the same domain, and as much again for values in common


@dataclass(frozen=True)
class Meaning:
    """A frame, one value per slot in the frame's order, and whether it is affirmed."""

    frame: Frame
    values: tuple[Value, ...]
    affirmed: bool = True


def value_credit(a: Value, b: Value) -> float:
    """Return 1 for equal values, 0 for different names, at most NEAR_NUMBER for different numbers or dates.

    Numbers earn NEAR_NUMBER * min / max; dates lose linearly until NEAR_DAYS apart.
    """
    if a == b:
        return 1.0
    if a.kind == "name" or a.type != b.type:
        return 0.0
    if a.kind == "date":
        return NEAR_NUMBER * max(0.0, 1.0 - abs(a.number - b.number) / NEAR_DAYS)
    low, high = sorted((a.number, b.number))
    return NEAR_NUMBER * max(0.0, low) / high


def similarity(a: Meaning, b: Meaning) -> float:
    """Return the gold similarity in [0, 1]: symmetric, and 1 if and only if the meanings are equal.

    Different domains: 0. Same domain, different frame: 0.1 plus 0.1 times the share of values in common.
    Same frame: 1 - 0.7 * (1 - c), where c is the weighted mean credit of the slots (0.3 when no slot agrees),
    then times 0.4 if one is affirmed and the other denied. Asking or stating is not part of a meaning.
    """
    if a.frame.domain != b.frame.domain:
        return 0.0
    if a.frame != b.frame:
        common = len(set(a.values) & set(b.values))
        return SAME_DOMAIN + SAME_DOMAIN * common / max(len(a.values), len(b.values))
    weights = a.frame.weights
    lost = sum(w * (1.0 - value_credit(x, y)) for w, x, y in zip(weights, a.values, b.values, strict=True))
    score = 1.0 - (1.0 - FRAME_SHARE) * lost / sum(weights)
    return score if a.affirmed == b.affirmed else score * DENIAL
