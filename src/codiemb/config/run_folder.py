"""What every run leaves in its folder: the config, the commit, the versions, and its result."""

import errno
import functools
import json
import os
import platform
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from codiemb.atomic import write_text
from codiemb.config import out_of_memory, rendezvous, resume
from codiemb.config.ranks import in_sweep, is_main_process, rank_name
from codiemb.config.result import RESULT_FILE
from codiemb.config.secrets import masked, recorded
from codiemb.errors import UserError
from codiemb.json_files import read_json
from codiemb.result_folder import RAN_FILE
from codiemb.stop import INTERRUPTED, RankLost, Stopped, at_once, last_words
from codiemb.training.checkpoint_files import FULL, describe_disk_error

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_PACKAGES = (
    "codiemb",
    "torch",
    "pytorch-lightning",
    "transformers",
    "hydra-core",
    "datasets",
    "mteb",
    "sentence-transformers",
    "peft",
    "deepspeed",
)


def record_run(cfg: DictConfig, run_dir: Path) -> None:
    """Write config.yaml (as `recorded`) and environment.json; a dirty work tree is recorded as such.

    A resumed run's earlier environments stay, under `earlier`, oldest first. A new one takes nothing that
    another run may have left here for its own.

    Raises:
        UserError: the folder holds an evaluation, and this is training, or the other way round.
    """
    _refuse_other_kind(cfg, run_dir)
    if not cfg.get("resume"):
        for leftover in ("evaluation/before.json", "evaluation/results.json"):
            (run_dir / leftover).unlink(missing_ok=True)
    if not cfg.get("resume") or "stage" not in cfg:  # an evaluation that goes on has not finished
        (run_dir / RESULT_FILE).unlink(missing_ok=True)
    file = run_dir / "environment.json"
    before = read_json(file, {}, resume.ENVIRONMENT_HINT)
    earlier = [*before.pop("earlier", []), before] if before else []
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(recorded(cfg))))
    environment = {
        "command": shlex.join(sys.argv),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    } | ({"earlier": earlier} if earlier else {})
    write_text(file, json.dumps(environment, indent=2) + "\n")


def record_what_trains(cfg: DictConfig, run_dir: Path) -> None:
    """Write config_ran.yaml beside config.yaml, which stays as it was composed: a resume compares that."""
    write_text(run_dir / RAN_FILE, OmegaConf.to_yaml(OmegaConf.create(recorded(cfg))))


def _refuse_other_kind(cfg: DictConfig, run_dir: Path) -> None:
    file = run_dir / "config.yaml"
    if not file.is_file():
        return
    was_training = any(line.startswith("stage:") for line in file.read_text("utf-8").split("\n"))
    if was_training != ("stage" in cfg):
        kind = "a training run" if was_training else "an evaluation"
        raise UserError(f"{run_dir} holds {kind}, which this would overwrite: choose another hydra.run.dir")


def link_latest(export: Path, run_dir: Path) -> None:
    """Point `outputs/<stage>/export` at the newest finished export, so that stages chain by folder.

    Does nothing where the run folder is not `outputs/<stage>/<run>` or something else is in the way.
    """
    stage_dir = run_dir.absolute().parent
    link = stage_dir / "export"
    if stage_dir.parent.name != "outputs" or (link.exists() and not link.is_symlink()):
        return
    temporary = stage_dir / f".export-{os.getpid()}"
    temporary.symlink_to(os.path.relpath(export, stage_dir))
    os.replace(temporary, link)


def user_errors_without_traceback(
    main: Callable[[DictConfig], float | None],
) -> Callable[[DictConfig], float | None]:
    """Print what the user can mend as one message and exit with 2; anything else keeps its traceback.

    That is a UserError, a full or forbidden disk, and memory that is not enough.

    A run that was stopped on request says how to continue it.
    In a sweep the other jobs go on, whatever the error; its table shows the gap, and SweepTable sets the
    exit code.
    """

    @functools.wraps(main)
    def wrapped(cfg: DictConfig) -> float | None:
        last_words.prepare(resume.command(Path(cfg.run_dir)) if "resume" in cfg else "")
        try:
            with at_once.in_job():
                return main(cfg)
        except (Stopped, KeyboardInterrupt) as stop:
            message = stop.message if isinstance(stop, Stopped) else "stopped by SIGINT"
            last_words.say(message)
            sys.exit(getattr(stop, "code", INTERRUPTED) if is_main_process() else 0)
        except Exception as error:
            code = _tell(error, cfg)
            if not in_sweep():
                sys.exit(code)
        return None

    return wrapped


def _tell(error: Exception, cfg: DictConfig) -> int:
    """Say what the user can mend, and return the exit code; raise any other error, outside of a sweep."""
    if isinstance(error, RankLost):  # the watch has said so
        return 1
    message = _for_users(error, cfg)
    if message is None:
        if not in_sweep():
            raise error
        traceback.print_exc()
    elif is_main_process():
        sys.stderr.write(f"\nerror: {message}\n")
    else:  # in short: all ranks may have the same to say, or this one something of its own
        sys.stderr.write(f"error on {rank_name()}: {message.splitlines()[0]}\n")
    return 2


def _for_users(error: Exception, cfg: DictConfig) -> str | None:
    """The message of an error that the user can mend; None for any other."""
    if isinstance(error, UserError):
        return masked(str(error), cfg)
    if isinstance(error, OSError) and error.errno in FULL:
        return describe_disk_error(error, Path(str(error.filename or cfg.run_dir)))
    if isinstance(error, OSError) and error.errno in REFUSED and error.filename:
        return f"{error.filename}: {error.strerror}; " + (
            "another folder is chosen by hydra.run.dir=FOLDER"
            if Path(str(error.filename)).absolute().is_relative_to(Path(cfg.run_dir).absolute())
            else "its rights do not allow what the run needs"
        )
    return out_of_memory.advice(error, training="encoder" in cfg) or rendezvous.advice(error)


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
