"""Try exports under other releases of their two libraries: python -m experiments.consumers.run

One environment per pair of releases, made with the registry that pip is set to, one after the other, each
deleted when it has answered. torch is installed once, first and alone, and all pairs see it. About a minute
and 200 MB a pair, 1.2 GB for torch and what else they share. Writes answers.json and README.md beside it, and
exits 1 if a cell is wrong silently, but for AutoModel under 5.0 and 5.1 (head.md says why).
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
_SHARED = ["numpy", "scikit-learn", "pillow", "pyyaml", "requests", "tqdm", "typer"]  # neither pins them
_NO_WAY_TO_REFUSE = ("T 5.0.0", "T 5.1.0")  # AutoModel alone, see head.md
ANSWERS = HERE / "answers.json"
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
    """1 if any cell is wrong without a word, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", nargs="*", help="such as 5.1.2/4.57.6; the others keep their last answer")
    options = parser.parse_args()
    pairs = [Pair(*text.split("/")) for text in options.pairs] if options.pairs else PAIRS
    answers = _recorded()
    with tempfile.TemporaryDirectory(prefix="consumers-") as name:
        folder = Path(name)
        write_exports(folder / "exports")
        torch_site = environment(folder / "torch", [f"torch=={TORCH}"], _SHARED)
        for pair in pairs:
            started = time.monotonic()
            answers[str(pair)] = _ask(pair, folder, torch_site)
            _log(f"{pair}: {time.monotonic() - started:.0f} s")
            _record(answers)
    silent = [
        f"{pair}, {export}, {door}"
        for pair, outcomes in answers.items()
        for export, row in outcomes.items()
        for door, text in row.items()
        if "silently" in text and not (door == "transformers" and pair.endswith(_NO_WAY_TO_REFUSE))
    ]
    _log("\n".join(["wrong silently:", *silent]) if silent else "nothing is wrong silently that need not be")
    return min(len(silent), 1)


def _recorded() -> dict[str, Outcomes]:
    """What every pair answered last, in the order of PAIRS."""
    if not ANSWERS.is_file():
        return {}
    answers: dict[str, Outcomes] = json.loads(ANSWERS.read_text("utf-8"))
    return answers


def _record(answers: dict[str, Outcomes]) -> None:
    order = {str(pair): number for number, pair in enumerate(PAIRS)}
    rows = dict(sorted(answers.items(), key=lambda item: order.get(item[0], len(order))))
    ANSWERS.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    (HERE / "README.md").write_text(page(rows), "utf-8")


def _log(text: str) -> None:
    sys.stderr.write(text + "\n")


def page(answers: dict[str, Outcomes]) -> str:
    """The table, and what each refusal says."""
    pairs = list(answers)
    said: dict[str, int] = {}  # number of the footnote, by message
    lines = [(HERE / "head.md").read_text("utf-8")]
    for door in DOORS:
        title = {"sentence-transformers": "SentenceTransformer", "transformers": "AutoModel, documents"}[door]
        lines += [
            f"## {title}\n",
            "| export | " + " | ".join(pairs) + " |",
            "|---" * (len(pairs) + 1) + "|",
        ]
        for export in sorted(set().union(*answers.values())):
            cells = [_cell(answers[pair].get(export, {}).get(door, ""), said) for pair in pairs]
            lines.append(f"| {export} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## What a refusal says\n", *(f"{number}. `{text}`" for text, number in said.items()), ""]
    return "\n".join(lines)


def _cell(outcome: str, said: dict[str, int]) -> str:
    if not outcome.startswith("refuses: "):
        return f"**{outcome}**" if "wrong" in outcome else outcome
    number = said.setdefault(outcome.removeprefix("refuses: "), len(said) + 1)
    return f"refuses ({number})"


def _ask(pair: Pair, folder: Path, torch_site: Path) -> Outcomes:
    """Make the pair's environment, run probe.py in it, delete it."""
    environment = folder / "pair"
    packages = [f"sentence-transformers=={pair.sentence_transformers}", f"transformers=={pair.transformers}"]
    environment(environment, [*packages, f"torch=={TORCH}"], beside=torch_site)
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


def environment(folder: Path, *installs: list[str], beside: Path | None = None) -> Path:
    """A virtual environment with packages, which also sees those at `beside`; returns its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    site = next((folder / "lib").glob("python*")) / "site-packages"
    if beside is not None:
        (site / "beside.pth").write_text(f"{beside}\n", "utf-8")
    for packages in installs:
        options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", python, "install", *options, *packages], check=True
        )
    return site


if __name__ == "__main__":
    sys.exit(main())
