"""What is drawn for a row: a function of the seed, the row's content and a name, on every machine."""

from collections.abc import Sequence

import xxhash


def number(seed: int, *names: str) -> int:
    """A number of 64 bits."""
    return xxhash.xxh3_64_intdigest("\0".join([str(seed), *names]).encode("utf-8", "surrogatepass"))


def drawn(seed: int, key: str, name: str, options: Sequence[str], take: int = 1) -> list[str]:
    """Some of the options, without repetition, in a drawn order; all are as likely.

    Args:
        seed: of the run.
        key: of the row.
        name: of the choice: draws under two names are independent.
        options: to draw from.
        take: how many.
    """
    order = sorted(range(len(options)), key=lambda index: number(seed, key, name, str(index)))
    return [options[index] for index in order[:take]]
