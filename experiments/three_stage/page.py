"""The experiment's page: everything on it is generated from the runs, but the conclusion, which is kept."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev

from experiments.conclusion import kept_conclusion
from experiments.three_stage.plan import ARMS, SEEDS, Arm
from experiments.three_stage.tables import (
    ArmScores,
    dev_table,
    gain_table,
    mean,
    minutes_table,
    stage_gains,
    test_table,
)

_COMMAND = "python -m experiments.three_stage.run"
_QUESTION = f"""# Three stages: does each one pay?

Question: pretrain -> align -> finetune ({len(SEEDS)} seeds) -> fuse with youtu_tiny on the builtin data, two
CPU cores: is the final model better than the same model fine-tuned without stage 1, without stage 2, and
without fusion, at the same number of fine-tuning steps?

```bash
make data-all                              # raw text and weak pairs, once
{_COMMAND}      # goes on where it stopped: finished steps are skipped, others resumed
```
"""
_CLOCKS = """Minutes by the runs' own clocks, two at a time on a core each (with evaluation, without
starting Python):"""
_LIMITS = f"""The deviation is that of the {len(SEEDS)} fine-tuning seeds. The stages before it were run once,
with one seed, so it says nothing about their luck. The best seed was chosen on the dev side.
"""


def write_page(folder: Path, arms: Mapping[str, ArmScores]) -> Path:
    """Write README.md and plot.png; the conclusion stays as it was."""
    page = folder / "README.md"
    plot_arms(arms, folder / "plot.png")
    sections = [
        _QUESTION,
        f"{_CLOCKS}\n\n{minutes_table()}",
        f"## Result, on the test side\n\n{test_table(arms)}\n{_LIMITS}",
        f"What each stage adds to the mean over tasks:\n\n{gain_table(stage_gains(arms))}",
        "![mean over tasks by arm](plot.png)\n",
        f"## After each stage, on the dev side\n\n{dev_table()}",
        kept_conclusion(page) + "\n",
    ]
    page.write_text("\n".join(sections), "utf-8")
    return page


def plot_arms(arms: Mapping[str, ArmScores], path: Path) -> None:
    """A line per arm, the full one on top: its seeds, their mean with one deviation, and their fusion."""
    from matplotlib.figure import Figure  # half a second to import

    shown: list[Arm] = [arm for arm in ARMS if arm.name in arms]
    figure = Figure(figsize=(7, 1.1 + 0.5 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, arm in enumerate(shown):
        seeds = [mean(scores) for scores in arms[arm.name].test]
        label = None if row else "seeds", None if row else "their mean ± sd", None if row else "fused"
        axes.plot(seeds, [row] * len(seeds), "o", color="0.6", markersize=4, label=label[0])
        axes.errorbar(fmean(seeds), row, xerr=stdev(seeds), fmt="D", color="C0", capsize=3, label=label[1])
        axes.plot(mean(arms[arm.name].fused), row, "*", color="C1", markersize=11, label=label[2])
    axes.set_yticks(range(len(shown)), [arm.title for arm in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("mean over the tasks of the test side (%)")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)
