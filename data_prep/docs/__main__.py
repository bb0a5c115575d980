"""Command line: python -m data_prep.docs --out DIR."""

import argparse
from pathlib import Path

from data_prep.docs.build import MAX_FILES, PACKAGES, build_docs


def main() -> None:
    """Parses the arguments and builds the corpus."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.docs", description=build_docs.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives train/ and eval/")
    parser.add_argument("--seed", type=int, default=0, help="chooses the entries and the test queries")
    parser.add_argument(
        "--packages", nargs="+", default=PACKAGES, help="top-level names of installed packages"
    )
    parser.add_argument("--max-files", type=int, default=MAX_FILES, help="source files read per package")
    parser.add_argument("--workers", type=int, default=2, help="processes that parse")
    args = parser.parse_args()
    build_docs(args.out, args.seed, args.packages, args.max_files, args.workers)


if __name__ == "__main__":
    main()
