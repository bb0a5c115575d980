"""Makes any TextEncoder an mteb encoder, and keeps a record of the prompts that were really used."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import BatchedInput, EncodeKwargs, PromptType
from torch.utils.data import DataLoader

from codiemb.evaluation.instructions import Instructions, instruction_for
from codiemb.text_encoder import Side, TextEncoder, prefix_of

WINDOW = 8_192  # texts a call: the encoder sorts within windows of as many, so no vector depends on the cut


class MtebEncoder(AbsEncoder):
    """A TextEncoder as mteb sees it.

    `prompts_used[task][side]` is the instruction given to that side's texts, `prefixes[task][side]` the exact
    string that stood before them (None where the encoder does not say), and `num_texts[task]` how many texts
    were encoded; sides are "query" and "document", or "text" where a task has only one kind. `advance` hears
    of every part of the texts that is done. Where `max_characters` has the encoder's limit, `num_cut[task]`
    texts were longer.
    """

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        encoder: TextEncoder,
        instructions: Instructions,
        *,
        name: str = "codiemb/encoder",
        revision: str = "unknown",
        advance: Callable[[int], object] = lambda num_texts: None,
    ) -> None:
        self.encoder = encoder
        self.instructions = instructions
        self.advance = advance
        self.prompts_used: dict[str, dict[str, str]] = {}
        self.prefixes: dict[str, dict[str, str | None]] = {}
        self.num_texts: dict[str, int] = {}
        self.max_characters: int | None = None
        self.num_cut: dict[str, int] = {}
        self.mteb_model_meta = _model_meta(name, revision, use_instructions=bool(instructions))

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Unpack[EncodeKwargs],  # mteb's batch size and progress bar; the encoder has its own
    ) -> np.ndarray:
        """Embed all texts of mteb's data loader, `WINDOW` a call, so that the encoder can sort and pack."""
        texts = [text for batch in inputs for text in batch["text"]]
        side: Side = "text" if prompt_type is None else prompt_type.value
        instruction = self.instruction(task_metadata, side)
        self._record(task_metadata.name, side, instruction, len(texts))
        self._count_cut(task_metadata.name, texts)
        parts = []
        for start in range(0, max(len(texts), 1), WINDOW):
            part = texts[start : start + WINDOW]
            vectors_sD = self.encoder.encode(part, instruction=instruction, side=side)
            parts.append(checked(vectors_sD, len(part), task_metadata.name))
            self.advance(len(part))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def instruction(self, task: TaskMetadata, side: Side) -> str:
        """What the encoder is told of a side of a task; "" for nothing."""
        return instruction_for(self.instructions, task, None if side == "text" else PromptType(side))

    def _count_cut(self, task: str, texts: Sequence[str]) -> None:
        if (limit := self.max_characters) is not None:
            self.num_cut[task] = self.num_cut.get(task, 0) + sum(len(text) > limit for text in texts)

    def _record(self, task: str, side: Side, instruction: str, num_texts: int) -> None:
        self.prompts_used.setdefault(task, {})[side] = instruction
        self.prefixes.setdefault(task, {})[side] = prefix_of(self.encoder, instruction, side)
        self.num_texts[task] = self.num_texts.get(task, 0) + num_texts


def as_mteb(encoder: TextEncoder, instructions: Instructions, **options: Any) -> MtebEncoder:  # noqa: ANN401
    """A TextEncoder wrapped; what mteb itself has built, and wrapped already, as it is."""
    return encoder if isinstance(encoder, MtebEncoder) else MtebEncoder(encoder, instructions, **options)


def checked(embedding_SD: np.ndarray, num_texts: int, task: str) -> np.ndarray:
    """A wrong shape or a NaN would turn into a low score instead of an error."""
    if embedding_SD.ndim != 2 or embedding_SD.shape[0] != num_texts:
        raise ValueError(
            f"{task}: the encoder returned shape {embedding_SD.shape} for {num_texts} texts; "
            f"expected ({num_texts}, D)"
        )
    if num_bad := int((~np.isfinite(embedding_SD)).any(axis=1).sum()):
        raise ValueError(
            f"{task}: {num_bad} of {num_texts} embeddings contain NaN or infinity; "
            "check the weights (did training diverge?) and the precision"
        )
    return np.asarray(embedding_SD, dtype=np.float32)


def _model_meta(name: str, revision: str, *, use_instructions: bool) -> ModelMeta:
    """What mteb wants to know; names follow the hub's "owner/name", so a bare name gets an owner."""
    return ModelMeta(
        loader=None,
        name=name if "/" in name else f"local/{name}",
        revision=revision,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=None,
        embed_dim=None,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=use_instructions,
        training_datasets=None,
    )
