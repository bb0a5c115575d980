"""`python -m codiemb.report RUN_FOLDER [RUN_FOLDER ...]`: write report.html into each."""

import argparse
import sys
from pathlib import Path

from codiemb.errors import UserError
from codiemb.report.page import write_report


def main() -> None:
    """Write the reports and print their paths; exits with 2 where a folder is no run folder."""
    parser = argparse.ArgumentParser(prog="python -m codiemb.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_FOLDER")
    try:
        for folder in parser.parse_args().folders:
            sys.stdout.write(f"{write_report(folder)}\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
