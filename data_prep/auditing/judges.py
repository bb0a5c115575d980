"""Who says that a chosen negative is right after all: people's grades in a file, or another scorer."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from codiemb.errors import UserError
from codiemb.json_files import numbered_lines
from codiemb.mining.choose import pair_key
from data_prep.auditing.chosen import read_candidates
from data_prep.blocks import open_table
from data_prep.relations import Ids, positions

_BEIR = ["query-id", "corpus-id", "score"]


class Verdicts(NamedTuple):
    """What a judge says of pairs: their keys, each once and in order, and whether the document is right.

    `foreign` counts judgements of queries or documents that the source does not have.
    """

    key_J: Int[np.ndarray, " J"]
    right_J: Bool[np.ndarray, " J"]
    foreign: int = 0

    def of(self, key_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each pair whether it was judged, and whether it was found right."""
        place_F = np.minimum(np.searchsorted(self.key_J, key_F), max(len(self.key_J) - 1, 0))
        if not len(self.key_J):
            return np.zeros(len(key_F), bool), np.zeros(len(key_F), bool)
        judged_F = self.key_J[place_F] == key_F
        return judged_F, judged_F & self.right_J[place_F]


def by_grades(path: Path, ids: Ids, min_grade: float) -> Verdicts:
    """Grades of a Parquet file (query, document, grade) or a BEIR table (qrels/*.tsv).

    Raises:
        UserError: the file is neither; a row of the table with other fields, by its line.
    """
    table = _parquet(path) if path.suffix == ".parquet" else _tsv(path)
    query = positions(ids.query, table["query"])
    document = positions(ids.document, table["document"])
    grade = table["grade"].to_numpy().astype(np.float64)
    known = (query >= 0) & (document >= 0)
    verdicts = _verdicts(pair_key(query[known], document[known]), grade[known] >= min_grade)
    return verdicts._replace(foreign=int((~known).sum()))


def by_scorer(source: Path, ids: Ids, scorer: str, above: float) -> Verdicts:
    """Every pair that a scorer has scored, whatever became of it; right from this score on.

    Raises:
        UserError: there is no such scorer.
    """
    scored = read_candidates(source, ids, [scorer])
    return _verdicts(scored.key_F, scored.score_F >= above)


def _verdicts(key: np.ndarray, right: np.ndarray) -> Verdicts:
    """A pair that was judged several times is right if one judgement says so."""
    key_J, inverse = np.unique(key, return_inverse=True)
    right_J = np.zeros(len(key_J), bool)
    np.logical_or.at(right_J, inverse, right)
    return Verdicts(key_J, right_J)


def _parquet(path: Path) -> pa.Table:
    names = ["query", "document", "grade"]
    with open_table(path, names) as file:
        return file.read(columns=names)


def _tsv(path: Path) -> pa.Table:
    if not path.is_file():
        raise UserError(f"{path}: no such file; judgements are a Parquet file or a BEIR table (.tsv)")
    rows = list(_rows(path))
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    types = [pa.string(), pa.string(), pa.float64()]
    arrays = [pa.chunked_array([pa.array(c, t)]) for c, t in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["query", "document", "grade"])


def _rows(path: Path) -> Iterator[tuple[str, str, float]]:
    for number, line in numbered_lines(path):
        fields = line.decode("utf-8-sig", "replace").rstrip("\r\n").split("\t")
        if fields == [""] or (number == 1 and fields == _BEIR):
            continue
        try:
            query, document, grade = fields
            yield query, document, float(grade)
        except ValueError:
            raise UserError(
                f"{path}:{number}: {len(fields)} fields {fields!r:.80}; a row is query-id, corpus-id and a "
                "number, with tabs between"
            ) from None
