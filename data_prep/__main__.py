"""Prepare data: `python -m data_prep` makes the builtin data, `python -m data_prep STEP` takes one step."""

from codiemb.stop import at_once

if __name__ == "__main__":
    at_once.listen()  # until its imports are done

import argparse
import ast
import sys
from importlib import import_module
from pathlib import Path

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml
from data_prep import builtin, minilm, pipeline
from data_prep.lineage import way
from data_prep.options import add_options, build, given
from data_prep.real import build as real
from data_prep.runner import STEPS, load_step, run_step

_OTHERS = {"run": pipeline, "lineage": way, "minilm": minilm, "real": real}


def main(arguments: list[str]) -> None:
    """Take the step that the first argument names."""
    if not arguments or arguments[0].startswith("-"):
        builtin.main(arguments, epilog=_overview())
    elif arguments[0] == "minilm":
        minilm.main(arguments[1:])
    elif arguments[0] == "real":
        real.main(arguments[1:])
    elif arguments[0] == "run":
        _run(arguments[1:])
    elif arguments[0] == "lineage":
        _lineage(arguments[1:])
    elif arguments[0] in STEPS:
        _step(arguments[0], arguments[1:])
    else:
        raise UserError(
            f"data_prep: no step {arguments[0]!r}; there are {', '.join(STEPS)}, {', '.join(_OTHERS)}"
        )


def _overview() -> str:
    """A line for each step, read and not imported: with torch behind them that would take seconds."""
    files = {name: Path(__file__).parent / "steps" / f"{name}.py" for name in STEPS}
    files |= {name: Path(str(module.__file__)) for name, module in _OTHERS.items()}
    docs = {name: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for name, path in files.items()}
    lines = [f"  {name:<15}{doc.partition(chr(10))[0]}" for name, doc in docs.items()]
    return "\n".join(["steps (`python -m data_prep STEP --help`; docs/data_prep.md):", *lines])


def _step(name: str, arguments: list[str]) -> None:
    step = load_step(name)
    about = import_module(f"data_prep.steps.{name}").__doc__ or ""
    parser = argparse.ArgumentParser(
        prog=f"python -m data_prep {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if step.inputs != "none":
        several = step.inputs == "many"
        needed = step.inputs == "one"  # a step may also name files, or make what it needs
        parser.add_argument(
            "--in",
            dest="folders",
            type=Path,
            required=needed,
            default=[],
            metavar="DIR",
            nargs="+" if several else 1,
            help="read this",
        )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="write this: whole, or not at all"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file with the options below")
    add_options(parser, step.parameters)
    parsed = parser.parse_args(arguments)
    values = read_yaml(parsed.config) if parsed.config else {}
    build(step.parameters, values, str(parsed.config))  # so that the errors of the file name it
    options = build(step.parameters, values | given(step.parameters, parsed), f"data_prep {name}")
    run_step(name, getattr(parsed, "folders", []), parsed.out, options)


def _run(arguments: list[str]) -> None:
    about = pipeline.run_pipeline.__doc__
    parser = argparse.ArgumentParser(prog="python -m data_prep run", description=about)
    parser.add_argument("pipeline", type=Path, help="a YAML file: docs/data_prep.md")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
    parsed = parser.parse_args(arguments)
    pipeline.run_pipeline(parsed.pipeline, dry_run=parsed.dry_run)


def _lineage(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep lineage", description=way.print_lineage.__doc__
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="that export wrote, or a table of a step's folder"
    )
    parser.add_argument("line", type=int, metavar="LINE", help="a line, or a row of Parquet, from 1")
    parsed = parser.parse_args(arguments)
    way.print_lineage(parsed.file, parsed.line)


if __name__ == "__main__":
    at_once.close()
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
