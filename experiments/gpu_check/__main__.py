"""What only a card can show, in one command and under nine minutes, on a page named after the card.

    python -m experiments.gpu_check                       # one card of 80 GB, no network: make gpu-check
    python -m experiments.gpu_check --device cpu --small  # does it run at all?
    python -m experiments.gpu_check --only step encode    # some of the parts

Each part has its own time limit; one that fails stops no other. The page is written after each of them. Exits
with 1 where one has failed.
"""

import argparse
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from codiemb.tables import pipe_table
from experiments.gpu_check.parts import Outcome, Part, parts, run_part


def check(chosen: Sequence[Part], card: str, out: Path) -> bool:
    """Run the parts; leave the page in the folder `out`. Whether all have passed."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / (re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-") + ".md")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen:
            print(f"{part.name}: {part.question}", flush=True)
            outcomes.append(run_part(part, Path(folder)))
            print(f"    {outcomes[-1].result}, {outcomes[-1].seconds:.0f} s", flush=True)
            file.write_text(page(card, outcomes), "utf-8")
    print(file)
    return all(outcome.passed for outcome in outcomes)


def page(card: str, outcomes: Sequence[Outcome]) -> str:
    """First what passed and what did not, then each part's own page."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "deepspeed"))
    rows = [(each.part.name, each.part.question, each.result, f"{each.seconds:.0f}") for each in outcomes]
    sections = [f"## {each.part.name}\n\n{_below(each.text)}" for each in outcomes]
    head = f"# {card}\n\n{packages}, Python {platform.python_version()}; {date.today().isoformat()}.\n"
    return "\n".join([head, pipe_table([("part", "question", "result", "seconds"), *rows], 3), *sections])


def _below(text: str) -> str:
    """A page as part of another: its headings two levels down."""
    return re.sub(r"^(?=#+ )", "##", text, flags=re.MULTILINE).strip() + "\n"


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models, numbers without meaning")
    parser.add_argument("--only", nargs="+", help="names of parts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the page")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu --small shows that the check runs")
    everything = parts(args.device, small=args.small)
    names = [part.name for part in everything]
    if unknown := set(args.only or ()) - set(names):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [part for part in everything if not args.only or part.name in args.only]
    card = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    sys.exit(0 if check(chosen, card, args.out) else 1)


if __name__ == "__main__":
    main()
