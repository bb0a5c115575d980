"""Run a pipeline file: for each source a chain of steps, then what is said of all of them together."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml
from data_prep.manifest import MANIFEST
from data_prep.options import as_values, build
from data_prep.runner import STEPS, describe, is_done, load_step, run_step

_KEYS = ("out", "sources", "together")


class Planned(NamedTuple):
    """One step of a pipeline."""

    name: str
    sources: tuple[Path, ...]
    out: Path
    options: Any


def run_pipeline(path: Path, *, dry_run: bool = False) -> None:
    """Print the plan of a pipeline file, and carry it out; steps whose result is there are passed over.

    Raises:
        UserError: the file is no pipeline, or a step fails.
    """
    steps = list(plan(path))
    print(f"{path}: {len(steps)} steps")
    changed: set[Path] = set()
    for number, step in enumerate(steps, start=1):
        waits = changed.intersection(step.sources)
        todo = "to do" if waits or not _is_there(step) else "done"
        if todo == "to do":
            changed.add(step.out)
        print(f"  {number:>2} {step.name:<13} {step.out}  [{todo}]{_difference(step)}")
    if dry_run:
        return
    for step in steps:
        run_step(step.name, step.sources, step.out, step.options)


def plan(path: Path) -> Iterator[Planned]:
    """The steps of a pipeline file, in order.

    Raises:
        UserError: an unknown key, step or option; a chain whose first step needs a folder.
    """
    file = read_yaml(path)
    if unknown := [key for key in file if key not in _KEYS]:
        raise UserError(f"{path}: unknown key {unknown[0]!r}; a pipeline has {', '.join(_KEYS)}")
    if "out" not in file or not isinstance(file.get("sources"), dict):
        raise UserError(f"{path}: a pipeline needs out: FOLDER and sources: with a list of steps for each")
    root, ends = Path(file["out"]), list[Path]()
    for source, chain in file["sources"].items():
        planned = list(_chain(root / str(source), _steps(path, f"sources.{source}", chain)))
        yield from planned
        ends += [step.out for step in planned[-1:]]
    for where, name, values in _steps(path, "together", file.get("together") or []):
        step = load_step(name)
        if step.inputs in ("one", "optional") and len(ends) > 1:
            raise UserError(
                f"{where}: {name} reads one source; put dedup before it, which makes one of several"
            )
        yield Planned(name, tuple(ends), root / name, build(step.parameters, values, where))
        if step.makes_source or name == "export":  # what follows reads what this one wrote
            ends = [root / name]


def _chain(root: Path, steps: Iterator[tuple[str, str, Mapping[str, Any]]]) -> Iterator[Planned]:
    """Each step reads what the last one before it wrote that is a source."""
    read: tuple[Path, ...] = ()
    names = Counter[str]()
    for where, name, values in steps:
        step = load_step(name)
        if not read and step.inputs not in ("none", "optional"):
            raise UserError(f"{where}: the first step of a source must be fetch, or synthesise without --in")
        names[name] += 1  # a second step of one name is NAME-2
        out = root / (name if names[name] == 1 else f"{name}-{names[name]}")
        yield Planned(name, () if step.inputs == "none" else read, out, build(step.parameters, values, where))
        if step.makes_source:
            read = (out,)


def _steps(path: Path, key: str, chain: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:  # noqa: ANN401
    """Place, name and options of each step in a list like [clean: {...}, export]."""
    if not isinstance(chain, list):
        raise UserError(f"{path}: {key} must be a list of steps")
    for index, item in enumerate(chain):
        where = f"{path}: {key}[{index}]"
        named = {item: {}} if isinstance(item, str) else item
        if not isinstance(named, dict) or len(named) != 1:
            raise UserError(f"{where} must be a step's name, or one name with its options")
        ((name, values),) = named.items()
        if name not in STEPS:
            raise UserError(f"{where}: no step {name!r}; there are {', '.join(STEPS)}")
        yield f"{where}.{name}", name, values or {}


def _is_there(step: Planned) -> bool:
    if not all((source / MANIFEST).is_file() for source in step.sources):
        return False
    about = describe(step.name, load_step(step.name), step.sources, step.options)
    return is_done(step.out, about["identity"])


def _difference(step: Planned) -> str:
    """The options that are not the step's own."""
    default = as_values(load_step(step.name).parameters())
    given = {key: value for key, value in as_values(step.options).items() if value != default[key]}
    return "".join(f" {key}={value}" for key, value in given.items())
