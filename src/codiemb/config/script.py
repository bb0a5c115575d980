"""Run a script's main function: what Hydra and OmegaConf refuse is one message of ours, not a traceback.

Nor Hydra's own: its "not in struct" and its advice on HYDRA_FULL_ERROR tell no key and no remedy.
"""

import gc
import os
import re
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from codiemb.config.command_line import not_an_override, refuse
from codiemb.errors import UserError
from codiemb.near import near

_RAISE = "HYDRA_FULL_ERROR"  # Hydra raises, instead of printing and exiting


def run_script(main: Callable[[], object]) -> None:
    """Call what `hydra.main` made. Errors of the job itself pass: it has its own way to tell them."""
    gc.freeze()  # what was imported stays: no collection looks through it again
    gc.enable()
    before = os.environ.get(_RAISE)
    os.environ[_RAISE] = "1"
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        message = explain(error)
        if message is None or _passed(getattr(main, "__wrapped__", main).__code__, error.__traceback__):
            raise
        refuse(message)
    finally:
        if before is None:
            del os.environ[_RAISE]
        else:
            os.environ[_RAISE] = before


def explain(error: BaseException) -> str | None:
    """What, where and what to do, in words of ours; None for what is no user's mistake."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, UserError):
            return str(each)
    for each in chain:
        if isinstance(each, OmegaConfBaseException) and each.full_key:
            return _of_a_key(each)
    if isinstance(error, OverrideParseException):
        return not_an_override(str(error.override), error)
    if isinstance(error, MissingConfigException):
        return _of_an_option(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _first_line(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}; hydra.run.dir=FOLDER chooses where a run writes"
    return str(error) if "override" in str(error) else None  # Hydra raises ValueError for a few


def _of_a_key(error: OmegaConfBaseException) -> str:
    key, message = str(error.full_key), _first_line(error)
    if "missing mandatory value" in message.lower():
        return f"{key} must be given: {key}=VALUE"
    if "not in struct" not in message and not re.match(r"Key '.*' not in '", message):
        return f"{key}: {message}"
    node: Any = error.parent_node
    known = [str(name) for name in node] if isinstance(node, DictConfig) and node else []
    where = key.rpartition(".")[0]
    meant = near(str(error.key), known, all_of_them=len(known) < 30)
    return f"{key}: no such key{f' in {where}' if where else ''}; {meant or f'{where} holds no keys'}"


def _of_an_option(error: MissingConfigException) -> str:
    missing = str(error.missing_cfg_file)
    group, _, option = missing.rpartition("/")
    meant = near(option, error.options or ())
    return f"{group}={option}: no such option; {meant}" if group else f"{missing}: no such config; {meant}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _chain(error: BaseException | None) -> Any:  # noqa: ANN401  an iterator
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _passed(code: CodeType, traceback: TracebackType | None) -> bool:
    """Whether an error came through the job: what is raised there is no matter of the command line."""
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            return True
        traceback = traceback.tb_next
    return False
