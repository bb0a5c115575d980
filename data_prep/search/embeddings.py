"""The embeddings of a table's texts, computed once, memory-mapped, and never those of another model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from codiemb.encoder.fingerprint import Fingerprint
from codiemb.errors import UserError
from codiemb.mining.scores import Embeddings, lengths
from data_prep.search.encoders import Row, RowEncoder
from data_prep.search.fingerprint import texts_hash
from data_prep.search.kept_rows import Table, kept_rows

_SHOWN = 20  # prompts that the record spells out


def embeddings(
    folder: Path,
    rows: Sequence[Row],
    encoder: RowEncoder,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    rows_per_shard: int = 4_096,
    progress: str = "",
) -> Embeddings:
    """Embeddings of all rows in order, of length 1, memory-mapped from `folder`.

    They are used again only where weights, tokenizer, prompts, lengths, dtypes, library versions and all
    texts in their order are the same; of a run that was killed, what is missing is computed. At most a shard
    of texts and vectors is in memory beyond `rows`.

    Args:
        folder: of these embeddings alone.
        rows: instruction and text of each row.
        encoder: of the side that the texts are on.
        dtype: on disk.
        rows_per_shard: how many are encoded between two syncs; part of what makes two results bit-equal.
        progress: what the bar is called; "" shows none.

    Raises:
        UserError: the folder holds other embeddings, the disk is full, or an embedding is not finite or zero.
    """
    table = Table(
        len(rows), (encoder.width,), dtype, fingerprint(rows, encoder), rows_per_shard=rows_per_shard
    )

    def compute(start: int, end: int) -> np.ndarray:
        return _unit(encoder.encode(rows[start:end]), start)

    return kept_rows(folder, table, compute, progress=progress)


def fingerprint(rows: Sequence[Row], encoder: RowEncoder) -> Fingerprint:
    """What the embeddings of these rows depend on. Reads all weights and all texts once."""
    prompts: dict[str, None] = {}

    def prompted() -> Iterator[tuple[str, ...]]:
        for instruction, text in rows:
            prompt = encoder.prompt(instruction)
            prompts[prompt] = None
            yield prompt, text

    texts = texts_hash(prompted())  # runs through `prompted`
    shown = list(prompts)[:_SHOWN]
    return {
        "encoder": encoder.identity(),
        "prompts": shown if len(prompts) <= _SHOWN else [*shown, f"and {len(prompts) - _SHOWN} more"],
        "texts": texts,
    }


def _unit(embedding_nD: np.ndarray, start: int) -> np.ndarray:
    length_n = lengths(embedding_nD)
    if bad := [start + int(i) for i in np.flatnonzero(~(np.isfinite(length_n) & (length_n > 0)))[:_SHOWN]]:
        raise UserError(
            f"the embeddings of rows {', '.join(map(str, bad))} are zero, NaN or infinite; "
            "check the weights (did training diverge?) and the precision"
        )
    return (embedding_nD / length_n[:, None]).astype(np.float32)
