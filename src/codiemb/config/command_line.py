"""What the command line gets wrong, told before torch is imported: in a second, with near names.

Hydra composes the config only once its schema is there, and that takes the imports of a run: 8 seconds of a
core, and 3 more with mteb. This knows the folders of conf/, the keys and the names of the tasks; values are
Hydra's to judge (`script`).
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException

from codiemb.config import result_arguments
from codiemb.config.deep_keys import check_deep_keys
from codiemb.config.eval_checks import check_key
from codiemb.config.known_keys import ROOT_KEYS
from codiemb.config.ranks import is_main_process
from codiemb.config.task_check import check_mteb_names
from codiemb.config.usage import options_of, usage
from codiemb.errors import UserError
from codiemb.near import near
from codiemb.task_names import BY_SET, LOCAL

_FLAGS = (
    "-m",
    "--multirun",
    "-r",
    "--run",
    "--resolve",
)  # others take values, or other configs: left to Hydra
_OF_HYDRA = frozenset(
    {
        "--hydra-help",
        "--version",
        "--cfg",
        "--package",
        "--shell-completion",
        "--config-path",
        "--config-name",
    }
    | {"--config-dir", "--experimental-rerun", "--info"}
)


class Script(NamedTuple):
    """What a script takes."""

    conf: Path  # the folder of its configs
    root: str  # its config: train or eval


def check_command_line(script: str, root: str) -> None:
    """End this process after `--help`, or with one message if an argument cannot be meant.

    Args:
        script: the file that runs.
        root: the config that it begins with.
    """
    conf = Path(script).with_name("conf")
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.stdout.write(usage(conf, root))
        sys.exit(0)
    try:
        check(Script(conf, root), sys.argv[1:])
    except UserError as error:
        refuse(str(error))


def refuse(message: str) -> None:
    """Say it once, not on every rank, and exit with 2."""
    if is_main_process():
        sys.stderr.write(f"\nerror: {message}\n")
    sys.exit(2)


def check(script: Script, arguments: Sequence[str]) -> None:
    """Look at groups, options, keys at the root and names of tasks.

    Raises:
        UserError: naming the argument, and what it may have meant.
    """
    flags = [argument for argument in arguments if argument.startswith("-")]
    _check_flags(flags)
    if not set(flags) <= set(_FLAGS) or any(each.startswith("hydra.searchpath") for each in arguments):
        return
    overrides = [_parsed(argument) for argument in arguments if argument not in flags]
    for override in overrides:
        _check_key(override, script)
        if (script.conf / override.key_or_group).is_dir() and not override.is_delete():
            _check_option(override, script.conf)
    _check_task_names(overrides)
    if script.root == "eval" and _asks_the_api(overrides):
        check_key()
    _check_results(overrides)
    check_deep_keys(script.conf, script.root, overrides)
    _check_own_folder(overrides)


def _check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name = flag.partition("=")[0]
        if name.startswith("--") and name not in (*_FLAGS, *_OF_HYDRA):
            raise UserError(f"{flag}: no such flag; a key has no dashes: KEY=VALUE (`--help` shows some)")


def _parsed(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise UserError(not_an_override(argument, error)) from error


def not_an_override(argument: str, error: Exception) -> str:
    """What to do with an argument that Hydra's grammar does not take."""
    reason = str(error.__cause__ or error).partition("\n")[0]
    if "=" not in argument and not argument.startswith("~"):
        return f"{argument}: an argument is KEY=VALUE, +KEY=VALUE for a new key, or ~KEY to take one out"
    return (
        f"{argument}: cannot be read ({reason}); a value with spaces, commas, brackets, = or $ needs quotes "
        "for Hydra inside those for the shell: 'KEY=\"VALUE\"'; and a [ or { needs its ] or }"
    )


def _check_key(override: Override, script: Script) -> None:
    key = override.key_or_group
    first = key.split(".")[0].split("/")[0]
    groups = [path.name for path in script.conf.iterdir() if path.is_dir()]
    known = {*ROOT_KEYS[script.root], *(groups if script.root == "train" else ())}
    wrong_group = "/" in key and not (script.conf / key).is_dir()
    is_new = override.is_add() or override.is_force_add()
    if not is_new and first != "hydra" and (first not in known or wrong_group):
        raise UserError(f"{key}: no such key or group; {near(first, known)}")


def _check_option(override: Override, conf: Path) -> None:
    group = override.key_or_group
    if group.startswith("hydra"):  # Hydra has options of its own there
        return
    for option in _texts(override):
        if option != "null" and not (conf / group / option).with_suffix(".yaml").is_file():
            other = ". Any other: model=pretrained model.path=FOLDER_OR_HUB_ID" if group == "model" else ""
            raise UserError(
                f"{group}={option}: no such option; {near(option, options_of(conf, group))}{other}"
            )


def _check_task_names(overrides: Sequence[Override]) -> None:
    """Names of `task.tasks` belong to the set that is chosen; where a file may choose it, to one of them."""
    chosen = {option for each in overrides if each.key_or_group == "task" for option in _texts(each)}
    keys = {each.key_or_group for each in overrides}
    if not chosen:
        chosen = set(BY_SET) if keys & {"experiment", "stage", "debug"} else {"builtin"}
    if chosen == {"mteb"} and "task.name" not in keys:
        asked = [_texts(each) for each in overrides if each.key_or_group == "task.tasks"]
        if asked and (named := [name for name in asked[-1] if "${" not in name]):  # the last one counts
            check_mteb_names(named)
    if chosen <= BY_SET.keys() and "task.name" not in keys:
        known = [name for option in sorted(chosen) for name in BY_SET[option]]
        _check_names(overrides, "task.tasks", known, f" of task={' or '.join(sorted(chosen))}")
    if "folder" not in chosen and "task.name" not in keys:
        _check_names(overrides, "evaluate.dev_tasks", LOCAL, "")


def _check_results(overrides: Sequence[Override]) -> None:
    for override in overrides:
        key, value = override.key_or_group, None if override.is_delete() else override.value()
        if key not in result_arguments.KEYS or "${" in str(override.input_line):
            continue
        if override.is_sweep_override() or value in ([], "", None):
            raise UserError(f"{override.input_line}: name folders of results in brackets: {key}=[A,B]")
        parts = value if isinstance(value, list) else [value]
        result_arguments.check_results(
            key, [p.text if isinstance(p, QuotedString) else str(p) for p in parts]
        )


def _check_own_folder(overrides: Sequence[Override]) -> None:
    """The files of task=folder, where the command line names one folder."""
    texts = {each.key_or_group: list(_texts(each)) for each in overrides}
    data, split = texts.get("task.data", []), texts.get("task.split", ["test"])
    if texts.get("task") == ["folder"] and len(data) == len(split) == 1 and "${" not in data[0]:
        from codiemb.config.folder_check import check_folder  # takes 0.3 s to import

        check_folder(data[0], split[0], texts.get("task.tasks", []))


def _asks_the_api(overrides: Sequence[Override]) -> bool:
    return any(each.key_or_group == "model" and "youtu_api" in _texts(each) for each in overrides)


def _check_names(overrides: Sequence[Override], key: str, known: Sequence[str], where: str) -> None:
    for override in overrides:
        if override.key_or_group == key:
            unknown = [name for name in _texts(override) if name not in known and "${" not in name]
            if unknown:
                raise UserError(f"{key}: no {', '.join(unknown)}{where}; {near(unknown[0], known)}")


def _texts(override: Override) -> Iterator[str]:
    """All names in a value: one, a list, or what a sweep goes over."""
    yield from _texts_of(None if override.is_delete() else override.value())


def _texts_of(value: object) -> Iterator[str]:
    if isinstance(value, QuotedString):
        yield value.text
    elif isinstance(value, str):
        yield value
    elif isinstance(value, ChoiceSweep):
        yield from _texts_of(value.list)
    elif isinstance(value, list):
        for each in value:
            yield from _texts_of(each)
