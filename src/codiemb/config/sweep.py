"""At the end of a multirun: one table over its jobs, on the screen and in the sweep folder."""

import json
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

RESULT_FILE = "result.json"


class SweepTable(Callback):
    """Collects `result.json` of every job into `sweep.md` and `sweep.json`; exits with 2 if one has none."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra once, after the last job."""
        folder = Path(config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        if not jobs:
            return
        (folder / "sweep.json").write_text(json.dumps(jobs, indent=2) + "\n", "utf-8")
        table = sweep_markdown(jobs)
        (folder / "sweep.md").write_text(table, "utf-8")
        sys.stdout.write(f"\n{table}\n{folder / 'sweep.md'}\n")
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
        lines.append([job["job"], overrides.replace("|", r"\|"), *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:]]) + "\n"


def _varied(overrides: list[str], jobs: list[dict[str, Any]]) -> str:
    """The overrides that not all jobs share."""
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))
    return " ".join(o for o in overrides if o not in shared) or "-"


def _job_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (sys.maxsize, name)
