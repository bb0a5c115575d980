"""Models of mteb's registry, by mteb's own loader and with mteb's own prompts, seen where they are used."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Unpack, cast

import mteb
import numpy as np
import torch
from datasets import Dataset
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.model_meta import ModelMeta
from mteb.models.models_protocols import EncoderProtocol
from mteb.types import BatchedInput, EncodeKwargs, PromptType
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader

from codiemb.encoder.fingerprint import module_identity
from codiemb.encoder.remote_code import lent_names, no_code
from codiemb.errors import UserError
from codiemb.evaluation.dataset_cache import offline
from codiemb.evaluation.isolation import quiet_mteb
from codiemb.evaluation.models.names import check_code, check_kind, check_name, check_to_be_had, unknown
from codiemb.evaluation.mteb_encoder import MtebEncoder, checked
from codiemb.hub import hub_is_reachable
from codiemb.text_encoder import Side, TextEncoder

BATCH_SIZE = 32  # mteb's own, in texts: padded batches of thousands of long texts fill any device
UNSEEN = "(as its loader has it)"  # a model that is no SentenceTransformer inside shows no prompt
Rows = np.ndarray | torch.Tensor

log = logging.getLogger(__name__)


def find_model(name: str) -> ModelMeta:
    """What the registry has under a name: a model of texts, with one vector for each, that can be loaded.

    Raises:
        UserError: no such name, with the nearest ones; or a model of another kind.
    """
    try:
        meta = mteb.get_model_meta(name)
    except KeyError:
        raise unknown(name) from None
    check_kind(
        name, has_loader=meta.loader is not None, modalities=meta.modalities, model_types=meta.model_type
    )
    return meta


def check_registry(name: str, path: str | None, *, trust_remote_code: bool) -> None:
    """Refuse what could not be loaded, before anything is read: at most five seconds, for the hub.

    Raises:
        UserError: see `find_model`; or code that may not run, a folder that is not there, no hub and no copy.
    """
    check_name(name, path, trust_remote_code=trust_remote_code)
    meta = find_model(name)
    needed = bool(meta.loader_kwargs.get("trust_remote_code"))
    check_code(name, needed=needed, allowed=trust_remote_code)
    check_to_be_had(name, path, from_hub=_is_from_hub(meta), revision=meta.revision)


def load_registry(name: str, path: str | None, device: str, *, trust_remote_code: bool) -> "RegistryEncoder":
    """The model as mteb builds it; with `path`, from that folder instead of the hub.

    Raises:
        UserError: mteb's loader fails, or the model wants to run code that nobody allowed.
    """
    meta = find_model(name)
    source = meta if path is None else meta.model_copy(update={"name": path, "revision": None})
    with ExitStack() as stack:
        stack.enter_context(quiet_mteb())
        stack.enter_context(lent_names() if trust_remote_code else no_code(name))
        if path is not None or (_is_from_hub(meta) and not hub_is_reachable()):
            stack.enter_context(offline())
        try:
            model = source.load_model(device=device)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # as many loaders, so many ways to fail
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{name}: mteb's loader fails: {type(error).__name__}: {reason}") from error
    return RegistryEncoder(cast(EncoderProtocol, model), meta)


class RegistryEncoder(MtebEncoder):
    """A model of mteb's, which chooses prompts itself, and a record of them.

    `prompts_used[task][side]` and `prefixes[task][side]` are both the exact string before that side's texts.

    Args:
        model: as mteb's loader gives it.
        meta: its entry in the registry.
    """

    def __init__(self, model: EncoderProtocol, meta: ModelMeta) -> None:
        super().__init__(cast(TextEncoder, self), {})
        self.model = model
        self.mteb_model_meta = meta
        self._asked: dict[tuple[str, Side], str] = {}

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Unpack[EncodeKwargs],  # a batch size for our own encoder
    ) -> np.ndarray:
        """Embed all texts of mteb's data loader as the model does it for mteb."""
        side: Side = "text" if prompt_type is None else prompt_type.value
        num_texts = len(cast(Any, inputs.dataset))
        with _watched(self.model) as seen:
            rows = self.model.encode(
                inputs,
                task_metadata=task_metadata,
                hf_split=hf_split,
                hf_subset=hf_subset,
                prompt_type=prompt_type,
                batch_size=BATCH_SIZE,
                show_progress_bar=False,
            )
        self._record(task_metadata.name, side, " | ".join(seen) if seen else UNSEEN, num_texts)
        self.advance(num_texts)
        return checked(_as_numpy(rows), num_texts, task_metadata.name)

    def instruction(self, task: TaskMetadata, side: Side) -> str:
        """The exact string before the texts of a side, found by embedding one."""
        if (task.name, side) not in self._asked:
            one = DataLoader(cast(Any, Dataset.from_dict({"text": ["a"]})), batch_size=1)
            prompt_type = None if side == "text" else PromptType(side)
            with _watched(self.model) as seen:
                self.model.encode(
                    one, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=prompt_type
                )
            self._asked[task.name, side] = " | ".join(seen) if seen else UNSEEN
        return self._asked[task.name, side]

    def prefix(self, instruction: str = "", side: Side | None = None) -> str:
        """What `instruction` gives is the prefix."""
        return instruction

    def settings(self) -> dict[str, Any]:
        """The entry of the registry, and what a SentenceTransformer inside says of itself."""
        inner = _inner(self.model)
        stated: dict[str, Any] = {} if inner is None else dict(module_identity(inner))
        return stated | {
            "loader": f"mteb {type(self.model).__name__}",
            "name": self.mteb_model_meta.name,
            "revision": self.mteb_model_meta.revision,
            "similarity": str(getattr(self.mteb_model_meta.similarity_fn_name, "value", "its own")),
            "max_tokens": None if inner is None else inner.max_seq_length,
        }

    def similarity(self, embeddings1: Rows, embeddings2: Rows) -> Rows:
        """The model's own."""
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Rows, embeddings2: Rows) -> Rows:
        """The model's own."""
        return self.model.similarity_pairwise(embeddings1, embeddings2)


@contextmanager
def _watched(model: EncoderProtocol) -> Iterator[list[str]]:
    """The prompts that reach a SentenceTransformer's tokenizer until the block ends, each once, in order."""
    seen: list[str] = []
    inner = _inner(model)
    if inner is None:
        yield seen
        return
    real: Callable[..., Any] = inner.preprocess

    def preprocess(inputs: Any, prompt: str | None = None, **options: Any) -> Any:  # noqa: ANN401  theirs
        if (prompt or "") not in seen:
            seen.append(prompt or "")
        return real(inputs, prompt=prompt, **options)

    vars(inner)["preprocess"] = preprocess
    try:
        yield seen
    finally:
        del vars(inner)["preprocess"]


def _inner(model: EncoderProtocol) -> SentenceTransformer | None:
    inner = getattr(model, "model", None)
    return inner if isinstance(inner, SentenceTransformer) else None


def _as_numpy(rows: Any) -> np.ndarray:  # noqa: ANN401  an array or a tensor
    return rows.detach().float().cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows)


def _is_from_hub(meta: ModelMeta) -> bool:
    return "API" not in meta.framework
