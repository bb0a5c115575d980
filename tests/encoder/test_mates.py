"""Promise 3 for every kind of architecture: the texts beside a text do not change its embedding."""

import pytest
import torch

from codiemb.encoder import ModelSpec, load_encoder, pack_texts
from codiemb.errors import UserError
from tests.support import tiny

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
GROUPED = SMALL | {"num_key_value_heads": 2}
EQUAL = SMALL | {"num_key_value_heads": 4}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
ACCEPTED = {  # architecture: (settings, modes)
    "bert": (SMALL, "b"),
    "xlm-roberta": (SMALL, "b"),
    "deberta-v2": (SMALL, "b"),
    "mpnet": (SMALL, "b"),
    "longformer": (SMALL | {"attention_window": [8, 8]}, "b"),
    "mobilebert": (SMALL | {"true_hidden_size": 32, "intra_bottleneck_size": 32, "embedding_size": 32}, "b"),
    "modernbert": (SMALL | {"local_attention": 8, "pad_token_id": 0}, "b"),
    "gpt2": (SMALL | {"intermediate_size": None}, "bc"),
    "opt": (
        SMALL
        | {
            "intermediate_size": None,
            "initializer_range": None,
            "init_std": 0.2,
            "ffn_dim": 48,
            "word_embed_proj_dim": 32,
        },
        "bc",
    ),
    "bloom": ({key: SMALL[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}, "bc"),
    "gptj": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 128}, "bc"),
    "llama": (GROUPED, "bc"),
    "cohere2": (GROUPED | WINDOW | {"head_dim": 8}, "bc"),
    "gemma3_text": (GROUPED | WINDOW | {"head_dim": 8}, "bc"),
    "gpt_oss": (GROUPED | WINDOW | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}, "bc"),
    "qwen3_moe": (
        GROUPED | {k: v for k, v in MOE.items() if k != "num_local_experts"},
        "bc",
    ),
    "mixtral": (GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}, "bc"),
    "stablelm": (EQUAL, "c"),
    "gpt_neo": (
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "window_size": 4,
            "attention_types": [[["global", "local"], 1]],
        },
        "c",
    ),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}, "c"),
    "lfm2": (GROUPED | {"layer_types": ["conv", "full_attention"]}, "c"),
}
REFUSED = {  # bidirectional only beside the right mates
    "fnet": {key: value for key, value in SMALL.items() if key != "num_attention_heads"},
    "nystromformer": SMALL | {"num_landmarks": 4, "segment_means_seq_len": 4},
    "convbert": SMALL | {"embedding_size": 32},
    "yoso": SMALL,
}
CASES = [(name, mode) for name, (_, modes) in ACCEPTED.items() for mode in modes]


def load(byte_level, model_type, settings, mode="b"):
    torch.manual_seed(0)
    settings = {key: value for key, value in settings.items() if value is not None}
    return load_encoder(
        ModelSpec(
            tokenizer=str(byte_level),
            architecture={"model_type": model_type, **settings},
            attention={"b": "bidirectional", "c": "causal"}[mode],
            max_tokens=100,
        )
    ).eval()


def text(num_tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 250, (num_tokens,), generator=generator).tolist(), 0


@pytest.mark.parametrize(("model_type", "mode"), CASES)
def test_a_text_has_one_embedding_alone_and_beside_any_others(byte_level, model_type, mode):
    encoder = load(byte_level, model_type, ACCEPTED[model_type][0], mode)
    ours = text(9)
    with torch.no_grad():
        alone = encoder(pack_texts([ours])).last_SD[0]
        for mates in ((9,), (9, 9), (40,), (3,), (1,), (2, 5, 9, 70, 33)):
            others = [text(length, seed) for seed, length in enumerate(mates, start=1)]
            for place in {0, len(others) // 2, len(others)}:
                stream = pack_texts([*others[:place], ours, *others[place:]])
                torch.testing.assert_close(encoder(stream).last_SD[place], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", REFUSED)
def test_an_architecture_that_looks_at_padding_is_refused_by_name(byte_level, model_type):
    with pytest.raises(UserError, match=r"Model with model\.attention=bidirectional is refused: a text's"):
        load(byte_level, model_type, REFUSED[model_type])


def test_an_algorithm_that_changes_with_the_longest_text_is_switched_off(byte_level, caplog):
    """BigBird has sparse attention in batches of long texts, until the first short one."""
    settings = SMALL | {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    encoder = load(byte_level, "big_bird", settings)
    assert encoder.backbone.config.attention_type == "original_full"
    assert "full attention instead of block-sparse" in caplog.text


def test_a_model_in_which_no_token_sees_another_is_refused(byte_level):
    """MRA without its CUDA kernel returns zeros."""
    with pytest.raises(UserError, match="MraModel has no attention here"):
        load(byte_level, "mra", SMALL, "c")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["youtu", "bert"])
def test_half_precision_raises_no_false_alarm(byte_level, architecture, dtype, caplog):
    assert tiny.tiny_encoder(architecture, byte_level, dtype=dtype).packed
    assert not caplog.records


def test_a_leak_below_the_rounding_of_half_precision_is_still_found(byte_level, monkeypatch):
    """By its gradient: the second text's states take a thousandth of a first token of another's."""
    encoder = tiny.tiny_encoder("qwen3", byte_level, dtype="bfloat16")
    run = type(encoder)._packed_states

    def leaky(self, texts):
        states = run(self, texts)
        return states._replace(last_TD=states.last_TD + 1e-3 * states.last_TD[:1])

    monkeypatch.setattr(type(encoder), "_packed_states", leaky)
    other = tiny.tiny_encoder("qwen3", byte_level, dtype="bfloat16")
    assert encoder.packed
    assert not other.packed
