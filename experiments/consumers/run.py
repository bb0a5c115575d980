"""Try exports under other releases of their two libraries: python -m experiments.consumers.run

One environment per pair of releases, made with the registry that pip is set to, one after the other, each
deleted when it has answered. torch is installed once and alone, and all pairs see it. About a minute and
500 MB a pair, 1.5 GB for torch. Writes experiments/consumers/README.md; exits 1 if a cell is wrong silently.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from experiments.consumers.exports import write_exports

HERE = Path(__file__).parent
TORCH = "2.13.0"
DOORS = ("sentence-transformers", "transformers")
Outcomes = dict[str, dict[str, str]]  # by export, then by door


class Pair(NamedTuple):
    """One consumer's environment."""

    sentence_transformers: str
    transformers: str

    def __str__(self) -> str:
        return f"ST {self.sentence_transformers}, T {self.transformers}"


PAIRS = [
    Pair("6.2.0", "5.23.0"),
    Pair("6.0.1", "5.2.0"),
    Pair("6.0.1", "5.1.0"),
    Pair("5.7.0", "5.23.0"),
    Pair("5.4.1", "5.2.0"),
    Pair("5.4.1", "4.57.6"),
    Pair("5.3.0", "5.2.0"),
    Pair("5.3.0", "5.0.0"),
    Pair("5.3.0", "4.57.6"),
    Pair("5.2.3", "5.2.0"),
    Pair("5.2.3", "4.57.6"),
    Pair("5.1.2", "4.57.6"),
]


def main() -> int:
    """The number of cells that are wrong without a word, as an exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", nargs="*", help="such as 5.1.2/4.57.6; default all")
    parser.add_argument("--out", type=Path, default=HERE / "README.md")
    options = parser.parse_args()
    pairs = [Pair(*text.split("/")) for text in options.pairs] if options.pairs else PAIRS
    answers: dict[Pair, Outcomes] = {}
    with tempfile.TemporaryDirectory(prefix="consumers-") as name:
        folder = Path(name)
        write_exports(folder / "exports")
        torch_site = _environment(folder / "torch", [f"torch=={TORCH}"])
        for pair in pairs:
            started = time.monotonic()
            answers[pair] = _ask(pair, folder, torch_site)
            sys.stderr.write(f"{pair}: {time.monotonic() - started:.0f} s\n")
            options.out.write_text(page(answers), "utf-8")
    silent = sum(
        "silently" in text
        for outcomes in answers.values()
        for doors in outcomes.values()
        for text in doors.values()
    )
    sys.stderr.write(f"{silent} wrong silently\n")
    return min(silent, 1)


def page(answers: dict[Pair, Outcomes]) -> str:
    """The table, and what each refusal says."""
    pairs = list(answers)
    said: dict[str, int] = {}  # number of the footnote, by message
    lines = [(HERE / "head.md").read_text("utf-8")]
    for door in DOORS:
        title = {"sentence-transformers": "SentenceTransformer", "transformers": "AutoModel, documents"}[door]
        lines += [
            f"## {title}\n",
            "| export | " + " | ".join(str(pair) for pair in pairs) + " |",
            "|---" * (len(pairs) + 1) + "|",
        ]
        for export in answers[pairs[0]]:
            cells = [_cell(answers[pair][export][door], said) for pair in pairs]
            lines.append(f"| {export} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## What a refusal says\n", *(f"{number}. `{text}`" for text, number in said.items()), ""]
    return "\n".join(lines)


def _cell(outcome: str, said: dict[str, int]) -> str:
    if not outcome.startswith("refuses: "):
        return outcome if outcome == "right" else f"**{outcome}**"
    number = said.setdefault(outcome.removeprefix("refuses: "), len(said) + 1)
    return f"refuses ({number})"


def _ask(pair: Pair, folder: Path, torch_site: Path) -> Outcomes:
    """Make the pair's environment, run probe.py in it, delete it."""
    environment = folder / "pair"
    packages = [f"sentence-transformers=={pair.sentence_transformers}", f"transformers=={pair.transformers}"]
    _environment(environment, [*packages, f"torch=={TORCH}"], torch_site)
    try:
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [environment / "bin" / "python", HERE / "probe.py", folder / "exports"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=clean | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    finally:
        shutil.rmtree(environment)
    outcomes: Outcomes = json.loads(done.stdout.splitlines()[-1])
    return {
        export: {door: text.replace(f"{folder}/exports/", "") for door, text in doors.items()}
        for export, doors in outcomes.items()
    }


def _environment(folder: Path, packages: list[str], beside: Path | None = None) -> Path:
    """A virtual environment with packages, which also sees those at `beside`; returns its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    if beside is not None:
        (site / "beside.pth").write_text(f"{beside}\n", "utf-8")
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *packages], check=True)
    return site


if __name__ == "__main__":
    sys.exit(main())
