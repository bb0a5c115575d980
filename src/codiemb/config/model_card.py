"""What a training run knows of its export's origin, for the export's model card: the settings in effect."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from codiemb.config.assemble import Assembled
from codiemb.config.preflight import Parts
from codiemb.config.schema import TrainConfig
from codiemb.data.source import Source
from codiemb.data.source_file import SourceFile
from codiemb.data.task_spec import TaskSpec
from codiemb.export import Card, DataFile, Score
from codiemb.export.licence import licence_of
from codiemb.json_files import read_json
from codiemb.losses import Matryoshka

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation

MANIFEST = "manifest.json"


def model_card(cfg: TrainConfig, parts: Parts, run: Assembled) -> Card:
    """The card of a trained encoder, before its evaluation."""
    licence = licence_of(cfg.model.path)
    base = "random weights" if cfg.model.path is None else f"`{shown(Path(cfg.model.path))}`"
    return Card(
        name=cfg.export.push_to_hub or f"{cfg.model.name}, {cfg.stage}",
        repo=cfg.export.push_to_hub,
        origin=f"Trained from {base} by CoDiEmb, stage {cfg.stage}.",
        base_model=licence.base_model,
        licence=licence.name,
        licence_source=licence.source,
        matryoshka_dims=_matryoshka_dims(parts),
        data=tuple(_data_files(parts.files, run.data.sources)),
        losses={
            f"{task}.{name}": f"{node.get('weight', 1.0)} x {as_call(node)}"
            for task, terms in cfg.losses.items()
            for name, node in terms.items()
            if task in cfg.tasks and node
        },
        settings=_settings(cfg, run.trainer),
    )


def with_results(card: Card, after: "Evaluation", before: "Evaluation | None") -> Card:
    """The card with the table that the run prints, and the scores for the hub."""
    from codiemb.evaluation import results_sheet  # imports mteb, and an evaluation is there only if that is

    scores = [Score(r.task, r.type, r.metric, r.score, r.revision) for r in after.results]
    sheet = results_sheet(after, before)
    return replace(card, results=sheet.markdown().partition("\n\n")[2], scores=tuple(scores))


def _settings(cfg: TrainConfig, trainer: pl.Trainer) -> dict[str, str]:
    """From the trainer where it knows: `auto` and what a resume has changed are settled there."""
    device, strategy = trainer.strategy.root_device.type, type(trainer.strategy).__name__
    clip, accumulated = trainer.gradient_clip_val, trainer.accumulate_grad_batches
    return {
        "steps": f"{trainer.global_step:,}",
        **{f"batches of {task}": _batches(spec) for task, spec in cfg.tasks.items()},
        "sampler": as_call(cfg.sampler),
        "optimizer": as_call(cfg.optimizer),
        "schedule": ", ".join(f"{key} {value}" for key, value in cfg.schedule.items()),
        "precision": str(trainer.precision),
        "processes": f"{trainer.world_size} ({device}, {strategy})",
        "gradient": f"clipped at {clip}, micro-batches a step {accumulated}",
        "LoRA": f"rank {cfg.model.lora.r}" if cfg.model.lora.r else "no",
        "seed": str(cfg.seed),
        "versions": ", ".join(
            f"{name} {metadata.version(name)}" for name in ("codiemb", "torch", "transformers")
        ),
    }


def _batches(spec: TaskSpec) -> str:
    limits = {
        "global batch size": spec.global_batch_size,
        "query tokens": spec.max_query_tokens,
        "document tokens": spec.max_document_tokens,
        "positives": spec.num_positives,
        "negatives": spec.num_negatives,
    }
    return ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None)


def as_call(node: Mapping[str, Any]) -> str:
    """`codiemb.losses.InfoNCE` with its arguments, as a call; a loss in a loss is one in its turn."""
    arguments = [f"{key}={_shown(value)}" for key, value in node.items() if key not in ("_target_", "weight")]
    name = str(node["_target_"]).rpartition(".")[2]
    return f"{name}({', '.join(arguments)})"


def _shown(value: Any) -> str:  # noqa: ANN401  whatever a config holds
    return as_call(value) if isinstance(value, Mapping) and "_target_" in value else str(value)


def _matryoshka_dims(parts: Parts) -> tuple[int, ...]:
    """The widths that every Matryoshka term trains, widest first; none where there is no such term."""
    terms = [
        part for losses in parts.losses.values() for part in losses.modules() if isinstance(part, Matryoshka)
    ]
    shared = set.intersection(*(set(term.dims) for term in terms)) if terms else set()
    return tuple(sorted(shared, reverse=True))


def _data_files(files: list[SourceFile], sources: list[Source]) -> Iterator[DataFile]:
    """One row a source, its shards counted."""
    by_name: dict[str, list[Path]] = {}
    for file in files:
        by_name.setdefault(file.name, []).append(file.path)
    for name, paths in by_name.items():
        records = sum(len(source) for source in sources if source.name in (name, f"{name}.{source.task}"))
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield DataFile(name, shown(paths[0]) + more, f"{records:,}", _manifest(paths[0]))


def _manifest(file: Path) -> str:
    """The manifest of the step that wrote a file, beside it or a folder up, if it names the file."""
    for folder in list(file.absolute().parents)[:2]:
        manifest = folder / MANIFEST
        if not manifest.is_file():
            continue
        text = manifest.read_bytes()
        if file.absolute().relative_to(folder).as_posix().encode() in text:
            about = read_json(manifest, {})
            step = f", step {about['step']} {about.get('version', '')}".rstrip() if "step" in about else ""
            return f"{shown(manifest)}, sha256 {hashlib.sha256(text).hexdigest()[:16]}{step}"
    return ""


def shown(path: Path) -> str:
    """A path below the working folder as it is, any other by its name: a card is read elsewhere."""
    shown = os.path.relpath(path) if path.is_absolute() else str(path)
    return path.name if shown.startswith("..") else shown
