"""The config of a run as it ran: a model's folder knows its settings better than the command line."""

from dataclasses import asdict, replace

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf, open_dict

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


def what_trains(config: DictConfig, spec: ModelSpec, encoder: Encoder, trainer: pl.Trainer) -> DictConfig:
    """`what_ran` for training: also what the trainer has made of `auto`, and the weights' dtype.

    It is for readers. What is compared when a run goes on is the composed config.
    """
    copy = what_ran(config, spec, encoder).copy()
    device = trainer.strategy.root_device.type
    settled = {
        "accelerator": {"cuda": "gpu"}.get(device, device),
        "devices": trainer.num_devices,
        "num_nodes": trainer.num_nodes,
        "precision": trainer.precision,
    }
    with open_dict(copy):
        for key, value in settled.items():
            OmegaConf.update(copy, f"trainer.{key}", value)
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
