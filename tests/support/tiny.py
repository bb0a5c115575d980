"""Tiny models and tokenizers: one architecture per family, one tokenizer per kind, nothing pretrained."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Tokenizer

from codiemb.encoder import Encoder, ModelSpec, load_encoder

SENTENCES = [
    "Returns the indices of the maximum values along an axis; ties are broken arbitrarily.",
    "How do I reset my password? Open the settings and choose 'reset'.",
    "Instruction: Retrieve documents that answer the question. \nQuery: hello world 123",
    "余额不足，转账失败怎么办？",
    "我的银行卡余额不足，不能转账。2024年3月5日",
    "A word is enough for the wise!",
    "Zz 0123456789，。",
    "为这个句子生成表示以用于检索相关文章：文档：",
]

_BERT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2,  # ten times the usual: attention far from uniform, so that errors show
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "youtu": {
        "model_type": "youtu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    },
    "qwen3": {
        "model_type": "qwen3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    },
    "bert": {"model_type": "bert", **_BERT},
    "xlm-roberta": {"model_type": "xlm-roberta", **_BERT},
}


def tiny_spec(architecture: str, tokenizer: Path, **settings: Any) -> ModelSpec:
    """Random weights of one of ARCHITECTURES."""
    return ModelSpec(
        name=architecture,
        tokenizer=str(tokenizer),
        architecture=dict(ARCHITECTURES[architecture]),
        **({"max_tokens": 64} | settings),
    )


def tiny_encoder(architecture: str, tokenizer: Path, **settings: Any) -> Encoder:
    """The same weights at every call."""
    torch.manual_seed(0)
    return load_encoder(tiny_spec(architecture, tokenizer, **settings))


def untouched(encoder: Encoder) -> PreTrainedModel:
    """The encoder's weights in a model that we never touched, with transformers' plain attention."""
    config = copy.deepcopy(encoder.backbone.config)
    config._attn_implementation = "eager"
    model = AutoModel.from_config(config)
    assert model.config._attn_implementation == "eager"
    model.load_state_dict(encoder.backbone.state_dict())
    return model.eval()


def wordpiece(out: Path) -> Path:
    """BERT's kind: lower-cased words without their spaces, [CLS] and [SEP] around them."""
    alphabet = sorted({char for text in SENTENCES for char in text.lower() if not char.isspace()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = ["instruction", "query", "retrieve", "hello", "##lo", "the", "##ing"]
    vocab = [*special, *alphabet, *(f"##{char}" for char in alphabet), *words]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocab)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    fast.save_pretrained(out)
    return out


def metaspace(out: Path) -> Path:
    """XLM-R's kind: a unigram model in which words carry their leading space, <s> and </s> around them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=250,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
    )
    fast.save_pretrained(out)
    return out


def qwen(byte_level: Path, out: Path) -> Path:
    """A tokenizer of a named class, which transformers rebuilds from its vocabulary at every load."""
    model = Tokenizer.from_file(str(byte_level / "tokenizer.json"))
    state = json.loads(model.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=state["vocab"],
        merges=[tuple(merge) for merge in state["merges"]],
        unk_token="<|end_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|pad|>",
        add_bos_token=False,
    )
    tokenizer.save_pretrained(out)
    return out
