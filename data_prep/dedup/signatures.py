"""What is compared of a corpus, a file for each block: hash, length, keys of bands, and the shingles."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codiemb.data import content_hash
from data_prep.dedup.minhash import BANDS, band_keys
from data_prep.dedup.pool import Place, Pool
from data_prep.layout import CORPUS, document_text
from data_prep.progress import Progress
from data_prep.shingles import shingles

SIZE = 5  # words of a shingle
_FILES = 64  # that are open at once
_SCHEMA = pa.schema(
    [
        ("hash", pa.int64()),
        ("length", pa.int64()),
        ("kept", pa.bool_()),
        *((f"band{number}", pa.uint64()) for number in range(BANDS)),
        ("shingles", pa.large_list(pa.uint64())),
    ]
)


def sign(block: pa.Table, path: Path, *, near: bool) -> None:
    """Write what is compared of a block of a corpus; without `near` no shingles.

    A function of the block alone: any machine may write it. Some 900 bytes for a text of a hundred words.
    """
    titles, texts = block["title"].to_pylist(), block["text"].to_pylist()
    whole = [document_text(title, text or "") for title, text in zip(titles, texts, strict=True)]
    kept = pc.is_null(block["dropped_by"])
    looked_at = [text if near and live else "" for text, live in zip(whole, kept.to_pylist(), strict=True)]
    sets = shingles(looked_at, SIZE)
    keys = band_keys(sets)
    columns = {
        "hash": _hashes(block, whole),
        "length": [len(text) for text in whole],
        "kept": kept,
        **{f"band{number}": keys[:, number] for number in range(BANDS)},
        "shingles": pa.LargeListArray.from_arrays(sets.start, sets.values),
    }
    table = pa.table(columns, schema=_SCHEMA)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        writer.write_table(table)


def _hashes(block: pa.Table, whole: Sequence[str]) -> pa.Array:
    """The content hash as clean has written it; of texts without one it is computed."""
    known = block["hash"].combine_chunks()
    if not known.null_count:
        return known
    new = [
        content_hash(text) if old is None else old for text, old in zip(whole, known.to_pylist(), strict=True)
    ]
    return pa.array(new, pa.int64())


def sign_all(
    part: Callable[[str, Callable[[Path], None]], Path],
    pool: Pool,
    *,
    near: bool,
    only: Callable[[int], bool] = lambda number: True,
) -> list[Path]:
    """Sign the blocks of the corpora, or those that `only` names: of one machine among several.

    Args:
        part: makes a file of this name unless it is there: `Work.part`.
        pool: the sources.
        near: with shingles.
        only: by number.
    """
    places = [(number, place) for number, place in enumerate(pool.places(CORPUS)) if only(number)]
    progress, paths = Progress("dedup: signatures", len(places), "blocks"), list[Path]()
    for number, place in places:
        paths.append(part(f"signed-{number:06d}.arrow", partial(_sign_place, pool, place, near=near)))
        progress.advance(1)
    return paths


def _sign_place(pool: Pool, place: Place, path: Path, *, near: bool) -> None:
    sign(pool.block(CORPUS, place), path, near=near)


class Content(NamedTuple):
    """Of every document: content hash, length in characters, whether it is kept, how many shingles."""

    hash: np.ndarray
    length: np.ndarray
    kept: np.ndarray
    num_shingles: np.ndarray


class Signed:
    """The files that `sign` wrote, in the order of the corpus; memory-mapped."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._open = lru_cache(_FILES)(_read)
        self._first = np.cumsum([0, *(len(self._open(path)) for path in self._paths)])

    def content(self) -> Content:
        """What every document has: 25 bytes for each."""
        parts = [
            (
                table["hash"].to_numpy(),
                table["length"].to_numpy(),
                table["kept"].to_numpy(),
                np.diff(_flat(table).offsets.to_numpy()),
            )
            for table in self._tables()
        ]
        return Content(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def band(self, number: int) -> np.ndarray:
        """A band's key of every document."""
        return np.concatenate([table[f"band{number}"].to_numpy() for table in self._tables()])

    def shingles(self, document: int) -> set[int]:
        """The different shingles of a document."""
        file = int(np.searchsorted(self._first, document, side="right")) - 1
        lists = _flat(self._open(self._paths[file]))
        return set(lists[document - int(self._first[file])].values.to_numpy().tolist())

    def _tables(self) -> Iterator[pa.Table]:
        return map(self._open, self._paths)


def _read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _flat(table: pa.Table) -> pa.LargeListArray:
    return table["shingles"].chunk(0)


def jaccard(first: set[int], second: set[int]) -> float:
    """Of two sets that are not empty."""
    common = len(first & second)
    return common / (len(first) + len(second) - common)
