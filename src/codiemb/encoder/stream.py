"""Packed streams of texts: joining tokenised texts, and cutting a stream between two of them."""

from collections.abc import Iterator, Sequence

import torch

from codiemb.batch import PackedTexts


def split_by_tokens(texts: PackedTexts, max_tokens: int) -> Iterator[PackedTexts]:
    """Cut a stream between sequences into streams of at most `max_tokens` tokens, in order.

    Filled from the end: what is left over is the first one.

    Raises:
        ValueError: one sequence is longer than `max_tokens`.
    """
    lengths = texts.sequence_lengths
    if max(lengths) > max_tokens:
        raise ValueError(
            f"a sequence of {max(lengths)} tokens exceeds max_tokens_per_chunk={max_tokens}: raise "
            "encoder.max_tokens_per_chunk, or lower the task's max_query_tokens or max_document_tokens"
        )
    borders, tokens = [len(lengths)], 0
    for i in reversed(range(len(lengths))):
        if tokens + lengths[i] > max_tokens:
            borders.append(i + 1)
            tokens = 0
        tokens += lengths[i]
    first = start = 0
    for last in reversed(borders):
        end = start + sum(lengths[first:last])
        yield PackedTexts(texts.input_ids_T[start:end], lengths[first:last], texts.prompt_lengths[first:last])
        first, start = last, end


def first_text(texts: PackedTexts) -> PackedTexts:
    """The first text of a stream as a stream of its own."""
    ids_T = texts.input_ids_T[: texts.sequence_lengths[0]]
    return PackedTexts(ids_T, texts.sequence_lengths[:1], texts.prompt_lengths[:1])


def pack_texts(texts: Sequence[tuple[list[int], int]], device: torch.device | str = "cpu") -> PackedTexts:
    """Concatenate (token ids, prompt length) pairs into one stream."""
    ids = [token for ids, _ in texts for token in ids]
    return PackedTexts(
        torch.tensor(ids, dtype=torch.int64, device=device),
        tuple(len(ids) for ids, _ in texts),
        tuple(prompt_length for _, prompt_length in texts),
    )
