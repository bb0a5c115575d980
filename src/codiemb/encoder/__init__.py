"""The encoder: tokenisation, packed attention, pooling, loading and checks.

A name is imported when it is first asked for: what reads settings needs neither torch nor transformers.
"""

from typing import TYPE_CHECKING

from codiemb.on_demand import on_demand

if TYPE_CHECKING:
    from codiemb.encoder.check import check_spec
    from codiemb.encoder.encoder import Embeddings, Encoder, HiddenStates
    from codiemb.encoder.head import LanguageHead, load_head
    from codiemb.encoder.loading import load_encoder, load_tokenizer
    from codiemb.encoder.path_check import check_path
    from codiemb.encoder.spec import LoraSpec, ModelSpec, PromptSpec
    from codiemb.encoder.stream import pack_texts
    from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer

__all__ = [
    "Embeddings",
    "Encoder",
    "HiddenStates",
    "LanguageHead",
    "LoraSpec",
    "ModelSpec",
    "PromptSpec",
    "PromptTemplate",
    "TextTokenizer",
    "check_path",
    "check_spec",
    "load_encoder",
    "load_head",
    "load_tokenizer",
    "pack_texts",
]
__getattr__ = on_demand(
    __name__,
    {
        "check": ("check_spec",),
        "path_check": ("check_path",),
        "encoder": ("Embeddings", "Encoder", "HiddenStates"),
        "head": ("LanguageHead", "load_head"),
        "loading": ("load_encoder", "load_tokenizer"),
        "spec": ("LoraSpec", "ModelSpec", "PromptSpec"),
        "stream": ("pack_texts",),
        "tokenization": ("PromptTemplate", "TextTokenizer"),
    },
)
