"""Which pairs are judged: chosen candidates that nobody has judged, and a sample of judged pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from codiemb.errors import UserError
from codiemb.mining.choose import pair_key
from data_prep.auditing.chosen import read_candidates
from data_prep.blocks import column
from data_prep.layout import QRELS
from data_prep.relations import Ids, is_kept

RELABELLED = "relabel: "  # how the origin of what a judge finds right begins
_MADE = (RELABELLED, "synthesise ")  # judgements that no person has made


class Asked(NamedTuple):
    """Pairs of row numbers, by query; `people` is "right" or "wrong" where qrels say so, "" of candidates."""

    query_P: np.ndarray
    document_P: np.ndarray
    people: str

    def part(self, start: int, size: int) -> "Asked":
        """Some of them."""
        return Asked(self.query_P[start : start + size], self.document_P[start : start + size], self.people)


def unjudged(source: Path, ids: Ids, scorers: Sequence[str]) -> Asked:
    """Chosen candidates of these scorers, or of all, of which qrels say nothing.

    Raises:
        UserError: there are none.
    """
    chosen = read_candidates(source, ids, scorers).chosen()
    qrels = ids.pairs(source / QRELS, "grade")
    free = ~np.isin(chosen.key_F, pair_key(qrels.query, qrels.document))
    order = np.argsort(chosen.query_F[free], kind="stable")
    if not len(order):
        raise UserError(
            f"{source}: no candidate is chosen that is not judged yet; mine first: python -m data_prep mine"
        )
    return Asked(chosen.query_F[free][order], chosen.document_F[free][order], "")


def known_pairs(source: Path, ids: Ids, count: int, seed: int) -> list[Asked]:
    """Judged pairs, half of them right and half wrong as far as there are: none that a model has made."""
    qrels, path = ids.pairs(source / QRELS, "grade"), source / QRELS
    origins = pc.fill_null(column(path, "origin"), "")
    made = np.logical_or.reduce([pc.starts_with(origins, begins).to_numpy() for begins in _MADE])
    usable = is_kept(path) & ids.query_kept[qrels.query] & ids.document_kept[qrels.document] & ~made
    found = []
    for people, is_it in (("right", qrels.value > 0), ("wrong", qrels.value <= 0)):
        rows = np.flatnonzero(usable & is_it)
        rows = np.sort(np.random.default_rng(seed).choice(rows, min(count // 2, len(rows)), replace=False))
        found.append(Asked(qrels.query[rows], qrels.document[rows], people))
    return found
