"""What evaluation asks of an encoder, so that this package never imports one."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns texts into L2-normalised embeddings."""

    def encode(self, texts: Sequence[str], *, instruction: str = "", progress: bool = False) -> np.ndarray:
        """Embed S texts as an (S, D) float32 array, rows of length 1, in the order given.

        An empty `instruction` means no prompt; otherwise the encoder puts its own template around it.
        """
        ...
