"""What all worlds train, and the same in a plain loop of one process: the oracle."""

import copy
import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from codiemb.config.assemble import assemble
from codiemb.config.preflight import preflight
from codiemb.config.schema import EncoderConfig, TrainConfig, register
from codiemb.config.typed import typed_train
from codiemb.export import export_sentence_transformer
from codiemb.training.sharding import full_tensor
from tests.support.paths import GOLDEN, ROOT

CHUNKED = "encoder.max_tokens_per_chunk=200"
HALF = "tasks.ir.global_batch_size=8"  # two or three chunks a rank and micro-batch: more only take longer
MATRYOSHKA = (
    "losses.ir.info_nce._target_=codiemb.losses.Matryoshka",
    "~losses.ir.info_nce.temperature",
    "+losses.ir.info_nce.dims=[64,16]",
    "+losses.ir.info_nce.loss={_target_: codiemb.losses.InfoNCE, temperature: 0.05}",
)
ACCUMULATED = "trainer.accumulate_grad_batches=2"
PROBED = "callbacks.probe.num_records=8"  # through every strategy once: it takes a quarter of a job's time
# One step of ir, with hard negatives and up to two positives, and one of sts, with all four terms (lm and
# mixed: two of that task).
CASES = {
    "plain": (),
    "chunked": (CHUNKED, HALF, ACCUMULATED, *MATRYOSHKA),
    # without clipping, which would hide that a gradient is a multiple of what it should be
    "lora": (
        "model.lora.r=4",
        "model.lora.target_modules='.*(o_proj|down_proj)'",
        CHUNKED,
        HALF,
        ACCUMULATED,
        "trainer.gradient_clip_val=null",
        "optimizer.lr=0.003",
    ),
    "mixed": (
        "losses=mixed",
        "+tasks={mixed: {global_batch_size: 8, max_query_tokens: 32, max_document_tokens: 32}}",
        "losses.mixed.info_nce.loss.temperature=0.05",
        CHUNKED,
    ),
    "adamw": ("optimizer=adamw", "optimizer.lr=1e-3"),
    "resumed": ("optimizer=adamw", "optimizer.lr=1e-3", "callbacks.checkpoint.every_n_steps=1"),
    "resumed_sgd": ("callbacks.checkpoint.every_n_steps=1",),  # an optimizer without state
    "lm": ("stage=pretrain", CHUNKED, ACCUMULATED),
    "lm_and_ir": (  # half of the steps do not use the head
        "stage=pretrain",
        "+tasks={ir: {global_batch_size: 16, max_query_tokens: 32, max_document_tokens: 32}}",
        "+losses.ir.info_nce={_target_: codiemb.losses.InfoNCE, temperature: 0.05}",
    ),
}
EMBEDDING_TASKS = (
    "tasks.ir.global_batch_size=16",
    "tasks.sts.global_batch_size=8",
    "losses.ir.info_nce.temperature=0.05",
)
register()


class Expected(NamedTuple):
    """What one process gets."""

    losses: list[float]  # by micro-batch
    weights: list[dict[str, Tensor]]  # before the first and after every optimizer step
    norms: list[float]  # of the gradient before clipping, by optimizer step
    num_trained: int

    @staticmethod
    def load(folder: Path, case: str) -> "Expected":
        return Expected(*torch.load(folder / f"{case}.pt"))


def config(folder: Path, *overrides: str) -> TrainConfig:
    """The default recipe on the golden files, two steps of SGD."""
    choices = [o for o in overrides if o.startswith(("stage=", "strategy=", "optimizer=", "losses="))]
    language = "stage=pretrain" in choices
    names = ["ir", "lm" if language else "sts"]
    if language and "+losses.ir" not in " ".join(overrides):
        names.remove("ir")
    if "losses=mixed" in choices:
        names = ["mixed"]
    files = ",".join(str((GOLDEN if name == "sts" else folder.parent) / f"{name}.jsonl") for name in names)
    values = [
        f"run_dir={folder}",
        f"data.files=[{files}]",
        *(("tasks.lm.global_batch_size=16",) if language else EMBEDDING_TASKS),
        f"data.cache={folder.parent}/cache",
        "data.num_workers=0",
        f"model.tokenizer={GOLDEN}/tokenizer",
        "model.init=standard",
        "model.architecture.hidden_size=64",
        "model.architecture.intermediate_size=1600",  # more weights than embeddings and logs that are reduced
        "model.max_tokens=64",
        "optimizer.lr=1.0",
        "schedule.warmup_ratio=0",
        "max_steps=2",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
        "+trainer.enable_progress_bar=false",
        "callbacks.progress=null",
    ]
    if PROBED not in overrides:
        values.append("callbacks.probe=null")
    values += [o for o in overrides if o not in choices]
    composed = copy.deepcopy(_composed(tuple(choices)))
    parsed = OverridesParser.create().parse_overrides(values)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, composed)
    cfg = typed_train(composed)
    preflight(cfg)
    return cfg


@functools.cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """Composing takes 0.2 s, and there are forty configurations with few different choices of groups."""
    groups = [
        "data=files",
        "optimizer=sgd",
        "schedule=constant",
        "sampler=alternate",
        "logger=local",
        *choices,
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", groups)


def write_ragged(folder: Path) -> None:
    """The golden ir records with 1 to 3 positives and 0 to 3 hard negatives each; raw text; a mixed file."""
    lines = (GOLDEN / "ir.jsonl").read_text("utf-8").splitlines()
    graded = (GOLDEN / "sts.jsonl").read_text("utf-8").splitlines()
    with (folder / "mixed.jsonl").open("w", encoding="utf-8") as file:
        for pair in zip(lines, graded, strict=False):
            ungraded, record = (json.loads(line) | {"task_type": "mixed"} for line in pair)
            del ungraded["positive_scores"], ungraded["negative_scores"]
            for each in (ungraded, record):
                file.write(json.dumps(each, ensure_ascii=False) + "\n")
    with (folder / "ir.jsonl").open("w", encoding="utf-8") as file:
        for i, line in enumerate(lines):
            record = json.loads(line)
            for side, count in (("positive", 1 + i % 3), ("negative", i % 4)):
                for key in (f"{side}s", f"{side}_scores"):
                    record[key] = record[key][:count]
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    with (folder / "lm.jsonl").open("w", encoding="utf-8") as file:
        for line in lines:
            record = {"task_type": "lm", "text": json.loads(line)["positives"][0][-1]}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def one_process(cfg: TrainConfig) -> Expected:
    """A plain loop: no Lightning, no chunks; accumulation is the mean of the micro-batches' losses."""
    torch.manual_seed(cfg.seed)
    parts = preflight(cfg)
    _, module, data, encoder, _ = assemble(replace(cfg, encoder=EncoderConfig()), parts)
    module.train()
    if module.head is not None and module.head.is_untrained:
        module.head.set_token_frequencies(data.target_counts(len(module.head.bias)))
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = parts.optimizer(trained)
    accumulation = cfg.trainer["accumulate_grad_batches"]
    batches = data.batches(accumulation=accumulation)
    expected = Expected([], [full_weights(module)], [], sum(p.numel() for p in trained))
    for i in range(len(batches)):
        value = module.losses[batches[i].task](module.encoded(batches[i])).value
        (value / accumulation).backward()
        expected.losses.append(value.item())
        if (i + 1) % accumulation == 0:
            expected.norms.append(
                float(torch.cat([p.grad.flatten() for p in trained if p.grad is not None]).double().norm())
            )
            clip_grad_norm_(trained, cfg.trainer["gradient_clip_val"] or float("inf"))
            optimizer.step()
            optimizer.zero_grad()
            expected.weights.append(full_weights(module))
    export_sentence_transformer(encoder, Path(cfg.run_dir) / "export", query_instruction="")
    return expected


def full_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: full_tensor(parameter) for name, parameter in module.named_parameters()}


def update_error(
    before: dict[str, Tensor], after: dict[str, Tensor], expected: list[dict[str, Tensor]]
) -> float:
    """|update - expected update| / |expected update|, over all parameters, in float64."""

    def flat(old: dict[str, Tensor], new: dict[str, Tensor]) -> Tensor:
        return torch.cat([(new[name].double() - old[name].double()).flatten() for name in sorted(new)])

    target = flat(expected[0], expected[1])
    return float((flat(before, after) - target).norm() / target.norm())
