"""What fine-tuning forgets, and what takes it back: `python -m experiments.laboratory.forgetting`.

Every arm is one run of experiment=first on data/minilm, of the size that it had at first, scored on the dev
side: seven tasks that the data is of, and two of text as no training file has it. Runs go seed by seed, so
that a stop leaves whole seeds.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from codiemb.config.result import RESULT_FILE
from codiemb.tables import pipe_table, spread
from experiments.conclusion import kept_conclusion
from experiments.laboratory.material import OUTSIDE
from experiments.steps import ROOT, Step, add_machine_arguments, run_steps

SEEDS = (1, 2, 3)
RUNS = Path("multirun/laboratory/forgetting")
PAGE = Path(__file__).with_name("forgetting.md")
START = "data/minilm"
SHARED = ("experiment=first", "fuse_with_start=null", "task.split=dev", "task.baseline=false")
TEXTS = ("tasks.ir.num_positives=2", "tasks.ir.num_negatives=4")
STEPS = "max_steps=80"
SHARED_TOO = ("evaluate.before=false", "export.verify=false", "callbacks.checkpoint=null", "logger=local")
TRAINED: Mapping[str, Sequence[str]] = {
    "whole": (STEPS,),
    "lower_rate": (STEPS, "model.learning_rate=1.5e-5"),
    "fewer_steps": ("max_steps=24",),
    "lora": (STEPS, "model.lora.r=16", "model.learning_rate=5.0e-4"),
    "ema": (
        STEPS,
        "+callbacks.ema._target_=pytorch_lightning.callbacks.EMAWeightAveraging",
        "+callbacks.ema.decay=0.98",
    ),
}
FUSED: Mapping[str, Sequence[str]] = {  # of `whole` with its start
    "start": ("fuse.scale=0.0",),
    "fused_30": ("fuse.scale=0.3",),
    "fused_50": ("fuse.scale=0.5",),
    "fused_70": ("fuse.scale=0.7",),
    "fused_50_far": ("fuse.scale=0.5", "fuse.scale_exponent=1.0"),
    "fused_50_near": ("fuse.scale=0.5", "fuse.scale_exponent=-1.0"),
}
TEXT = (
    "What does an average with the start cost on the tasks that were trained, and what does it save outside "
    "of them, against a lower learning rate (1.5e-5, not 5e-5), fewer steps (24, not 80), LoRA (rank 16) "
    "and an exponential average over the run (decay 0.98)? `whole` is experiment=first without fusion, "
    "with two positives and four negatives of a query; "
    "`fused_N` keeps N % of its way; `_far` and `_near` take back more of the tensors that moved far, or of "
    "those that moved little (fuse.scale_exponent=1, -1)."
)
_NOTE = (
    "(Times 100, dev side; mean ± sd over the seeds. `trained on` is the mean of the first seven tasks, "
    "`outside` of the last two.)"
)


def steps() -> list[Step]:
    """All runs, seed by seed; a fusion comes after the run that it fuses."""
    found = []
    for seed in SEEDS:
        for arm, overrides in TRAINED.items():
            found.append(_step(arm, seed, [*SHARED, *SHARED_TOO, *TEXTS, *overrides], 4.0))
        fuse = ["stage=fuse", f"fuse.checkpoints=[{RUNS}/whole/{seed}]", f"fuse.base={START}"]
        for arm, overrides in FUSED.items():
            if arm != "start" or seed == SEEDS[0]:  # it has no seed
                found.append(_step(arm, seed, [*SHARED, *fuse, "evaluate.before=false", *overrides], 0.4))
    return found


def _step(arm: str, seed: int, overrides: Sequence[str], minutes: float) -> Step:
    needs = (f"whole {seed}",) if arm in FUSED else ()
    return Step(f"{arm} {seed}", RUNS / arm / str(seed), [*overrides, f"seed={seed}"], minutes, needs=needs)


def results(root: Path = ROOT) -> dict[str, list[dict[str, float]]]:
    """Scores in percent by arm, one entry for each seed that has finished."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ("start", *TRAINED, *FUSED)}
    for step in steps():
        file = root / step.folder / RESULT_FILE
        if file.is_file():
            scores = json.loads(file.read_text("utf-8"))["scores"]
            found[step.name.split()[0]].append({task: 100 * score for task, score in scores.items()})
    return found


def write_page(page: Path = PAGE, root: Path = ROOT) -> bool:
    """Table, plot and the commands; arms that have not run are named. Whether there was anything to write."""
    arms = {arm: runs for arm, runs in results(root).items() if runs}
    if not arms:
        return False
    _plot(arms, page.with_suffix(".png"))
    missing = [step.name for step in steps() if not (root / step.folder / RESULT_FILE).is_file()]
    first = [step.command() for step in steps() if step.name.endswith(" 1")]
    commands = "\n".join(f"    python {shlex.join(command)}" for command in first)
    parts = [
        f"# Forgetting\n\n{TEXT}",
        "    python -m experiments.laboratory.forgetting",
        f"that is, for seed 1 (the other seeds likewise)\n\n{commands}",
        f"Not run: {', '.join(missing) or 'nothing'}. Run folders: `{RUNS}`.",
        f"{table(arms)}\n{_NOTE}",
        f"![tasks that were trained against text outside]({page.stem}.png)",
        kept_conclusion(page),
    ]
    page.write_text("\n\n".join(parts) + "\n", "utf-8")
    return True


def table(arms: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """One row an arm: every task and the two means."""
    tasks = list(next(iter(arms.values()))[0])
    rows = [["arm", "seeds", *tasks, "trained on", "outside"]]
    for arm, runs in arms.items():
        cells = [spread([run[task] for run in runs]) for task in tasks]
        means = [spread([side[index] for side in map(sides, runs)]) for index in (0, 1)]
        rows.append([f"`{arm}`", str(len(runs)), *cells, *means])
    return pipe_table(rows)


def sides(scores: Mapping[str, float]) -> tuple[float, float]:
    """The mean of the tasks that the training data is of, and of those outside."""
    inside = fmean(score for task, score in scores.items() if task not in OUTSIDE)
    return inside, fmean(scores[task] for task in OUTSIDE)


def _plot(arms: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for arm, runs in arms.items():
        points = [sides(run) for run in runs]
        x, y = (fmean(values) for values in zip(*points, strict=True))
        axes.plot(*zip(*points, strict=True), "o", color="0.75", markersize=3)
        axes.plot(x, y, "D" if arm in FUSED else "s", markersize=5)
        axes.annotate(arm, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=7)
    axes.set_xlabel("mean of seven tasks that the training data is of (%)", fontsize=8)
    axes.set_ylabel("mean of two tasks outside (%)", fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _write_page_after(step: Step) -> None:
    write_page()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what has not finished, and write the page after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the page again, run nothing")
    add_machine_arguments(parser)
    options = parser.parse_args(arguments)
    if options.page:
        write_page()
        return
    run_steps(steps(), _write_page_after, at_once=options.at_once, accelerator=options.accelerator)


if __name__ == "__main__":
    main()
