"""The config of an evaluation as it ran: a model's folder knows its settings better than the command line."""

from dataclasses import asdict, replace

from omegaconf import DictConfig, OmegaConf

from codiemb.encoder import Encoder, ModelSpec, PromptSpec
from codiemb.encoder.folder_settings import with_folder_settings


def what_ran(config: DictConfig, spec: ModelSpec, encoder: object) -> DictConfig:
    """A copy of the composed config whose `model` has the settings that the encoder embeds with.

    Keys that the folder left alone stay as they were composed, with what they take from the environment by
    name. An encoder that is not ours has no such settings: its config is what ran.
    """
    if not isinstance(encoder, Encoder):
        return config
    composed, ran = asdict(spec), asdict(effective(spec, encoder))
    copy = config.copy()
    for key in [key for key in ran if ran[key] != composed[key]]:
        OmegaConf.update(copy, f"model.{key}", ran[key])
    return copy


def effective(spec: ModelSpec, encoder: Encoder) -> ModelSpec:
    """The settings of an encoder that `load_encoder` made of `spec`."""
    stated, _ = with_folder_settings(spec)
    tokenizer = encoder.tokenizer
    return replace(
        stated,
        pooling=encoder.pooling,
        attention=encoder.attention,
        prompt=PromptSpec(**asdict(tokenizer.template)),
        pool_prompt=tokenizer.pool_prompt,
        prompt_apart=tokenizer.prompt_apart,
        append_eos=tokenizer.append_eos,
        max_tokens=encoder.max_tokens,
        dtype=str(next(encoder.backbone.parameters()).dtype).removeprefix("torch."),
    )
