"""What evaluation asks of an encoder, so that this package never imports one."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

# Of a retrieval or reranking task, or the only kind of text that a symmetric task has.
Side = Literal["query", "document", "text"]


@runtime_checkable
class TextEncoder(Protocol):
    """Anything that turns texts into L2-normalised embeddings."""

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
