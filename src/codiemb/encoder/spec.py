"""What a researcher chose about a model: the schema of the `model` group."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class PromptSpec:
    """Prompt prefixes.

    Attributes:
        query: of texts with an instruction. Without `{instruction}` it is a fixed prompt; an empty one
            ignores instructions (MiniLM).
        document: of texts without an instruction.
    """

    query: str = "Instruction: {instruction} \nQuery: "
    document: str = ""


@dataclass
class LoraSpec:
    """LoRA by peft; its fields keep peft's names.

    Attributes:
        r: rank of the adapters; 0 trains all weights instead.
        lora_alpha: adapters count `lora_alpha / r` times.
        lora_dropout: share of an adapter's inputs that is dropped in training.
        target_modules: layers that get an adapter: `all-linear`, or a regular expression for their names.
    """

    r: int = 0
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"


@dataclass
class ModelSpec:
    """One entry of the `model` group.

    Attributes:
        name: for tables and logs; never used to dispatch.
        path: local folder or hub id; None builds `architecture` from random weights.
        weights: `pretrained`, `random`, or None for pretrained where there is a path.
        tokenizer: folder or hub id; None means the one at `path`.
        fallback_tokenizer: stands in, with random weights only, where no other is to be had.
        architecture: keyword arguments of the transformers config class, `model_type` included.
        init: `standard` (transformers' own) or `bag_of_words` (unit-variance token embeddings, nearly silent
            layers: the fastest start from random weights, see experiments/LOG.md).
        pooling: `mean`, `cls` or `last_token`.
        attention: `bidirectional` or `causal`; verified on the real model.
        prompt: prompt prefixes.
        pool_prompt: mean pooling covers the prompt as well (E5, BGE) instead of the text only (CoDiEmb).
        append_eos: the tokenizer ends every text with EOS.
        max_tokens: longest text in tokens for evaluation and export, prompt included.
        learning_rate: peak step size that suits this model; the optimizer group reads it.
        middle_layer: layer that MidLayerInfoNCE trains; `middle` is half of the depth, None is off.
        dtype: `float32`, `bfloat16` or `float16`, of the weights. In training of those that stay as they are
            (LoRA) and of DeepSpeed's; others are trained in fp32.
        lora: train LoRA adapters instead of all weights, if its rank is set.
        trust_remote_code: run Python code that comes with the model.
        folder_settings: take pooling, attention and prompts from the folder at `path` where it states them.
    """

    name: str = "model"
    path: str | None = None
    weights: str | None = None
    tokenizer: str | None = None
    fallback_tokenizer: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    init: str = "standard"
    pooling: str = "mean"
    attention: str = "bidirectional"
    prompt: PromptSpec = field(default_factory=PromptSpec)
    pool_prompt: bool = False
    append_eos: bool = False
    max_tokens: int = 512
    learning_rate: float = 4e-5
    middle_layer: str | None = None
    dtype: str = "float32"
    lora: LoraSpec = field(default_factory=LoraSpec)
    trust_remote_code: bool = False
    folder_settings: bool = True
