"""At the end of a multirun: one table over its jobs, on the screen and in the sweep folder."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from codiemb.atomic import write_text
from codiemb.config.preflight import preflight
from codiemb.config.ranks import is_main_process
from codiemb.config.result import has_result, read_scores
from codiemb.config.sweep_plot import plot_groups
from codiemb.config.typed import typed_train
from codiemb.errors import UserError
from codiemb.tables import pipe_table, spread


class SweepTable(Callback):
    """Collects every job's `result.json` into `sweep.md`, `.json`, `.png`; exits with 2 if one has none."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra once, before the first job: every value of a grid must pass the checks of a run.

        A search is for the best, and on the dev side. (Lightning starts other ranks with the same command:
        each is a multirun, too, and leaves the checks and the table to rank 0.)
        """
        if not is_main_process():
            return
        sweeper = config.hydra.sweeper
        if str(sweeper._target_).endswith("BasicSweeper"):
            _check_grid(config)
            return
        if config.task.name == "builtin" and config.task.split == "test":
            _stop("a search would choose on the test side; add task.split=dev")
        if "minimize" in str(sweeper.get("direction")):
            _stop("a run returns the mean of its scores: use hydra/sweeper=search, or direction=maximize")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra once, after the last job."""
        if not is_main_process():
            return
        folder = Path(config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        if not jobs:
            return
        write_text(folder / "sweep.json", json.dumps(jobs, indent=2) + "\n")
        groups = group_seeds(jobs)
        tables = [sweep_markdown(jobs)]
        if any(len(group["means"]) > 1 for group in groups):
            tables.append(groups_markdown(groups))
        table = "\n".join(tables)
        write_text(folder / "sweep.md", table)
        sys.stdout.write(f"\n{table}\n{folder / 'sweep.md'}\n")
        if any(group["means"] for group in groups):
            plot_groups(groups, folder / "sweep.png")
        if not all(job["finished"] for job in jobs):
            sys.exit(2)


def _check_grid(config: DictConfig) -> None:
    """Every value of every axis, with the first values of the others: 0.3 s each, not their whole product."""
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(config_loader=loader)
    axes = [
        BasicSweeper.split_arguments([override], None)[0]
        for override in parser.parse_overrides(list(config.hydra.overrides.task))
    ]
    first = [values[0][0] for values in axes]
    jobs = [first[:i] + value + first[i + 1 :] for i, values in enumerate(axes) for value in values[1:]]
    for overrides in [first, *jobs]:
        cfg = loader.load_sweep_config(config, overrides)
        cfg.run_dir = config.hydra.sweep.dir  # a job's own is not known yet
        with open_dict(cfg):
            del cfg["hydra"]  # as in a job
        try:
            preflight(typed_train(cfg))
        except UserError as error:
            _stop(f"{error}\n(in the sweep's job {' '.join(overrides)})")


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """Overrides and scores of every job in a sweep folder, in job order; unfinished jobs have no scores."""
    jobs = []
    for overrides in sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda p: _job_number(p.parts[-3])):
        job = overrides.parents[1]
        typed = cast(list[str], OmegaConf.to_container(OmegaConf.load(overrides)))  # with their ${...}
        row = {"job": job.name, "overrides": typed, "finished": has_result(job)}
        jobs.append(row | {"scores": read_scores(job)})
    return jobs


def sweep_markdown(jobs: list[dict[str, Any]]) -> str:
    """A Markdown table: what each job overrode and where it came out, one column per task."""
    names = list(dict.fromkeys(name for job in jobs for name in job["scores"]))
    varied = [_varied(job["overrides"], jobs) for job in jobs]
    lines = [["job", "overrides", *names]]
    for job, overrides in zip(jobs, varied, strict=True):
        cells = [f"{100 * job['scores'][name]:.2f}" if name in job["scores"] else "-" for name in names]
        lines.append([job["job"], overrides, *cells])
    return pipe_table(lines, aligned=True)


def group_seeds(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Jobs that differ in nothing but their seed, together.

    Returns:
        Per group `overrides`, `scores` (finished jobs' scores by task) and `means` (each such job's mean).
    """
    groups: dict[str, dict[str, Any]] = {}
    for job in jobs:
        label = _varied([o for o in job["overrides"] if not _is_seed(o)], jobs)
        group = groups.setdefault(label, {"overrides": label, "scores": {}, "means": []})
        for name, score in job["scores"].items():
            group["scores"].setdefault(name, []).append(score)
        if job["scores"]:
            group["means"].append(fmean(job["scores"].values()))
    return list(groups.values())


def groups_markdown(groups: list[dict[str, Any]]) -> str:
    """A Markdown table: mean and standard deviation over the seeds of each group."""
    names = list(dict.fromkeys(name for group in groups for name in group["scores"]))
    lines = [["overrides", "seeds", *names, "mean"]]
    for group in groups:
        cells = [_in_percent(group["scores"].get(name, [])) for name in names]
        row = [group["overrides"], str(len(group["means"])), *cells, _in_percent(group["means"])]
        lines.append(row)
    return pipe_table(lines, aligned=True)


def _in_percent(scores: Sequence[float]) -> str:
    return spread([100 * score for score in scores]) if scores else "-"


def _stop(message: str) -> None:
    sys.stderr.write(f"\nerror: {message}\n")
    sys.exit(2)


def _is_seed(override: str) -> bool:
    return override.startswith("seed=")


def _varied(overrides: list[str], jobs: list[dict[str, Any]]) -> str:
    """The overrides that not all jobs share."""
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))
    return " ".join(o for o in overrides if o not in shared) or "-"


def _job_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (sys.maxsize, name)
