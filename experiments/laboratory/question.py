"""What a question of the laboratory is: arms that are compared, and the sweep over seeds that each takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.laboratory.arms import ARMS, EXPERIMENT
from experiments.laboratory.material import FRAMES, Material
from experiments.steps import Step

SWEEPS = Path("multirun/laboratory")
SEEDS = (1, 2, 3)
FIVE_SEEDS = (1, 2, 3, 4, 5)
ALL_SEEDS = (*FIVE_SEEDS, 6, 7)  # the last ones where the first have not decided
MINUTES_A_RUN = 1.0  # on one of two quiet cores


class Contrast(NamedTuple):
    """A weighted sum of arms' scores, taken seed by seed: usually one arm less another."""

    label: str
    weights: Mapping[str, int]


def less(arm: str, other: str) -> Contrast:
    """`arm` minus `other`."""
    return Contrast(f"{arm} - {other}", {arm: 1, other: -1})


class Question(NamedTuple):
    """Arms that are compared.

    Attributes:
        name: of its page and its sweep.
        text: the question, and what its arms differ in.
        arms: names of arms.ARMS that it runs, a sweep over the seeds each.
        contrasts: the comparisons of the page.
        borrowed: arms that it shares with other questions, as (question, arm): their runs are those.
        scatter: plot IR against STS instead of rows.
        overrides: of all its arms.
        split: that its arms are scored on: dev where something may be chosen by it.
        needs: folders without which it can't be asked.
        material: what its arms train on and are scored on.
        seeds: that every arm gets.
        outside: whether its arms are scored on text outside of the training data, too; on dev alone.
    """

    name: str
    text: str
    arms: Sequence[str]
    contrasts: Sequence[Contrast]
    borrowed: Sequence[tuple[str, str]] = ()
    scatter: bool = False
    overrides: Sequence[str] = ()
    split: str = "test"
    needs: Sequence[Path] = ()
    material: Material = FRAMES
    seeds: Sequence[int] = SEEDS
    outside: bool = False

    @property
    def more_seeds(self) -> Sequence[int]:
        """Those that follow, where its own have not decided."""
        return ALL_SEEDS[len(self.seeds) :]

    def step(self, arm: str) -> Step:
        """The sweep of one of its arms: one an arm, as Hydra can only multiply choices of one key each."""
        return sweep(f"{self.name}/{arm}", self._overrides(arm, over(self.seeds)), len(self.seeds))

    def more(self, arm: str, seed: int) -> Step:
        """A further seed of one of its arms."""
        return sweep(f"{self.name}/{arm}_seed_{seed}", self._overrides(arm, f"seed={seed}"), 1)

    def _overrides(self, arm: str, seeds: str) -> list[str]:
        split = [f"task.split={self.split}"] if self.split != "test" else []
        return [
            EXPERIMENT,
            *self.material.overrides(ARMS[arm], outside=self.outside),
            seeds,
            *self.overrides,
            *split,
        ]


def over(seeds: Sequence[int]) -> str:
    """The override that makes a sweep go through them."""
    return f"seed={','.join(map(str, seeds))}"


def sweep(name: str, overrides: list[str], num_runs: int, minutes_a_run: float = MINUTES_A_RUN) -> Step:
    """A sweep in the laboratory's folder."""
    return Step(name, SWEEPS / name, overrides, num_runs * minutes_a_run, sweep=True)
