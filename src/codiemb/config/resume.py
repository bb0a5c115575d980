"""`resume=true`: which run, from which checkpoint, and whether the configuration is still the run's."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from codiemb.config.nodes import target_of
from codiemb.config.ranks import in_sweep, is_main_process
from codiemb.config.result import has_result
from codiemb.config.run_lock import new_folder
from codiemb.config.secrets import recorded, with_environment
from codiemb.errors import UserError
from codiemb.json_files import read_json
from codiemb.training.checkpoint_files import Saved, committed, last_good

log = logging.getLogger("codiemb")

# What a continued run may change: where and how it runs and what it reports, not what it computes.
_MAY_CHANGE = (
    "resume",
    "run_dir",
    "strategy",
    "logger",
    "callbacks",
    "evaluate",
    "export",
    "encoder.max_tokens_per_chunk",
    "data.cache",
    "data.num_converters",
    "data.num_workers",
    "data.prefetch",
    "trainer",
)
ENVIRONMENT_HINT = "put a copy back, or remove it: only the record of earlier starts is lost"
_MUST_STAY = ("trainer.precision", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm")


def new_or_unfinished_run(stage: str, resume: bool) -> str:
    """Folder of a run that names none: a new one or, to resume, the stage's newest unfinished one.

    Unfinished means: with a checkpoint or results, and without a result. Ranks that srun has started each
    ask: their folder has the name of the job step.

    Raises:
        UserError: ranks that torchrun has started, which have no such name.
    """
    stage_dir = Path("outputs") / stage
    if resume:
        folders = {path.parents[1] for path in stage_dir.glob("*/checkpoints/step-*.json")}
        folders |= {path.parent for path in stage_dir.glob("*/results.json")}  # of evaluations
        unfinished = [folder for folder in folders if not has_result(folder)]
        if unfinished:
            return str(max(unfinished, key=lambda folder: (folder / "config.yaml").stat().st_mtime))
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "torchrun starts ranks that cannot agree on a name for the run's folder: add "
            f"hydra.run.dir={stage_dir}/NAME, or let one process start them (trainer.devices=N, no torchrun)"
        )
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return str(stage_dir / f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}")
    if in_sweep():  # Lightning asks, to tell other ranks, which do not use it
        return str(stage_dir / "of-a-sweep")
    return new_folder(stage_dir)


def starting_point(cfg: DictConfig, run_dir: Path) -> Saved | None:
    """The checkpoint to go on from; None to start from the beginning.

    Raises:
        UserError: the folder holds a run and `resume` is off, the run was started with another config, or no
            checkpoint is whole.
    """
    folder = run_dir / "checkpoints"
    if not cfg.resume:
        if saved := committed(folder):
            raise UserError(
                f"{run_dir} holds a run already ({saved[-1].path.name}): resume=true continues it, another "
                "hydra.run.dir starts a new one"
            )
        return None
    _check_same_run(cfg, run_dir)
    start = last_good(folder)
    if start is None and committed(folder):
        raise UserError(
            f"no checkpoint in {folder} is whole (see the warnings above): put a copy back, or remove the "
            "folder to start from the beginning"
        )
    if start is None:
        log.info("resume=true: no checkpoint in %s yet, starting from the beginning", run_dir)
    else:
        _check_strategy(cfg, run_dir, start)
        log.info("resuming %s after step %d", run_dir, start.step)
    return start


def has_finished(cfg: DictConfig, run_dir: Path) -> bool:
    """Whether there is nothing left to resume."""
    return bool(cfg.resume) and has_result(run_dir)


def command(run_dir: Path) -> str:
    """What to type to continue this run: its overrides, its folder, and resume=true."""
    key, folder = ("hydra.sweep.dir", run_dir.parent) if in_sweep() else ("hydra.run.dir", run_dir)
    of_a_rank = ("hydra.job.name", "hydra.output_subdir") if not is_main_process() else ()
    chosen = ("hydra.run.dir", "hydra.sweep.dir", "resume", *of_a_rank)
    kept = [argument for argument in sys.argv[1:] if argument.lstrip("+").partition("=")[0] not in chosen]
    return shlex.join(["python", sys.argv[0], *kept, override(key, str(folder)), "resume=true"])


def override(key: str, value: str) -> str:
    """`key=value` as Hydra's command line reads it: quoted where its grammar would read something else."""
    plain = f"{key}={value}"
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # else OmegaConf would look for a key of that name
    try:
        parsed = OverridesParser.create().parse_override(plain)
        if parsed.value() == value == escaped and not parsed.is_sweep_override():
            return plain
    except HydraException:
        pass
    return f"{key}={QuotedString(escaped, Quote.single).with_quotes()}"


def _check_same_run(cfg: DictConfig, run_dir: Path) -> None:
    asked = read_json(run_dir / "environment.json", {}, ENVIRONMENT_HINT).get("command", "unknown")
    saved = _saved_config(cfg, run_dir)
    if saved is None:
        return
    then_values, now_values = dict(_flat(saved)), dict(_flat(recorded(cfg)))
    lines = []
    for key in sorted(filter(_matters, then_values.keys() | now_values.keys())):
        then, now = then_values.get(key, _default(cfg, key)), now_values.get(key)
        if then != now and with_environment(then) != with_environment(now):
            before, after = ("(not set)" if value is None else value for value in (then, now))
            lines.append(f"  {key}: {before} then, {after} now")
    if lines:
        raise UserError(
            f"{run_dir} was started with another configuration:\n" + "\n".join(lines) + "\n"
            f"Repeat its overrides (its command was: {asked}), or start a new run without resume=true"
        )


def _saved_config(cfg: DictConfig, run_dir: Path) -> dict[str, Any] | None:
    """The run's config.yaml, with the names of what came from the environment; None if it has none.

    Raises:
        UserError: it is damaged, or ends before its last key.
    """
    file = run_dir / "config.yaml"
    if not file.is_file():
        return None
    try:
        saved = OmegaConf.to_container(OmegaConf.load(file))
        problem = "not a mapping" if not isinstance(saved, dict) else _cut(saved, cfg)
    except (YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        saved, problem = {}, " ".join(str(error).split())
    if problem:
        raise UserError(
            f"{file}: damaged ({problem}): put a copy back, or remove it, and nothing checks that this is "
            "still the run's configuration"
        )
    return cast(dict[str, Any], saved)


def _cut(saved: Mapping[Any, object], cfg: DictConfig) -> str:
    """What a file lacks that was cut between two lines: the last keys. (Older versions lack others.)"""
    keys = [str(key) for key in cfg]
    missing = [key for key in keys if key not in saved]
    return f"it ends before {missing[0]}" if missing and keys[-len(missing) :] == missing else ""


def _check_strategy(cfg: DictConfig, run_dir: Path, start: Saved) -> None:
    """A folder holds the shards of one strategy, and DeepSpeed reads nothing else; a file is all others'.

    But FSDP2 counts frozen weights, too, when it numbers the optimizer's state. How long ranks wait for each
    other may change.
    """
    from codiemb.training.strategies import Kind, kind_of  # takes seconds, and checkpoints need it only

    saved = _saved_config(cfg, run_dir)
    if saved is None:
        return
    nodes = [config["strategy"] for config in (saved, recorded(cfg))]
    then, now = ({key: value for key, value in _flat(node) if key != "timeout"} for node in nodes)
    sharded = start.path.is_dir() or kind_of(target_of(cfg.strategy)) is Kind.DEEPSPEED
    frozen = cfg.model.lora.r > 0 or cfg.encoder.train_only is not None
    kinds = [kind_of(target_of(node)) for node in nodes]
    numbers_differ = frozen and kinds[0] is not kinds[1] and Kind.FSDP in kinds
    if then != now and (sharded or numbers_differ):
        raise UserError(
            f"{start.path} was written by strategy {then}, and {now} cannot read it; resume with the same "
            "strategy"
        )


def _matters(key: str) -> bool:
    return not _is_under(key, _MAY_CHANGE) or _is_under(key, _MUST_STAY)


def _default(cfg: DictConfig, key: str) -> object:
    """What a run of an older version meant by a key that this version added; None if it has no default."""
    parent, _, name = key.rpartition(".")
    kind = OmegaConf.get_type(OmegaConf.select(cfg, parent) if parent else cfg)
    defaults = {field.name: field.default for field in fields(kind)} if is_dataclass(kind) else {}
    default = defaults.get(name)
    return None if default is MISSING else default


def _is_under(key: str, roots: tuple[str, ...]) -> bool:
    return any(key == root or key.startswith(root + ".") for root in roots)


def _flat(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values; empty mappings and lists are values."""
    if not isinstance(node, Mapping) or not node:
        yield prefix.removesuffix("."), node
        return
    for key, value in cast(Mapping[str, object], node).items():
        yield from _flat(value, f"{prefix}{key}.")
