"""Texts of a table by row number, from a memory-mapped file: memory does not grow with the corpus."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.blocks import blocks
from data_prep.layout import document_text


class Texts:
    """The texts of documents, title and text joined, at random access.

    Args:
        path: where they are written once, uncompressed; delete it when it is no longer needed.
    """

    def __init__(self, path: Path) -> None:
        self._file = pa.memory_map(str(path))
        self._chunks = pa.ipc.open_file(self._file).read_all()["text"].chunks
        sizes = [len(chunk) for chunk in self._chunks]
        self._start = np.concatenate([[0], np.cumsum(sizes)])

    @staticmethod
    def write(table: Path, path: Path) -> None:
        """Write the documents of `corpus.parquet` for random access."""
        schema = pa.schema([("text", pa.large_string())])
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for block in blocks(table, ["title", "text"]):
                titles, texts = block["title"].to_pylist(), block["text"].to_pylist()
                joined = [document_text(title, text) for title, text in zip(titles, texts, strict=True)]
                writer.write_table(pa.table({"text": pa.array(joined, pa.large_string())}))

    def __len__(self) -> int:
        return int(self._start[-1])

    def __getitem__(self, row: int) -> str:
        """One text."""
        chunk = int(np.searchsorted(self._start, row, side="right")) - 1
        text: str = self._chunks[chunk][row - int(self._start[chunk])].as_py()
        return text

    def take(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Several texts, in the order of `rows`."""
        return [self[int(row)] for row in rows]
