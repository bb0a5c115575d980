"""What is wrong with an evaluation, told in a second or two: before torch and mteb are imported."""

import os
from pathlib import Path

from codiemb.config.schema import EvalConfig
from codiemb.config.task_check import check_task
from codiemb.encoder.model_files import settings_folder
from codiemb.encoder.path_check import check_path
from codiemb.encoder.spec import CHOICES, ModelSpec
from codiemb.errors import UserError
from codiemb.evaluation.models.names import check_name
from codiemb.result_folder import RESULTS_FILE


def check_evaluation(cfg: EvalConfig) -> None:
    """The tasks, the model, and that no results are lost.

    Raises:
        UserError: what would stop the evaluation later, or lose what another left.
    """
    check_task(cfg.task)
    check_loader(cfg)
    refuse_to_overwrite(Path(cfg.run_dir) / RESULTS_FILE, resume=cfg.resume)
    spec = cfg.model
    if spec.loader == "mteb":
        check_name(spec.name, spec.path, trust_remote_code=spec.trust_remote_code)
    elif spec.loader == "youtu_api":
        check_key()
    else:
        check_path(spec)
        check_id(spec)


def check_id(spec: ModelSpec) -> None:
    """Raises UserError where a hub id has no files here, and none are to be had from the hub."""
    if spec.path is not None and spec.weights != "random" and settings_folder(spec) is None:
        raise UserError(
            f"model.path={spec.path} is neither a local folder nor to be had from the hub, which has no such "
            "model or cannot be reached: name a folder, or put a copy into the hub's cache (HF_HOME)"
        )


def check_loader(cfg: EvalConfig) -> None:
    """Raises UserError where there is no such loader, or it cannot do what is asked."""
    loader = cfg.model.loader
    if loader not in CHOICES["loader"]:
        raise UserError(f"model.loader={loader!r} is none of {', '.join(map(str, CHOICES['loader']))}")
    if loader != "codiemb" and max(cfg.devices, int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise UserError(f"model.loader={loader} runs in one process: devices=1")
    if loader == "mteb" and cfg.task.cache_gib > 0:
        raise UserError("task.cache_gib keeps embeddings of texts; mteb's models embed tasks: set it to 0")


def check_key() -> None:
    """Raises UserError where the hosted API's key is not in the environment."""
    from codiemb.evaluation.models.lkeap import Key  # 0.2 s that only this model needs

    Key.from_environment()


def refuse_to_overwrite(file: Path, *, resume: bool) -> None:
    """Raises UserError where there are results already, and nobody goes on with them."""
    if file.is_file() and not resume:
        raise UserError(
            f"{file} is there already: resume=true goes on with the tasks that it lacks, another "
            "hydra.run.dir starts a new evaluation"
        )
