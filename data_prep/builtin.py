"""Make the builtin data: `python -m data_prep`, and with `--all` what the other stages train on."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text, written_whole
from codiemb.json_files import read_jsonl
from data_prep import papers
from data_prep.docs.build import build_docs
from data_prep.docs.other_stages import build_docs_extra
from data_prep.frames.build import build_frames
from data_prep.frames.other_stages import RAW, TASKS, build_frames_extra
from data_prep.manifest import hash_file
from data_prep.tokenizer import train_tokenizer

SEED = 49
MANIFEST = "manifest.json"
EXTRA_MANIFEST = "manifest_extra.json"


def main(arguments: Sequence[str], epilog: str = "") -> None:
    """Build what is not there yet; `epilog` ends the help."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description=__doc__,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/builtin"))
    parser.add_argument(
        "--force",
        action="store_true",
        help="rebuild; what --all has added goes, too, unless --all is given again",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also raw text (stage=pretrain) and weak pairs (stage=align)",
    )
    options = parser.parse_args(arguments)
    if (options.out / MANIFEST).is_file() and not options.force:
        print(f"{options.out} is there already; --force rebuilds it")
    else:
        build_whole(options.out)
    build_outside(options.out)
    build_tasks(options.out)
    if options.all and not (options.out / EXTRA_MANIFEST).is_file():
        build_extra(options.out)


def build_outside(out: Path) -> None:
    """What tells on the dev side what a training forgets."""
    if not (out / "eval" / "dev" / papers.CLASSIFICATION / "test.jsonl").is_file():
        print(f"outside of the training data: {papers.build_papers(out)}")


def build_tasks(out: Path) -> None:
    """The training files that data=builtin_all adds; written after all others, the last of them last."""
    files = [out / "train" / f"frames_{name}.jsonl" for name in TASKS]
    if not all(file.is_file() for file in files):
        counts = build_frames_extra(out, SEED, names=TASKS)
        print(f"data=builtin_all: {counts}")


def build_whole(out: Path) -> None:
    """All of it or nothing: an interrupted run leaves no half-made data, and what was there before."""
    with written_whole(out) as temporary:
        build(temporary)
    print(f"builtin data: {out}")


def build(out: Path) -> None:
    """Write train/, eval/, tokenizer/ and manifest.json under `out`."""
    start = time.perf_counter()
    counts: dict[str, Any] = {"docs": build_docs(out, SEED), "frames": build_frames(out, SEED)}
    print("training the tokenizer ...", file=sys.stderr)
    counts["tokenizer"] = {"vocab_size": train_tokenizer(training_texts(out / "train"), out / "tokenizer")}
    files = sorted(path for path in out.rglob("*") if path.is_file())
    _write_manifest(out / MANIFEST, counts, files, start)


def build_extra(out: Path) -> None:
    """Add the training files that the default run does not need, and manifest_extra.json, written last."""
    start = time.perf_counter()
    counts = build_docs_extra(out) | build_frames_extra(out, SEED, names=RAW)
    _write_manifest(out / EXTRA_MANIFEST, counts, [out / name for name in counts], start)
    print(f"builtin data of all stages: {out}")


def _write_manifest(path: Path, counts: dict[str, Any], files: list[Path], start: float) -> None:
    manifest = {
        "seed": SEED,
        "counts": counts,
        "sha256": {str(file.relative_to(path.parent)): hash_file(file) for file in files},
        "packages": {
            name: metadata.version(name) for name in ("torch", "transformers", "numpy", "tokenizers")
        },
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_text(path, json.dumps(manifest, indent=2) + "\n")


def training_texts(train: Path) -> Iterator[str]:
    """Every text of the training files once per line it stands in (hard negatives are texts of others)."""
    for path in sorted(train.glob("*.jsonl")):
        for record in read_jsonl(path):
            for instruction, _, text in [record["query"], *record["positives"]]:
                yield f"{instruction}\n{text}"
