"""What is asked of an encoder by whoever scores it or shares it over ranks, and never imports one."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

# What a text is to its task: something to find with, something to be found, or, in a symmetric task, neither.
Side = Literal["query", "document", "text"]
Settings = dict[str, Any]  # of JSON values


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns texts into L2-normalised embeddings; it may also state what it does (Stated)."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: Side | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Embed S texts as an (S, D) float32 array, rows of length 1, in the order given.

        The encoder's own template says which prompt texts of this side and instruction ("" for none) get.
        """
        ...


@runtime_checkable
class Stated(Protocol):
    """What an encoder may say of itself, for the record of a score."""

    def prefix(self, instruction: str = "", side: Side | None = None) -> str:
        """The exact string that it puts before a text."""
        ...

    def settings(self) -> Settings:
        """All that an embedding depends on but prompt and text: a hash of the weights, pooling, precision."""
        ...


def prefix_of(encoder: TextEncoder, instruction: str, side: Side) -> str | None:
    """The exact string before a text; None where the encoder does not say."""
    return encoder.prefix(instruction, side) if isinstance(encoder, Stated) else None


def settings_of(encoder: TextEncoder) -> Settings:
    """The encoder's settings; empty where it states none."""
    return encoder.settings() if isinstance(encoder, Stated) else {}


@runtime_checkable
class StatedEncoder(TextEncoder, Stated, Protocol):
    """An encoder that says what its vectors depend on, so that they can be kept."""
