"""The parts of the check: each a command of its own with its own time limit."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
_SHOWN = 40  # lines of the output of a part that failed


@dataclass(frozen=True)
class Part:
    """A question with the command that answers it.

    Attributes:
        name: short, for `--only` and file names.
        question: as the page has it.
        command: `{page}` stands for the Markdown file that it writes, if it writes one.
        limit: seconds; all limits together stay under 9 minutes.
    """

    name: str
    question: str
    command: tuple[str, ...]
    limit: float


@dataclass(frozen=True)
class Outcome:
    """What came of a part."""

    part: Part
    result: str  # "passed", or what failed
    seconds: float
    text: str  # its page, or the end of what it printed

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.result == "passed"


def parts(device: str, *, small: bool) -> list[Part]:
    """All parts, for a card or, in a small form, for the CPU of any machine, where imports take most time."""
    python = (sys.executable, "-m")
    on = ("--device", device, "--out", "{page}")
    quick = ("--quick",) if small else ()
    step = (*python, "experiments.benchmarks.gpu_step", *on, *quick)
    encode = (*python, "experiments.benchmarks.encode_speed", *on, *quick)
    marked = (*python, "pytest", "-n", "0", "-m", "requires_gpu", *gpu_tests())
    return [
        Part("tests", "Do the tests that need a card pass?", marked, 75 if small else 60),
        Part(
            "packed",
            "Is packed what padded is, for each architecture, gradients included?",
            (*python, "experiments.gpu_check.packed", *on),
            60 if small else 40,
        ),
        Part(
            "strategies",
            "Does every strategy train as one process does, and a resumed run as a whole one?",
            (*python, "experiments.gpu_check.strategies", *on),
            240 if small else 100,
        ),
        Part(
            "encode",
            "How fast is encoding?",
            encode if small else (*encode, "--texts", "4096"),
            90,
        ),
        Part(
            "step",
            "How fast is a training step, in which memory?",
            (*step, "--model", "youtu_tiny") if small else (*step, "--warmup", "1", "--steps", "3"),
            70 if small else 240,
        ),
    ]


def gpu_tests() -> list[str]:
    """The test files with the marker: collecting all others would take most of the time."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(f.relative_to(ROOT)) for f in files if "mark.requires_gpu" in f.read_text("utf-8")]


def run_part(part: Part, folder: Path) -> Outcome:
    """Run a part to its end or its limit; whatever it does ends with it."""
    page, started = folder / f"{part.name}.md", time.perf_counter()
    command = [word.replace("{page}", str(page)) for word in part.command]
    found = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | _OFFLINE | {"PYTHONPATH": found}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what it has started can be ended, too
    )
    try:
        said, _ = process.communicate(timeout=part.limit)
        result = "passed" if process.returncode == 0 else f"failed (exit code {process.returncode})"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        result = f"not done within {part.limit:g} s"
    text = page.read_text("utf-8") if page.is_file() else ""
    if result != "passed" or not text:
        text += "\n```text\n" + "\n".join(said.splitlines()[-_SHOWN:]) + "\n```\n"
    return Outcome(part, result, time.perf_counter() - started, text)
