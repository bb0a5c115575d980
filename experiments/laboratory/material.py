"""What the laboratory's arms train on and are scored on: texts of the frames grammar, or real ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep import papers

FRAMES_FOLDER = "data/laboratory"
OUTSIDE = (papers.RETRIEVAL, papers.CLASSIFICATION)  # text as no training file has it, on the dev side


class Material(NamedTuple):
    """Training files of both tasks, and the tasks of each kind.

    Attributes:
        folder: where data.py puts the arms' files.
        ir, sts: the files that they are made of.
        make: the command that makes those.
        groups: the tasks that score IR, and those that score STS.
        evaluated: the folder of the tasks; None for the builtin ones.
    """

    folder: Path
    ir: Sequence[Path]
    sts: Sequence[Path]
    make: str
    groups: Mapping[str, Sequence[str]]
    evaluated: Path | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """All of its tasks."""
        return tuple(task for group in self.groups.values() for task in group)

    def overrides(self, arm: Sequence[str], *, outside: bool = False) -> list[str]:
        """What an arm overrides, with this material in the place of frames, and scored outside of it, too."""
        tasks = f"task.tasks=[{','.join((*self.tasks, *(OUTSIDE if outside else ())))}]"
        if self.evaluated is None:
            return [*arm, tasks] if outside else list(arm)
        moved = [each.replace(f"{FRAMES_FOLDER}/", f"{self.folder}/") for each in arm]
        if not any(each.startswith("data.files=") for each in moved):
            moved.insert(0, f"data.files=[{self.folder}/ir.jsonl,{self.folder}/sts.jsonl]")
        return [*moved, "task=folder", f"task.data={self.evaluated}", tasks]


FRAMES = Material(
    folder=Path(FRAMES_FOLDER),
    ir=(Path("data/builtin/train/frames_ir.jsonl"),),
    sts=(Path("data/builtin/train/frames_sts.jsonl"),),
    make="make data",
    groups={
        "IR": ("FramesRetrieval", "FramesReranking"),
        "STS": ("FramesSTS", "FramesPairClassification"),
    },
)
_REAL = Path("data/real")
REAL = Material(
    folder=Path("data/laboratory_real"),
    ir=(_REAL / "train/glosses_ir.jsonl", _REAL / "train/idioms_ir.jsonl"),
    sts=(_REAL / "train/diagnoses_sts.jsonl",),
    make="python -m data_prep real",
    groups={"IR": ("GlossRetrieval", "IdiomRetrieval"), "STS": ("DiagnosisSTS", "DiagnosisPairs")},
    evaluated=_REAL / "eval",
)
ENGLISH = REAL._replace(
    folder=Path("data/laboratory_real_english"),
    ir=REAL.ir[:1],
    groups={"IR": ("GlossRetrieval",), "STS": REAL.groups["STS"]},
)
