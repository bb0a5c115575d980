"""One small export of every kind that a consumer may meet, with the trainer's own embeddings beside it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codiemb.encoder import ModelSpec, PromptSpec, load_encoder
from codiemb.export import export_sentence_transformer

TOKENIZER = Path("data/builtin/tokenizer")
INSTRUCTION = "Retrieve documents that answer the question"
TEXTS = [
    "How do I reset my password?",
    "余额不足，转账失败怎么办？",
    "a long text about shipping and refunds, " * 6 + "end",
]
COLON, SPACE, NEWLINE = (
    "Instruct: {instruction}\nQuery:",
    "Instruct: {instruction}\nQuery: ",
    "{instruction}\n",
)
_BERT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
_DISTILBERT = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2, "initializer_range": 0.2}
_DECODER = _BERT | {
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
_YOUTU = {
    "num_key_value_heads": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}


class Kind(NamedTuple):
    """A model and how it embeds."""

    model_type: str
    architecture: dict[str, Any]
    attention: str
    pooling: str
    prompt: str

    @property
    def name(self) -> str:
        """Of its folder and of its row."""
        end = {COLON: "colon", SPACE: "space", NEWLINE: "newline"}[self.prompt]
        rope = self.architecture.get("rope_parameters", {}).get("rope_type", "default")
        return "_".join(
            [self.model_type, self.attention, self.pooling, end, *([rope] if rope != "default" else [])]
        )


def kinds() -> list[Kind]:
    """Every kind that consumers.RIGHT_UNDER_4 lists, those that it turns away, and the ends of a prompt."""
    qwen3, llama = _DECODER | {"head_dim": 16}, _DECODER
    both_ways = {"llama": llama, "mistral": llama, "qwen2": llama, "qwen3": qwen3}
    return [
        *(Kind(m, _BERT, "bidirectional", "mean", COLON) for m in ("roberta", "xlm-roberta", "mpnet")),
        Kind("distilbert", _DISTILBERT, "bidirectional", "mean", COLON),
        *(Kind("bert", _BERT, "bidirectional", "cls", end) for end in (COLON, SPACE)),
        *(Kind("bert", _BERT, "bidirectional", "mean", end) for end in (COLON, SPACE, NEWLINE)),
        *(Kind(m, a, "causal", "last_token", SPACE) for m, a in both_ways.items()),
        *(Kind("qwen3", qwen3, "causal", "mean", end) for end in (COLON, SPACE, NEWLINE)),
        Kind("llama", llama | {"rope_parameters": _LLAMA3}, "causal", "last_token", COLON),
        Kind("qwen3", qwen3 | {"rope_parameters": _YARN}, "causal", "last_token", COLON),
        *(Kind(m, a, "bidirectional", "mean", COLON) for m, a in both_ways.items()),
        Kind("youtu", _DECODER | _YOUTU, "bidirectional", "mean", COLON),
        Kind("youtu", _DECODER | _YOUTU, "causal", "last_token", SPACE),
    ]


def write_exports(folder: Path) -> None:
    """`NAME/` and `NAME.json` (texts, pooling, embeddings by prompt) for every kind."""
    for kind in kinds():
        torch.manual_seed(0)
        encoder = load_encoder(
            ModelSpec(
                name=kind.name,
                tokenizer=str(TOKENIZER),
                architecture={"model_type": kind.model_type, **kind.architecture},
                attention=kind.attention,
                pooling=kind.pooling,
                append_eos=kind.pooling == "last_token",
                prompt=PromptSpec(kind.prompt, ""),
                max_tokens=256,
            )
        )
        named = "Retrieve similar text"
        export_sentence_transformer(
            encoder, folder / kind.name, query_instruction=INSTRUCTION, instructions={"named": named}
        )
        rows = {"query": INSTRUCTION, "document": "", "named": named}
        expected = {key: encoder.encode(TEXTS, instruction=text).tolist() for key, text in rows.items()}
        content = {"texts": TEXTS, "pooling": kind.pooling, **expected}
        (folder / f"{kind.name}.json").write_text(json.dumps(content), "utf-8")
