"""Our encoder and sentence-transformers behind one interface: rows of a table in, vectors out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float32
from sentence_transformers import SentenceTransformer
from torch import nn

from codiemb.encoder import Encoder, ModelSpec, PromptSpec, load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels
from codiemb.encoder.fingerprint import Fingerprint, module_identity, packages, tokenizer_identity
from codiemb.encoder.tokenization import PromptTemplate
from codiemb.errors import UserError
from codiemb.text_encoder import Side

Row = tuple[str, str]  # instruction ("" for none) and text
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # names that encode_document of the library looks for


class RowEncoder(Protocol):
    """Texts of one side to embeddings."""

    @property
    def width(self) -> int:
        """Dimensions of an embedding."""
        ...

    def prompt(self, instruction: str) -> str:
        """What is put before a text, literally."""
        ...

    def identity(self) -> Fingerprint:
        """All but prompts and texts that an embedding depends on."""
        ...

    def encode(self, rows: Sequence[Row]) -> Float32[np.ndarray, "n D"]:
        """Embeddings of the rows, in order, of any length."""
        ...


class CodiembEncoder:
    """An encoder of ours.

    Args:
        encoder: as `load_encoder` gives it.
        side: what its texts are: `query`, `document`, or `text` in a symmetric task.
    """

    def __init__(self, encoder: Encoder, side: Side) -> None:
        self.encoder = encoder
        self.side: Side = side

    @property
    def width(self) -> int:
        """Dimensions of an embedding."""
        return int(self.encoder.backbone.config.hidden_size)

    def prompt(self, instruction: str) -> str:
        """What the model's template puts before a text."""
        return self.encoder.prefix(instruction, self.side)

    def identity(self) -> Fingerprint:
        """Weights, tokenizer, settings and versions."""
        settings = self.encoder.settings()
        del settings["device"]  # rows are kept, whichever computed them
        versions = packages("codiemb", "torch", "transformers", "tokenizers")
        return {"library": "codiemb", **settings, "versions": versions}

    def encode(self, rows: Sequence[Row]) -> Float32[np.ndarray, "n D"]:
        """Embeddings of the rows, in order."""

        def encode(texts: list[str], instruction: str) -> np.ndarray:
            return self.encoder.encode(texts, instruction=instruction, side=self.side)

        return _grouped(rows, encode, self.width)


class SentenceTransformersEncoder:
    """A model of sentence-transformers.

    Args:
        model: with `max_seq_length` as it shall be.
        side: what its texts are.
        template: its prompts; None takes those that the model's folder names for the two sides.
        batch_size: texts a batch.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        side: Side,
        template: PromptTemplate | None = None,
        batch_size: int = 32,
    ) -> None:
        self.model = model
        self.side: Side = side
        self.template = template or _stated_template(model)
        self.batch_size = batch_size

    @property
    def width(self) -> int:
        """Dimensions of an embedding."""
        return int(self.model.get_embedding_dimension() or 0)

    def prompt(self, instruction: str) -> str:
        """What the template puts before a text."""
        return self.template.prompt(instruction, self.side)

    def identity(self) -> Fingerprint:
        """Weights, tokenizer, settings of every module, and versions."""
        return {
            "library": "sentence-transformers",
            **module_identity(self.model),
            "tokenizer": tokenizer_identity(self.model.tokenizer),
            "modules": module_settings(self.model),
            "max_tokens": self.model.max_seq_length,
            "versions": packages("sentence-transformers", "torch", "transformers", "tokenizers"),
        }

    def encode(self, rows: Sequence[Row]) -> Float32[np.ndarray, "n D"]:
        """Embeddings of the rows, in order."""

        def encode(texts: list[str], instruction: str) -> np.ndarray:
            vectors: np.ndarray = self.model.encode(
                texts,
                prompt=self.prompt(instruction),  # "" is none at all, None would be the model's default
                batch_size=self.batch_size,
                show_progress_bar=False,
            )
            return vectors

        return _grouped(rows, encode, self.width)


def load_codiemb(
    path: str,
    side: Side,
    *,
    max_tokens: int | None = None,
    device: str = "cpu",
) -> CodiembEncoder:
    """An encoder of a folder or hub id, as run_eval.py loads it: without a prompt where it states none.

    Raises:
        UserError: it is not to be had.
    """
    spec = ModelSpec(name=path, path=path, prompt=PromptSpec(query="", document=""))
    encoder = load_encoder(spec).to(device)
    use_cpu_kernels(encoder.backbone)
    encoder.max_tokens = min(
        max_tokens or encoder.max_tokens, encoder.tokenizer.max_positions or encoder.max_tokens
    )
    return CodiembEncoder(encoder, side)


def load_sentence_transformers(
    path: str,
    side: Side,
    *,
    template: PromptTemplate | None = None,
    max_tokens: int | None = None,
    device: str = "cpu",
) -> SentenceTransformersEncoder:
    """A model of sentence-transformers from a folder or hub id; no code of the model's own is run.

    Raises:
        UserError: it is not to be had.
    """
    try:
        model = SentenceTransformer(path, device=device)
    except (OSError, ValueError) as error:
        raise UserError(f"no sentence-transformers model at {path!r}: {error}") from error
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    return SentenceTransformersEncoder(model, side, template)


def _grouped(
    rows: Sequence[Row], encode: Callable[[list[str], str], np.ndarray], width: int
) -> Float32[np.ndarray, "n D"]:
    """Encode rows of one instruction together, whatever their order."""
    places: dict[str, list[int]] = {}
    for place, (instruction, _) in enumerate(rows):
        places.setdefault(instruction, []).append(place)
    out_nD = np.empty((len(rows), width), dtype=np.float32)
    with torch.inference_mode():
        for instruction, chosen in places.items():
            out_nD[chosen] = encode([rows[place][1] for place in chosen], instruction)
    return out_nD


def with_prompts(stated: PromptTemplate, query: str | None, document: str | None) -> PromptTemplate:
    """A model's prompts, or those that are given instead of one or both of them."""
    if query is not None:
        stated = replace(stated, query=query, instruction="")
    return stated if document is None else replace(stated, document=document)


def _stated_template(model: SentenceTransformer) -> PromptTemplate:
    prompts = {name: text or "" for name, text in model.prompts.items()}
    document = next((prompts[name] for name in _DOCUMENT_PROMPTS if prompts.get(name)), "")
    return PromptTemplate(query=prompts.get("query", ""), document=document)


def module_settings(model: nn.Module) -> Fingerprint:
    """What the modules of a model of sentence-transformers were built with."""
    settings: Fingerprint = {}
    for name, module in model.named_children():
        values: dict[str, object] = getattr(module, "get_config_dict", dict)()
        settings[f"{name} {type(module).__name__}"] = {key: str(value) for key, value in values.items()}
    return settings
