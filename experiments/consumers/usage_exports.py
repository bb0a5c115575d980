"""The exports that docs/usage.md is run with, prompts on both sides, and the trainer's own embeddings."""

import json
from pathlib import Path

import torch

from codiemb.encoder import Encoder, ModelSpec, PromptSpec, load_encoder
from codiemb.export import export_sentence_transformer
from experiments.consumers.exports import INSTRUCTION, NEWLINE, TOKENIZER, Kind, kinds

TEXTS = {
    "plain": ["Where is my order?", "余额不足，转账失败怎么办？", "a long text about shipping, " * 8 + "end"],
    "spaces": ["  a text between spaces  "],
    "breaks": ["A title\n\nA text\nin lines"],
}
DOCUMENT = "The order was shipped."  # with the first text: the score that an index has to give


def chosen() -> dict[str, tuple[Kind, bool]]:
    """By name, an architecture and whether its prompt is pooled."""
    by_name = {kind.name: kind for kind in kinds()}
    bert, youtu = by_name["bert_bidirectional_mean_colon"], by_name["youtu_bidirectional_mean_colon"]
    qwen3, last = by_name["qwen3_causal_mean_newline"], by_name["qwen3_causal_last_token_space"]
    return {
        "bert_mean_colon": (bert, False),
        "bert_mean_pooled": (bert, True),
        "qwen3_last_token": (last, False),
        "qwen3_mean_newline": (qwen3, False),
        "youtu_mean_colon": (youtu, False),
    }


def write_exports(folder: Path) -> None:
    """`NAME/` and `NAME.json`: texts and embeddings by kind of texts and side, and one score."""
    for name, (kind, pooled) in chosen().items():
        torch.manual_seed(0)
        encoder = load_encoder(
            ModelSpec(
                name=name,
                tokenizer=str(TOKENIZER),
                architecture={"model_type": kind.model_type, **kind.architecture},
                attention=kind.attention,
                pooling=kind.pooling,
                pool_prompt=pooled,
                append_eos=kind.pooling == "last_token",
                prompt=PromptSpec(kind.prompt, "Text\n" if kind.prompt == NEWLINE else "Text:"),
                max_tokens=256,
            )
        )
        export_sentence_transformer(encoder, folder / name, query_instruction=INSTRUCTION)
        (folder / f"{name}.json").write_text(json.dumps(_expected(encoder)), "utf-8")


def _expected(encoder: Encoder) -> dict[str, object]:
    query = {
        kind: encoder.encode(texts, instruction=INSTRUCTION, side="query") for kind, texts in TEXTS.items()
    }
    document = {kind: encoder.encode(texts, side="document") for kind, texts in TEXTS.items()}
    score = query["plain"][0] @ encoder.encode([DOCUMENT], side="document")[0]
    return {
        "texts": TEXTS,
        "query": {kind: rows.tolist() for kind, rows in query.items()},
        "document": {kind: rows.tolist() for kind, rows in document.items()},
        "score": float(score),
    }
