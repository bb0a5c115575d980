"""A cross-encoder's scores of pairs: one for every pair asked for, computed once for texts and weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from sentence_transformers import CrossEncoder

from codiemb.encoder.fingerprint import Fingerprint, module_identity, packages, tokenizer_identity
from codiemb.errors import UserError
from data_prep.search.encoders import module_settings
from data_prep.search.fingerprint import texts_hash
from data_prep.search.kept_rows import Table, kept_rows

Pair = tuple[str, str]  # the texts of a query and a document


def load_cross_encoder(path: str, *, max_tokens: int | None = None, device: str = "cpu") -> CrossEncoder:
    """A cross-encoder of a folder or hub id; no code of the model's own is run.

    Raises:
        UserError: it is not to be had, or it gives a pair several scores.
    """
    try:
        model = CrossEncoder(path, device=device)
    except (OSError, ValueError) as error:
        raise UserError(f"no cross-encoder at {path!r}: {error}") from error
    if model.num_labels != 1:
        raise UserError(
            f"{path!r} gives a pair {model.num_labels} scores (a classifier); take a cross-encoder with one"
        )
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    return model


def cross_encoder_scores(
    folder: Path,
    pairs: Sequence[Pair],
    model: CrossEncoder,
    *,
    batch_size: int = 32,
    rows_per_shard: int = 4_096,
    progress: str = "",
) -> Float32[np.ndarray, " P"]:
    """The model's score of every pair in order, memory-mapped from `folder`.

    Restarted and refused as `embeddings` are. A pair twice in the list is scored twice.

    Args:
        folder: of these scores alone.
        pairs: query and document of each.
        model: as `load_cross_encoder` gives it.
        batch_size: pairs a batch.
        rows_per_shard: how many are scored between two syncs.
        progress: what the bar is called; "" shows none.

    Raises:
        UserError: the folder holds other scores, the disk is full, or a score is not finite.
    """
    record: Fingerprint = {"cross_encoder": cross_encoder_identity(model), "texts": texts_hash(pairs)}
    table = Table(len(pairs), (), "float32", record, rows_per_shard=rows_per_shard)

    def compute(start: int, end: int) -> np.ndarray:
        scores: np.ndarray = model.predict(
            list(pairs[start:end]), batch_size=batch_size, show_progress_bar=False
        )
        return _finite(scores, start)

    return kept_rows(folder, table, compute, progress=progress)


def cross_encoder_identity(model: CrossEncoder) -> Fingerprint:
    """All but texts that a score depends on."""
    return {
        "library": "sentence-transformers",
        **module_identity(model),
        "tokenizer": tokenizer_identity(model.tokenizer),
        "modules": module_settings(model),
        "max_tokens": model.max_seq_length,
        "prompts": {"default": model.default_prompt_name, **model.prompts},
        "activation": str(model.activation_fn),
        "versions": packages("sentence-transformers", "torch", "transformers", "tokenizers"),
    }


def _finite(scores: np.ndarray, start: int) -> np.ndarray:
    if bad := [start + int(i) for i in np.flatnonzero(~np.isfinite(scores))[:20]]:
        raise UserError(
            f"the cross-encoder's scores of pairs {', '.join(map(str, bad))} are NaN or infinite; "
            "check its weights and the precision"
        )
    return scores.astype(np.float32)
