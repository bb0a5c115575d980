"""What a researcher chose about a model: the schema of the `model` group."""

from dataclasses import dataclass, field
from typing import Any

CHOICES = {
    "loader": ("codiemb", "mteb", "youtu_api"),
    "pooling": ("mean", "cls", "last_token"),
    "attention": ("bidirectional", "causal"),
    "dtype": ("float32", "bfloat16", "float16"),
    "weights": (None, "pretrained", "random"),
    "init": ("standard", "bag_of_words"),
}


@dataclass
class PromptSpec:
    """Prompt prefixes; PromptTemplate says which text gets which.

    Attributes:
        query: of queries. Without `{instruction}` it is a fixed prompt (E5, BGE); an empty one ignores
            instructions (MiniLM).
        document: of documents.
        instruction: stands in for `{instruction}` in a query that has none; if it is empty, too, such a query
            has no prompt.
    """

    query: str = "Instruction: {instruction} \nQuery: "
    document: str = ""
    instruction: str = ""


@dataclass
class LoraSpec:
    """LoRA by peft; its fields keep peft's names.

    Attributes:
        r: rank of the adapters; 0 trains all weights instead.
        lora_alpha: adapters count `lora_alpha / r` times.
        lora_dropout: share of an adapter's inputs that is dropped in training.
        target_modules: layers that get an adapter: a list of names, or one string: `all-linear` or a regular
            expression for their names.
    """

    r: int = 0
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: Any = "all-linear"  # str | list[str], which OmegaConf has no type for


@dataclass
class NativeSpec:
    """A model that brings its own code, run by a class of transformers instead.

    Attributes:
        rotary: the layout of its rotary embedding: `halves` (dimension i turns with i + width / 2, as in
            transformers) or `pairs` (2i with 2i + 1, as in RoFormer). None runs the model's own code.
        names: from names of its weights to those of the class of `architecture`: regular expressions and what
            replaces them.
        example: {instruction, query, documents, cosines} that its authors printed; how far the cosines here
            are from those is told at load.
    """

    rotary: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    example: dict[str, Any] = field(default_factory=dict)


@dataclass
class ApiSpec:
    """The hosted model of `loader: youtu_api`; its key is in TENCENTCLOUD_SECRET_ID and _SECRET_KEY.

    Attributes:
        model: the service's name of the model.
        protocol: `https` or `http`.
        endpoint: host, and port if need be.
        region: of the service.
        text_type: also send TextType, query or document.
        requests_per_second: at most so many.
        timeout_seconds: longest wait for an answer.
        max_attempts: of one request; those that are refused for their rate, fail or hang are made again.
    """

    model: str = "youtu-embedding-v1"
    protocol: str = "https"
    endpoint: str = "lkeap.tencentcloudapi.com"
    region: str = "ap-guangzhou"
    text_type: bool = True
    requests_per_second: float = 5.0
    timeout_seconds: float = 30.0
    max_attempts: int = 6


@dataclass
class ModelSpec:
    """One entry of the `model` group.

    Attributes:
        name: for tables and logs; never used to dispatch. With `loader: mteb` the name in mteb's registry.
        loader: `codiemb`; or, for evaluation only, `mteb` (any model of its registry, by its own loader and
            with its own prompts) or `youtu_api` (the hosted API).
        path: local folder or hub id; None builds `architecture` from random weights. A folder with a LoRA
            adapter alone stands for the base that it names with the adapter merged into it.
        subfolder: where the transformer lies in `path` (`0_Transformer` of old sentence-transformers
            folders, which say so themselves).
        weights: `pretrained`, `random`, or None for pretrained where there is a path.
        tokenizer: folder or hub id; None means the one at `path`.
        fallback_tokenizer: stands in, with random weights only, where no other is to be had.
        architecture: keyword arguments of the transformers config class, `model_type` included.
        init: `standard` (transformers' own) or `bag_of_words` (unit-variance token embeddings, nearly silent
            layers: the fastest start from random weights, see experiments/LOG.md).
        pooling: `mean`, `cls` or `last_token`.
        attention: `bidirectional` or `causal`; verified on the real model.
        prompt: prompt prefixes.
        query_prompt_name, document_prompt_name: of a sentence-transformers folder with prompts of other names
            than `query` and `document` (`s2p_query`, `passage`): which of them are meant; "" takes the
            prompt in `prompt`.
        pool_prompt: mean pooling covers the prompt as well (E5, BGE) instead of the text only (CoDiEmb).
        prompt_apart: no token holds the end of the prompt and the start of the text, and exactly the text is
            pooled; false leaves tokens as they fall, as sentence-transformers does.
        append_eos: the tokenizer ends every text with EOS.
        lower_case: the tokenizer puts every text in lower case first.
        max_tokens: longest text in tokens for evaluation and export, prompt included.
        learning_rate: peak step size that suits this model; the optimizer group reads it.
        middle_layer: layer that MidLayerInfoNCE trains; `middle` is half of the depth, None is off.
        dtype: `float32`, `bfloat16` or `float16`, of the weights. In training of those that stay as they are
            (LoRA) and of DeepSpeed's; others are trained in fp32.
        lora: train LoRA adapters instead of all weights, if its rank is set.
        trust_remote_code: run Python code that comes with the model.
        folder_settings: take pooling, attention, prompts and length from the folder or hub id at `path`,
            where it states them.
        native: run the weights of a model with code of its own by a class of transformers.
        api: of `loader: youtu_api`.
    """

    name: str = "model"
    loader: str = "codiemb"
    path: str | None = None
    subfolder: str = ""
    weights: str | None = None
    tokenizer: str | None = None
    fallback_tokenizer: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    init: str = "standard"
    pooling: str = "mean"
    attention: str = "bidirectional"
    prompt: PromptSpec = field(default_factory=PromptSpec)
    query_prompt_name: str | None = None
    document_prompt_name: str | None = None
    pool_prompt: bool = False
    prompt_apart: bool = True
    append_eos: bool = False
    lower_case: bool = False
    max_tokens: int = 512
    learning_rate: float = 4e-5
    middle_layer: str | None = None
    dtype: str = "float32"
    lora: LoraSpec = field(default_factory=LoraSpec)
    trust_remote_code: bool = False
    folder_settings: bool = True
    native: NativeSpec = field(default_factory=NativeSpec)
    api: ApiSpec = field(default_factory=ApiSpec)
