"""What run_eval.py evaluates, by `model.loader`: our encoder, a model of mteb's registry, the hosted API.

mteb is imported where its registry is asked for only: `build_evaluator` has paid for it by then.
"""

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import torch

from codiemb.config.accelerator import accelerator
from codiemb.config.eval_checks import check_loader
from codiemb.config.schema import EvalConfig
from codiemb.config.shared_evaluation import meet
from codiemb.encoder import Encoder, ModelSpec, PromptTemplate, check_path, load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels
from codiemb.text_encoder import TextEncoder

if TYPE_CHECKING:
    from codiemb.evaluation.models.registry import RegistryEncoder
    from codiemb.evaluation.models.youtu_api import YoutuApi

log = logging.getLogger(__name__)


def build_encoder(cfg: EvalConfig) -> TextEncoder:
    """The encoder on its device, ready and checked.

    Raises:
        UserError: it is not to be had, or is not what the settings say.
    """
    spec = cfg.model
    check_loader(cfg)
    if spec.loader == "mteb":
        return cast(TextEncoder, _from_registry(spec))  # Evaluator knows it from one
    if spec.loader == "youtu_api":
        return _hosted(spec)
    return _ours(cfg)


def label(spec: ModelSpec) -> str:
    """What tables call the model."""
    return spec.name if spec.loader == "mteb" else spec.path or spec.name


def _ours(cfg: EvalConfig) -> Encoder:
    """Random weights, without a model.path, follow from the seed."""
    check_path(cfg.model)
    device = meet(cfg.devices)
    torch.manual_seed(cfg.seed)  # mteb seeds what it draws itself
    encoder = load_encoder(cfg.model).to(device)
    use_cpu_kernels(encoder.backbone)
    log.info("%s", encoder.describe())
    if cfg.model.path is None:
        log.warning("without model.path these are the scores of random weights")
    return encoder


def _from_registry(spec: ModelSpec) -> "RegistryEncoder":
    from codiemb.evaluation.models.registry import check_registry, load_registry

    check_registry(spec.name, spec.path, trust_remote_code=spec.trust_remote_code)
    encoder = load_registry(spec.name, spec.path, accelerator(), trust_remote_code=spec.trust_remote_code)
    log.info("%s by mteb's own loader, with mteb's own prompts: task.instructions has no say", spec.name)
    return encoder


def _hosted(spec: ModelSpec) -> "YoutuApi":
    from codiemb.evaluation.models.lkeap import Key, Lkeap, check_api
    from codiemb.evaluation.models.youtu_api import YoutuApi

    check_api(spec.api)
    template = PromptTemplate(**asdict(spec.prompt))
    encoder = YoutuApi(Lkeap(spec.api, Key.from_environment()), template.prompt, asdict(spec.prompt))
    log.info("%s at %s: embeddings of width %d", spec.api.model, spec.api.endpoint, encoder.check())
    return encoder
