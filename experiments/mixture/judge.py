"""The mixture's strong judge: a cross-encoder of MiniLM's weights, trained on other records of docs."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder

Pair = tuple[str, str, float]  # query, document, and 1.0 where the one answers the other
_TOKENS = 96  # of a pair: half the cost of 192
_BATCH = 24
_RATE = 1e-4


def pairs_of(records: Sequence[dict[str, Any]], seed: int = 0) -> list[Pair]:
    """A right pair of each record, its hardest wrong one, and one with any document of another."""
    rng, pairs = random.Random(seed), list[Pair]()
    for record in records:
        query, other = record["query"][2], rng.choice(records)
        pairs.append((query, record["positives"][0][2], 1.0))
        pairs += [(query, text, 0.0) for _, _, text in record["negatives"][:1]]
        if other is not record:
            pairs.append((query, other["positives"][0][2], 0.0))
    rng.shuffle(pairs)
    return pairs


def train_judge(start: Path, pairs: Sequence[Pair], out: Path) -> None:
    """One pass over the pairs with AdamW and a rate that falls to nothing."""
    torch.manual_seed(0)
    judge = CrossEncoder(str(start), num_labels=1, max_length=_TOKENS, device="cpu")
    model = judge.model.train()
    model.bert.embeddings.requires_grad_(
        requires_grad=False
    )  # a third of the weights, and no more to learn there
    steps = -(-len(pairs) // _BATCH)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for first in range(0, len(pairs), _BATCH):
        queries, documents, right = zip(*pairs[first : first + _BATCH], strict=True)
        tokens = judge.tokenizer(
            list(queries),
            list(documents),
            padding=True,
            truncation=True,
            max_length=_TOKENS,
            return_tensors="pt",
        )
        logits = model(**tokens).logits[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(right))
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if first % (10 * _BATCH) == 0:
            print(
                f"judge: {first + len(right):,} of {len(pairs):,} pairs, loss {loss.item():.3f}", flush=True
            )
    judge.save_pretrained(str(out))
