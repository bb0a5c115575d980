r"""JSON lines, read the same way everywhere: a line ends at \n only, whatever characters its texts hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""The lines of a file with their numbers from 1; each keeps its \n, which only the last may lack.

    `str.splitlines` also ends a line at U+2028, U+2029, U+0085 and five more, which JSON allows in a text.
    """
    with path.open("rb") as file:  # a file of bytes knows no other line end, one of text also takes \r
        yield from enumerate(file, start=1)


def read_jsonl(path: Path) -> Iterator[Any]:
    """The values of a file that this project wrote itself; blank lines are passed over."""
    for _, line in numbered_lines(path):
        if line.strip():
            yield json.loads(line)
