"""Run docs/usage.md in the tools' own environments: python -m experiments.consumers.usage

LangChain and LlamaIndex share an environment (the extra `usage`), infinity has one: neither fits ours. Made
with the registry that pip is set to, about 2 GB, some minutes. Writes usage.json and usage.md beside it;
tests/docs/test_usage.py holds the page to them. By hand, or nightly. Exits 1 where a difference is above 1e-5
and SAID does not explain it.
"""

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from experiments.consumers import server
from experiments.consumers.run import HERE, TORCH, environment
from experiments.consumers.usage_exports import write_exports

ROOT = HERE.parents[1]
PAGE = ROOT / "docs/usage.md"
ANSWERS = HERE / "usage.json"
MOST = 1e-5
BLOCKS = {
    "LangChain": "langchain_huggingface",
    "LangChain, own class": "class ExportEmbeddings",
    "LlamaIndex": "llama_index",
    "server": "/v1/embeddings",
}  # by a mark that no other block has
Differences = dict[str, dict[str, dict[str, float]]]  # by way, export, kind of texts and side
# Why a difference is above 1e-5, by way, kind of texts, and the beginning of the export's name.
SAID = {
    ("LangChain", "breaks", ""): "turns each line break of a text into a space",
    ("server", "plain", "bert_mean_colon"): "pools the prompt with the text",
    ("server", "breaks", "bert_mean_colon"): "pools the prompt with the text",
    ("server", "spaces", "bert_mean_colon"): "pools the prompt with the text, and strips both",
    ("server", "spaces", ""): "strips prompt and text together (sentence-transformers 3)",
}


def block_of(way: str) -> str:
    """The block of the page that shows a way."""
    blocks = [part.partition("```")[0] for part in PAGE.read_text("utf-8").split("```python\n")[1:]]
    return next(block for block in blocks if BLOCKS[way] in block)


def hashes() -> dict[str, str]:
    """Which blocks the page has now."""
    return {way: hashlib.sha256(block_of(way).encode()).hexdigest() for way in BLOCKS}


def reason(way: str, export: str, kind: str) -> str:
    """What is known of a difference above 1e-5; "" if nothing is."""
    known = [why for (w, k, e), why in SAID.items() if (w, k) == (way, kind) and export.startswith(e)]
    return known[0] if known else ""


def main() -> int:
    """1 if a difference is large and nobody said why, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep environments and exports here, and use those again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usage-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        if not (folder / "exports").is_dir():
            write_exports(folder / "exports")
        found = _answers(folder)
    ANSWERS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (HERE / "usage.md").write_text(page(found), "utf-8")
    unknown = unexplained(found["differences"])
    sys.stderr.write("\n".join(unknown or ["nothing is off that has no reason"]) + "\n")
    return min(len(unknown), 1)


def _answers(folder: Path) -> dict[str, Any]:
    """What usage.json holds."""
    (folder / "blocks").mkdir(exist_ok=True)
    for way in BLOCKS:
        (folder / "blocks" / way).write_text(block_of(way), "utf-8")
    tools = _tools(folder)
    served = server.ask(folder, _kept(folder / "server", server.PACKAGES), block_of("server"))
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "blocks": hashes(),
        "versions": tools["versions"] | served["versions"],
        "differences": tools["differences"] | {"server": served["differences"]},
        "refuses": served["refuses"],
    }


def unexplained(differences: Differences) -> list[str]:
    """Way, export and texts of differences above 1e-5 without a reason."""
    return [
        f"{way}, {export}, {texts}: {number:.1e}"
        for way, exports in differences.items()
        for export, row in exports.items()
        for texts, number in row.items()
        if number > MOST and not reason(way, export, texts.partition(",")[0])
    ]


def page(found: dict[str, Any]) -> str:
    """One table a way: the largest difference by export and kind of texts."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [
        (HERE / "usage_head.md").read_text("utf-8"),
        f"Run on {found['date']} with {versions}, torch {TORCH}.\n",
    ]
    notes: dict[str, int] = {}
    for way, exports in found["differences"].items():
        columns = list(dict.fromkeys(key.partition(",")[0] for row in exports.values() for key in row))
        lines += [f"## {way}\n", f"| export | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for export, row in exports.items():
            cells = [_cell(way, export, column, row, notes) for column in columns]
            lines.append(f"| {export} | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"The server refuses {export}: `{text}`\n" for export, text in found["refuses"].items()]
    return "\n".join([*lines, *(f"{number}. {text}" for text, number in notes.items()), ""])


def _cell(way: str, export: str, column: str, row: dict[str, float], notes: dict[str, int]) -> str:
    largest = max(number for key, number in row.items() if key.partition(",")[0] == column)
    if largest <= MOST:
        return f"{largest:.0e}"
    why = reason(way, export, column) or "not explained"
    return f"**{largest:.0e}** ({notes.setdefault(why, len(notes) + 1)})"


def _tools(folder: Path) -> dict[str, Any]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    packages = [*extras["usage"], "sentence-transformers==6.2.0", "transformers==5.23.0"]
    python = _kept(folder / "tools", packages)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, HERE / "usage_probe.py", folder],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=clean | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _kept(folder: Path, packages: list[str]) -> Path:
    """The Python of an environment, made unless it is there."""
    if not folder.is_dir():
        environment(folder, [f"torch=={TORCH}"], [f"torch=={TORCH}", *packages])
    return folder / "bin" / "python"


if __name__ == "__main__":
    sys.exit(main())
