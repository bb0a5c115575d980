"""More seeds where three have not decided a question, one after the other, until a budget is spent."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments.laboratory.pages import contrasts
from experiments.laboratory.question import Contrast, Question
from experiments.laboratory.questions import owner
from experiments.laboratory.results import (
    KINDS,
    Difference,
    Run,
    by_arm,
    difference,
    possible_looks,
    question_runs,
)
from experiments.steps import ROOT, Step, run_steps

Work = Callable[..., None]  # run_steps, or the same with more of its arguments given
SMALL = 1.0  # points: whoever could have seen less than that has looked closely enough


def is_decided(found: Difference) -> bool:
    """Whether there is a difference, or a difference of a point would have been seen."""
    return found.beyond_noise or found.smallest <= SMALL


def undecided(question: Question, arms: Mapping[str, Sequence[Run]]) -> list[Contrast]:
    """Its comparisons that are not decided, for IR or for STS; not those that cannot be made yet.

    Judged as a sequential experiment from the first look on: each has its share of the level.
    """
    found, looks = [], possible_looks(question)
    for contrast in contrasts(question, arms):
        parts = [difference(contrast, arms, kind, looks) for kind in KINDS]
        if any(part is not None and not is_decided(part) for part in parts):
            found.append(contrast)
    return found


def next_steps(question: Question, root: Path = ROOT) -> list[Step]:
    """The next seed of every arm of an undecided comparison: the same for all of them. None: it is over."""
    arms = by_arm(question_runs(question, root))
    named = dict.fromkeys(arm for contrast in undecided(question, arms) for arm in contrast.weights)
    for seed in question.more_seeds:
        lacking = [arm for arm in named if seed not in {run.seed for run in arms[arm]}]
        if lacking:
            return [owner(question, arm).more(arm, seed) for arm in lacking]
    return []


def go_on(question: Question, minutes: float, work: Work = run_steps, at_once: int = 1) -> bool:
    """Give undecided comparisons a further seed, look again, and so on, while the next fit the budget.

    Args:
        question: whose own seeds have run.
        minutes: the budget.
        work: runs steps, `at_once` beside each other.
        at_once: how many.

    Returns:
        Whether any was run.
    """
    ends, any_run = time.monotonic() + 60 * minutes, False
    while steps := next_steps(question):
        if time.monotonic() + 60 * sum(step.minutes for step in steps) / min(at_once, len(steps)) > ends:
            break
        work(steps)
        any_run = True
    return any_run
