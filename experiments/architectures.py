"""Question: does promise 3 hold for every architecture of transformers that `load_encoder` accepts?

Builds a tiny random model of every text architecture, in both attention modes. A text is embedded alone and
beside mates of equal, greater and smaller length, in several orders. Whatever is accepted must agree to 1e-5.

    python experiments/architectures.py TOKENIZER_FOLDER OUT.md [MODEL_TYPE ...]
"""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig
from transformers.models.auto import modeling_auto as auto

from codiemb.encoder import Encoder, ModelSpec, load_encoder, pack_texts
from codiemb.errors import UserError

SMALL: dict[str, Any] = (
    dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "lru_width"), 32)
    | dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_inner", "d_ff"), 48)
    | dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 3)
    | dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 4)
    | dict.fromkeys(("head_dim", "d_head", "v_head_dim", "qk_rope_head_dim", "qk_nope_head_dim"), 8)
    | dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128)
    | dict.fromkeys(("initializer_range", "init_std", "embed_init_std"), 0.2)
    | dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4)
    | dict.fromkeys(("num_experts_per_tok", "moe_k", "linear_num_key_heads", "linear_num_value_heads"), 2)
    | dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank"), 16)
    | dict.fromkeys(("mamba_d_head", "mamba_head_dim", "kv_lora_rank", "qk_head_dim"), 16)
    | dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "conv_kernel"), 4)
    | dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size", "mamba_dt_rank"), 8)
    | dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "sliding_window", "local_attention"), 8)
    | dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "mamba_ngroups"), 1)
    | {"mamba_d_ssm": 64}
)
LAYERS = {  # whose default is one kind of layer
    "lfm2": ["conv", "full_attention", "conv"],
    "lfm2_moe": ["conv", "full_attention", "conv"],
    "granitemoehybrid": ["mamba", "attention", "mamba"],
}
MATES = ((9,), (9, 9), (40,), (3,), (1,), (2, 5, 12, 64, 33))


def settings_of(model_type: str) -> dict[str, Any]:
    """Small sizes where the config has such a key, and three layers of the kinds that it has."""
    config = AutoConfig.for_model(model_type)
    stated, aliases = config.to_dict(), config.attribute_map
    small = {key: value for key, value in SMALL.items() if stated.get(key) is not None or key in aliases}
    small = {key: value for key, value in small.items() if aliases.get(key) not in small}
    if kinds := stated.get("layer_types"):
        small["layer_types"] = LAYERS.get(model_type, (list(dict.fromkeys(kinds)) * 3)[:3])
    return small


def largest_change(encoder: Encoder) -> float:
    """Of any component of one text's embedding, over all mates and places."""

    def text(num_tokens: int, seed: int) -> tuple[list[int], int]:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(10, 250, (num_tokens,), generator=generator).tolist(), 0

    ours, changes = text(9, 0), []
    alone = encoder(pack_texts([ours])).last_SD[0]
    for mates in MATES:
        others = [text(length, seed) for seed, length in enumerate(mates, start=1)]
        for place in {0, len(others) // 2, len(others)}:
            rows_SD = encoder(pack_texts([*others[:place], ours, *others[place:]])).last_SD
            changes.append(float((rows_SD[place] - alone).abs().max()))
    return max(changes)


def verdict(model_type: str, attention: str, tokenizer: str) -> str:
    """One cell of the table."""
    try:
        architecture = {"model_type": model_type, **settings_of(model_type)}
        torch.manual_seed(0)
        spec = ModelSpec(tokenizer=tokenizer, architecture=architecture, attention=attention, max_tokens=100)
        encoder = load_encoder(spec).eval()
    except UserError as error:
        return f"refused: {str(error).splitlines()[0][:110]}"
    except Exception as error:  # a tiny config that this architecture does not take
        return f"not built: {type(error).__name__}"
    with torch.no_grad():
        change = largest_change(encoder)
    return f"{'packed' if encoder.packed else 'padded'} {change:.0e}{'' if change <= 1e-5 else ' WRONG'}"


def main() -> None:
    """Write one row an architecture as it is done."""
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    tokenizer, out, *chosen = sys.argv[1:]
    text_tasks = {*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES}
    names = chosen or sorted(set(auto.MODEL_MAPPING_NAMES) & text_tasks)
    with Path(out).open("w", encoding="utf-8") as file:
        print("| architecture | bidirectional | causal |\n|---|---|---|", file=file)
        for name in names:
            cells = [verdict(name, attention, tokenizer) for attention in ("bidirectional", "causal")]
            print(
                f"| {name} | {' | '.join(cell.replace('|', '/') for cell in cells)} |", file=file, flush=True
            )


if __name__ == "__main__":
    main()
