"""What is run: the arms of the comparison, and their stages as commands in fixed folders."""

from pathlib import Path
from typing import NamedTuple

from experiments.steps import Step

FOLDER = Path("outputs/three_stage")
SEEDS = (1, 2, 3)

# What all runs share: scores on the dev side, no loggers or probes that the tables do not read.
_QUIET = ("logger=local", "callbacks.probe=null", "export.verify=false")
_DEV = (*_QUIET, "evaluate.before=false", "task.split=dev", "task.baseline=false")
# Of the ways to pretrain tried on dev, the one that the start near a bag of words survives: the embedding of
# a text predicts the tokens left out of it, and only the token embeddings learn (experiments/LOG.md).
_PRETRAIN = (
    "tasks.lm.predict_from=embedding",
    "tasks.lm.mask_share=0.3",
    "tasks.lm.num_windows=1",
    "encoder.train_only=embed_tokens",
    "optimizer.lr=3e-3",
    "head_learning_rate=3e-3",
    "tasks.lm.global_batch_size=32",  # on dev better than half as many steps of 64
    "max_steps=2000",
)
_ALIGN = ("max_steps=80",)
_FINETUNE = ("max_steps=80", f"seed={','.join(map(str, SEEDS))}")
_FUSE = ("task.baseline=false",)


class Arm(NamedTuple):
    """One way to the final model: the runs before its finetuning, the last of which it starts from."""

    name: str
    title: str
    before: tuple[str, ...]  # names of steps, in order

    @property
    def start(self) -> Path:
        """The export that its seeds are fine-tuned from, and its fusion's base."""
        return FOLDER / self.before[-1] / "export"

    @property
    def finetune(self) -> Path:
        """The sweep over its seeds."""
        return FOLDER / self.name / "finetune"

    @property
    def fuse(self) -> Path:
        """The run that fuses its seeds and evaluates all of them on the test side."""
        return FOLDER / self.name / "fuse"


ARMS = (
    Arm("full", "all stages", ("random", "pretrain", "align")),
    Arm("no_pretrain", "without stage 1", ("random", "align_random")),
    Arm("no_align", "without stage 2", ("random", "pretrain")),
    Arm("neither", "without both", ("random",)),
)


def all_steps() -> list[Step]:
    """Every command; what arms have in common is run once."""
    return [*_before(), *map(_finetune, ARMS), *map(_fuse, ARMS)]


def _before() -> list[Step]:
    """The random weights that everything starts from, pretraining, and alignment with and without it."""
    random = ("max_steps=1", "optimizer.lr=0", *_DEV)
    return [
        Step("random", FOLDER / "random", random, minutes=1),
        _after("random", "pretrain", "stage=pretrain", _PRETRAIN, minutes=11),
        _after("pretrain", "align", "stage=align", _ALIGN, minutes=5),
        _after("random", "align_random", "stage=align", _ALIGN, minutes=5),
    ]


def _after(before: str, name: str, stage: str, length: tuple[str, ...], minutes: float) -> Step:
    start = f"model.path={FOLDER / before / 'export'}"
    return Step(name, FOLDER / name, (stage, start, *length, *_DEV), minutes, needs=(before,))


def _finetune(arm: Arm) -> Step:
    overrides = ("stage=finetune", f"model.path={arm.start}", *_FINETUNE, *_DEV)
    return Step(f"{arm.name}/finetune", arm.finetune, overrides, 5, sweep=True, needs=(arm.before[-1],))


def _fuse(arm: Arm) -> Step:
    jobs = ",".join(str(arm.finetune / str(job)) for job in range(len(SEEDS)))
    overrides = ("stage=fuse", f"fuse.checkpoints=[{jobs}]", f"fuse.base={arm.start}", *_FUSE, *_QUIET)
    return Step(f"{arm.name}/fuse", arm.fuse, overrides, minutes=4, needs=(f"{arm.name}/finetune",))
