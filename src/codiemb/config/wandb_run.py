"""What W&B knows a run by: name, tags, the sweep as its group, and the id that a resume goes on with."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.loggers import WandbLogger

from codiemb.atomic import write_text
from codiemb.config.ranks import in_sweep
from codiemb.config.schema import TrainConfig

ID_FILE = "wandb_id"  # in the run folder, beside wandb/, which `wandb clean` may empty
_TAGS = ("stage", "model", "data", "losses", "experiment")
_LONGEST_NAME = 128  # letters, of W&B


def identity(cfg: TrainConfig) -> dict[str, Any]:
    """Arguments of WandbLogger that exist only at run time; those of the config go before them.

    Group options and overrides as they were typed, never resolved values, which may hold a secret.
    """
    found: dict[str, Any] = {}
    file = Path(cfg.run_dir) / ID_FILE
    if cfg.resume and file.is_file():
        found["id"] = file.read_text("utf-8").strip()
    if HydraConfig.initialized():
        choices = HydraConfig.get().runtime.choices
        found["tags"] = [choices[group] for group in _TAGS if choices.get(group)]
        found["name"] = _name(f"{choices['stage']}-{choices['model']}-seed{cfg.seed}")
    if in_sweep():
        found["group"] = "/".join(Path(HydraConfig.get().sweep.dir).absolute().parts[-2:])
    return found


def remember_id(logger: WandbLogger, run_dir: Path) -> None:
    """Keep the id of an opened run, for `resume=true`."""
    if logger.version:
        write_text(run_dir / ID_FILE, f"{logger.version}\n")


def _name(run: str) -> str:
    """The run; in a sweep with what the job overrides, but for what the whole sweep does."""
    shown = ("stage=", "model=", "seed=", "resume=")
    overrides = list(HydraConfig.get().overrides.task) if in_sweep() else []
    varied = [each for each in overrides if each not in sys.argv and not each.startswith(shown)]
    name = " ".join([run, *varied])
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
