"""Build the frames corpus: `python -m data_prep.frames --out DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_prep.frames.build import build_frames


def main() -> None:
    """Build, then print the number of records of each file."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.frames", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write train/ and eval/ into")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, count in build_frames(options.out, options.seed).items():
        print(f"{count:>7,}  {name}")


if __name__ == "__main__":
    main()
