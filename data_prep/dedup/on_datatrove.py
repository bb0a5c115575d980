"""dedup on many machines: datatrove shares out the signatures, and one task puts them together.

    python -m data_prep.dedup.on_datatrove --in DIR --out DIR --executor slurm --executor-options FILE

Words, shingles and signatures are those of `python -m data_prep dedup`, whose options this has as well, and
so are the rows, bit by bit: a task makes some of the pieces that the step would make one after the other. All
machines see one file system, and have the same packages. FILE is YAML with arguments of datatrove's executor:
for slurm `time` and `partition` at least. What is left to one task is the search in the buckets: 150 bytes a
document, and the comparison of candidates.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml
from data_prep.dedup.signatures import sign_all
from data_prep.options import add_options, build, given
from data_prep.runner import describe, is_done, load_step, run_step, shared_work
from data_prep.steps.dedup import Parameters, prepare

_EXECUTORS = {
    "local": "LocalPipelineExecutor",
    "slurm": "SlurmPipelineExecutor",
    "ray": "RayPipelineExecutor",
}
_STEP = "dedup"


def sign_share(
    data: object, rank: int, world_size: int, *, sources: Sequence[Path], out: Path, options: Parameters
) -> Iterable[object]:
    """A task: every world_size-th block, from block `rank` on."""
    work = shared_work(_STEP, sources, out, options, begin=False)
    pool, threshold = prepare(work)
    sign_all(work.part, pool, near=threshold is not None, only=lambda block: block % world_size == rank)
    return ()


def finish(
    data: object, rank: int, world_size: int, *, sources: Sequence[Path], out: Path, options: Parameters
) -> Iterable[object]:
    """The last task: the step itself, which finds its signatures there."""
    run_step(_STEP, sources, out, options)
    return ()


def launch(
    sources: Sequence[Path],
    out: Path,
    options: Parameters,
    *,
    tasks: int,
    executor: str = "local",
    arguments: dict[str, Any] | None = None,
) -> None:
    """Run the step on datatrove; on slurm this returns when the jobs are submitted.

    Args:
        sources: folders to read.
        out: the folder to write.
        options: of the step.
        tasks: among which the blocks of 16,384 documents are shared.
        executor: local, slurm or ray.
        arguments: of datatrove's executor.

    Raises:
        UserError: datatrove is not installed, or what the step raises before it starts.
    """
    if is_done(out, describe(_STEP, load_step(_STEP), sources, options)["identity"]):
        print(f"{_STEP}: {out} is there, and what it was made from has not changed")
        return
    kind, common = _executor(executor), dict(arguments or {})
    shared_work(_STEP, sources, out, options, begin=True)
    logs = out.with_name(f".{out.name}.datatrove")
    task = {"sources": [source.resolve() for source in sources], "out": out.resolve(), "options": options}

    def pipeline(name: str, piece: Callable[..., Iterable[object]], number: int, **more: Any) -> Any:  # noqa: ANN401
        # datatrove would pass over tasks that it remembers; the step's own pieces say what is done
        return kind(
            pipeline=[partial(piece, **task)],
            tasks=number,
            logging_dir=str(logs.resolve() / name),
            skip_completed=False,
            **common,
            **more,
        )

    signing = pipeline("sign", sign_share, tasks)
    pipeline("finish", finish, 1, depends=signing).run()


def _executor(name: str) -> type[Any]:
    if name not in _EXECUTORS:
        raise UserError(f"executor={name}: there are {', '.join(_EXECUTORS)}")
    try:
        found: type[Any] = getattr(import_module(f"datatrove.executor.{name}"), _EXECUTORS[name])
    except ImportError as error:
        raise UserError(
            f"executor={name} needs datatrove ({error}); pip install -e '.[datatrove]'"
        ) from error
    return found


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in", dest="folders", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tasks", type=int, default=8, help="that the blocks are shared among (default: 8)")
    parser.add_argument("--executor", default="local", help="local, slurm or ray (default: local)")
    parser.add_argument("--executor-options", type=Path, metavar="FILE", help="YAML: its arguments")
    add_options(parser, Parameters)
    parsed = parser.parse_args(arguments)
    options = build(Parameters, given(Parameters, parsed), "data_prep.dedup.on_datatrove")
    more = read_yaml(parsed.executor_options) if parsed.executor_options else {}
    launch(
        parsed.folders,
        parsed.out,
        options,
        tasks=parsed.tasks,
        executor=parsed.executor,
        arguments=dict(more),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
