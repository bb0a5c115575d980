"""The encoder: tokenisation, packed attention, pooling, loading and checks."""

from codiemb.encoder.check import check_path, check_spec
from codiemb.encoder.encoder import Embeddings, Encoder, HiddenStates
from codiemb.encoder.head import LanguageHead, load_head
from codiemb.encoder.loading import load_encoder, load_tokenizer
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
