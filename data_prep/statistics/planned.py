"""The plan that a mixture is counted for: the keys of a training config that say how batches are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from codiemb import data
from codiemb.data import Plan, PlannedSource, Schedule, TaskSpec
from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml

_SAMPLERS = {f"codiemb.data.{kind}": getattr(data, kind) for kind in
             ("Alternate", "Proportional", "SizePower", "Weights")}  # fmt: skip


@dataclass(frozen=True)
class TrainingPlan:
    """`tasks`, `sampler` and `seed` of a training config."""

    tasks: Mapping[str, TaskSpec]
    sampler: Schedule
    seed: int = 49

    def of(self, sources: Sequence[PlannedSource]) -> Plan:
        """As the trainer lays it out.

        Raises:
            UserError: what `Plan` raises.
        """
        return Plan(sources, self.sampler, self.seed)

    def steps(self, sources: Sequence[PlannedSource]) -> list[float]:
        """Steps of each source in an epoch, on average: its share in a cycle of the schedule.

        Raises:
            UserError: what `Plan` raises.
        """
        quotas = self.sampler.quotas(sources)
        return [self.of(sources).steps_per_epoch * quota / sum(quotas) for quota in quotas]


def read_plan(plan: Mapping[str, Any] | str) -> TrainingPlan | None:
    """From a mapping, or from a YAML file of such keys: a run's config.yaml is one. None for nothing.

    Raises:
        UserError: an unknown key, a value of another type, or an interpolation that is not resolved.
    """
    if not plan:
        return None
    where = str(plan) if isinstance(plan, str) else "plan"
    values = read_yaml(Path(plan)) if isinstance(plan, str) else dict(plan)
    if isinstance(plan, Mapping) and (
        unknown := [k for k in values if k not in ("tasks", "sampler", "seed")]
    ):
        raise UserError(f"{where}: unknown key {unknown[0]!r}; a plan has tasks, sampler, seed")
    if not isinstance(values.get("tasks"), dict):
        raise UserError(f"{where}: no tasks: it needs tasks.ir.global_batch_size and so on, as in training")
    tasks = {name: _task(spec or {}, f"{where}: tasks.{name}") for name, spec in values["tasks"].items()}
    return TrainingPlan(tasks, _sampler(values.get("sampler") or {}, where), int(values.get("seed", 49)))


def _task(values: Mapping[str, Any], where: str) -> TaskSpec:
    known = [field.name for field in fields(TaskSpec)]
    if unknown := [key for key in values if key not in known]:
        raise UserError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(known)}")
    for key, value in values.items():
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{where}.{key}={value}: not resolved; name a run's own config.yaml, or a number")
    try:
        return TypeAdapter(TaskSpec).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}.{first['loc'][0]}={first['input']!r}: {first['msg']}") from error


def _sampler(values: Mapping[str, Any], where: str) -> Schedule:
    arguments = dict(values)
    target = arguments.pop("_target_", "codiemb.data.Proportional")
    if target not in _SAMPLERS:
        raise UserError(f"{where}: sampler._target_={target!r}; there are {', '.join(_SAMPLERS)}")
    try:
        sampler: Schedule = _SAMPLERS[target](**arguments)
    except TypeError as error:
        raise UserError(f"{where}: sampler: {error}") from error
    return sampler
