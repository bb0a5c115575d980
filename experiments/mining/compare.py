"""What runs that differ in their negatives have scored: every seed, and each arm less another, paired."""

import json
from collections.abc import Sequence
from pathlib import Path

from codiemb.config.result import RESULT_FILE
from codiemb.tables import pipe_table, spread
from experiments.laboratory.question import less
from experiments.laboratory.results import Run, by_arm, difference


def finished(folder: Path, arms: Sequence[str], seeds: Sequence[int], task: str) -> list[Run]:
    """The runs `ARM/SEED` of a folder that have finished, seed by seed; scores in percent."""
    runs = []
    for seed in seeds:
        for arm in arms:
            file = folder / arm / str(seed) / RESULT_FILE
            if file.is_file():
                result = json.loads(file.read_text("utf-8"))
                runs.append(Run(arm, seed, {task: 100 * result["scores"][task]}, result["seconds"]))
    return runs


def table(runs: Sequence[Run], base: str, seeds: Sequence[int], task: str, *, smallest: bool = False) -> str:
    """A row an arm; `smallest`: also the true difference that four of five such experiments would find."""
    arms = by_arm(list(runs))
    rows = [["negatives", *(f"seed {seed}" for seed in seeds), "mean ± sd", f"less {base} ± standard error"]]
    if smallest:
        rows[0].append("smallest difference that would be found")
    for arm, of_arm in arms.items():
        of_seed = {run.seed: run.scores[task] for run in of_arm}
        cells = [f"{of_seed[seed]:.2f}" if seed in of_seed else "" for seed in seeds]
        found = None if arm == base else difference(less(arm, base), arms, task)
        paired = [f"{found.mean:+.2f} ± {found.error:.2f}{' *' * found.beyond_noise}" if found else ""]
        if smallest:
            paired.append(f"{found.smallest:.2f}" if found else "")
        rows.append([arm, *cells, spread(list(of_seed.values())), *paired])
    return pipe_table(rows)
