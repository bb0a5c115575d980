"""An encoder that remembers on disk: a text is encoded once for all tasks and runs with the same weights."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Float32, UInt64

from codiemb.evaluation.embedding_store import EmbeddingStore
from codiemb.text_encoder import Settings, Side, StatedEncoder

_COMPUTES = ("torch", "transformers", "tokenizers")  # another version may round otherwise, or do worse
_BLOCK = 8_192  # texts that are encoded, then kept: what a killed run loses at most


class CachedEncoder:
    """A TextEncoder around another one: what the store has is not encoded, nor is one text twice in a call.

    What comes out of the store has the bits that went in. Texts that are not in it are encoded in the order
    given, in blocks that the encoder would have cut as well: with an empty store and no text twice the
    embeddings are those without a cache to the bit. Otherwise others share their forward pass, and they are
    the same to rounding.

    Args:
        encoder: asked for what the store has not. Its settings are read once: its weights must stay as they
            are, so training has no use for this.
        folder: of the store; of all encoders, each in a sub-folder.
        max_bytes: that the folder may have.
    """

    def __init__(self, encoder: StatedEncoder, folder: Path, max_bytes: int) -> None:
        self._encoder = encoder
        self._settings = encoder.settings()
        self._store = EmbeddingStore(folder, _identity(self._settings), max_bytes)

    def prefix(self, instruction: str = "", side: Side | None = None) -> str:
        """The encoder's own."""
        return self._encoder.prefix(instruction, side)

    def settings(self) -> Settings:
        """The encoder's own."""
        return self._settings

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: Side | None = None,
        progress: bool = False,
    ) -> Float32[np.ndarray, "S D"]:
        """As the encoder's own."""
        if not len(texts):
            return self._encoder.encode(texts)
        key_S2 = text_keys(self.prefix(instruction, side), texts)
        first_U, row_S = _unique(key_S2)
        found_U, row_UD = self._store.get(key_S2[first_U])
        missing = np.flatnonzero(~found_U)
        for start in range(0, len(missing), _BLOCK):
            block = missing[start : start + _BLOCK]
            new = self._encoder.encode(
                [texts[i] for i in first_U[block].tolist()],
                instruction=instruction,
                side=side,
                progress=progress,
            )
            self._store.put(key_S2[first_U[block]], new)
            if row_UD.shape[1] == 0:
                row_UD = np.empty((len(first_U), new.shape[1]), dtype=np.float32)
            row_UD[block] = new
        return row_UD[row_S]


def _identity(settings: Settings) -> str:
    """A name for all that a vector depends on but prefix and text."""
    whole = settings | {"packages": {name: version(name) for name in _COMPUTES}}
    return xxhash.xxh3_128_hexdigest(json.dumps(whole, sort_keys=True).encode())


def text_keys(prefix: str, texts: Sequence[str]) -> UInt64[np.ndarray, "S 2"]:
    """128 bits of every prefix and text. The border between the two counts: a prefix is not pooled.

    xxh3 guards against accidents only: one in 10^20 for a billion texts.
    """
    start = prefix.encode("utf-8", "surrogatepass")
    hasher = xxhash.xxh3_128(len(start).to_bytes(8, "little") + start)
    digests = bytearray()
    for text in texts:
        one = hasher.copy()
        one.update(text.encode("utf-8", "surrogatepass"))
        digests += one.digest()
    return np.frombuffer(bytes(digests), dtype="<u8").reshape(len(texts), 2)


def _unique(key_S2: UInt64[np.ndarray, "S 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Places of the first of each key, in their order, and for every key which of these it is."""
    _, first, inverse = np.unique(key_S2.view("S16")[:, 0], return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]
