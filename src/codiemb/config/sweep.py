"""At the end of a multirun: one table over its jobs, on the screen and in the sweep folder."""

import json
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from codiemb.config.sweep_plot import plot_groups

RESULT_FILE = "result.json"


class SweepTable(Callback):
    """Collects every job's `result.json` into `sweep.md`, `.json`, `.png`; exits with 2 if one has none."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra once, before the first job: a search is for the best, and on the dev side."""
        sweeper = config.hydra.sweeper
        if str(sweeper._target_).endswith("BasicSweeper"):
            return
        if config.task.name == "builtin" and config.task.split == "test":
            _stop("a search would choose on the test side; add task.split=dev")
        if "minimize" in str(sweeper.get("direction")):
            _stop("a run returns the mean of its scores: use hydra/sweeper=search, or direction=maximize")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra once, after the last job."""
        folder = Path(config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        if not jobs:
            return
        (folder / "sweep.json").write_text(json.dumps(jobs, indent=2) + "\n", "utf-8")
        groups = group_seeds(jobs)
        tables = [sweep_markdown(jobs)]
        if any(len(group["means"]) > 1 for group in groups):
            tables.append(groups_markdown(groups))
        table = "\n".join(tables)
        (folder / "sweep.md").write_text(table, "utf-8")
        sys.stdout.write(f"\n{table}\n{folder / 'sweep.md'}\n")
        if any(group["means"] for group in groups):
            plot_groups(groups, folder / "sweep.png")
        if not all(job["finished"] for job in jobs):
            sys.exit(2)


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """Overrides and scores of every job in a sweep folder, in job order; unfinished jobs have no scores."""
    jobs = []
    for overrides in sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda p: _job_number(p.parts[-3])):
        job = overrides.parents[1]
        result = job / RESULT_FILE
        finished = result.is_file()
        scores = json.loads(result.read_text("utf-8"))["scores"] if finished else {}
        row = {"job": job.name, "overrides": list(OmegaConf.load(overrides)), "finished": finished}
        jobs.append(row | {"scores": scores})
    return jobs


def sweep_markdown(jobs: list[dict[str, Any]]) -> str:
    """A Markdown table: what each job overrode and where it came out, one column per task."""
    names = list(dict.fromkeys(name for job in jobs for name in job["scores"]))
    varied = [_varied(job["overrides"], jobs) for job in jobs]
    lines = [["job", "overrides", *names]]
    for job, overrides in zip(jobs, varied, strict=True):
        cells = [f"{100 * job['scores'][name]:.2f}" if name in job["scores"] else "-" for name in names]
        lines.append([job["job"], overrides, *cells])
    return _pipe_table(lines)


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
        cells = [_mean_and_deviation(group["scores"].get(name, [])) for name in names]
        row = [group["overrides"], str(len(group["means"])), *cells, _mean_and_deviation(group["means"])]
        lines.append(row)
    return _pipe_table(lines)


def recorded_metric(run_dir: Path) -> float | None:
    """What a search maximises: the mean of a finished run's task scores; None where there are none."""
    result = run_dir / RESULT_FILE
    scores = json.loads(result.read_text("utf-8"))["scores"] if result.is_file() else {}
    return fmean(scores.values()) if scores else None


def _mean_and_deviation(scores: list[float]) -> str:
    """In percent; the sample standard deviation needs two."""
    if not scores:
        return "-"
    deviation = f" ± {100 * stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{100 * fmean(scores):.2f}{deviation}"


def _pipe_table(lines: list[list[str]]) -> str:
    lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:]]) + "\n"


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
