"""The language-model head: a checkpoint's own output matrix or a new one; trained with, never exported."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from codiemb.batch import LanguageBatch, TokenStates
from codiemb.encoder.adapter import split_adapter
from codiemb.encoder.backbone import source_of
from codiemb.encoder.encoder import Encoder
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.encoder.soundness import refuse_nonfinite
from codiemb.encoder.spec import ModelSpec
from codiemb.take_rows import take_rows


class LanguageHead(nn.Module):
    """Maps token states to logits over the vocabulary.

    Args:
        weight_VD: the matrix; None ties it to the token embedding, which then learns from both its uses.
        bias_V: added to the logits.
    """

    def __init__(
        self, weight_VD: Float[Tensor, "V D"] | None = None, bias_V: Float[Tensor, " V"] | None = None
    ) -> None:
        super().__init__()
        self.weight = None if weight_VD is None else nn.Parameter(weight_VD)
        self.bias = None if bias_V is None else nn.Parameter(bias_V)

    @property
    def is_untrained(self) -> bool:
        """A new head, before its first step: all tokens are equally likely, whatever the states."""
        return self.weight is not None and not self.weight.any()

    @torch.no_grad()
    def set_token_frequencies(self, counts_V: Float[Tensor, " V"]) -> None:
        """Make every token as likely as it is frequent (counts above 0).

        Else the states themselves must first learn to say which tokens are frequent: after 150 steps the loss
        is 7.2 instead of 6.7, and the embeddings retrieve worse (experiments/LOG.md).
        """
        assert self.bias is not None, "only a new head starts from counts"
        self.bias.copy_((counts_V / counts_V.sum()).log())

    def forward(self, encoder: Encoder, batch: LanguageBatch) -> TokenStates:
        """The states that predict, their targets, and the head's parameters: all that a loss needs."""
        predict = _embedding_states if batch.from_embedding else _token_states
        return TokenStates(
            predict(encoder, batch),
            batch.target_P,
            _embedding(encoder) if self.weight is None else self.weight,
            self.bias,
            batch.mean_targets,
        )


def _token_states(encoder: Encoder, batch: LanguageBatch) -> Float[Tensor, "P D"]:
    return encoder.token_states(batch.texts, batch.predictor_P)


def _embedding_states(encoder: Encoder, batch: LanguageBatch) -> Float[Tensor, "P D"]:
    """The unit embedding of each predictor's sequence, as large as a token state after RMS norm: sqrt(D)."""
    embedding_SD = encoder(batch.texts).last_SD
    ends_S = torch.tensor(batch.texts.sequence_lengths, device=embedding_SD.device).cumsum(0)
    sequence_P = torch.searchsorted(ends_S, batch.predictor_P, right=True)
    return take_rows(embedding_SD, sequence_P) * embedding_SD.shape[1] ** 0.5


def load_head(spec: ModelSpec, encoder: Encoder) -> LanguageHead:
    """The head of the checkpoint at `spec.path` if that is a causal language model, else a new one at zero.

    With LoRA a loaded head stays frozen, as all weights of the checkpoint do.
    """
    spec, _ = split_adapter(with_folder_settings(spec)[0])
    loaded = None if spec.weights == "random" or spec.path is None else _pretrained_head(spec, encoder)
    if loaded is not None:
        return loaded.requires_grad_(spec.lora.r == 0)
    # fp32 whatever the backbone is in: under LoRA that may be bf16, in which a bias could hardly move
    zeros_VD = torch.zeros_like(_embedding(encoder), dtype=torch.float32)
    return LanguageHead(zeros_VD, torch.zeros_like(zeros_VD[:, 0]))


def _pretrained_head(spec: ModelSpec, encoder: Encoder) -> LanguageHead | None:
    """Tied or not, as the checkpoint's config says; None where the checkpoint has no head of its own.

    An untied one costs a second load of the whole model, dropped at once: where a checkpoint keeps its head
    differs from architecture to architecture, and transformers knows.
    """
    path, config = cast(str, spec.path), encoder.backbone.config
    if not any(name.endswith("ForCausalLM") for name in config.architectures or ()):
        return None
    if config.tie_word_embeddings:
        return LanguageHead()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        path, dtype=encoder.backbone.dtype, output_loading_info=True, **source_of(path, spec)
    )
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    output = cast(nn.Linear, model.get_output_embeddings())
    name = next(name for name, module in model.named_modules() if module is output)
    if f"{name}.weight" in report["missing_keys"]:
        return None
    refuse_nonfinite(output, f"{path} (language-model head)", spec.dtype)
    bias_V = None if output.bias is None else output.bias.detach()
    return LanguageHead(output.weight.detach(), bias_V).to(_embedding(encoder).device)


def _embedding(encoder: Encoder) -> Tensor:
    return cast(nn.Embedding, encoder.backbone.get_input_embeddings()).weight
