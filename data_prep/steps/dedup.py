"""Find documents that stand there twice, equal or nearly, and make their judgements one.

Reads one source, or several, which become one: its ids then begin with the name of their source. Documents
are equal by the trainer's content hash (case, width and blanks do not count), and near duplicates if the
Jaccard similarity of their shingles, five words in a row or five characters of Chinese, is at least
--threshold. Candidates come from MinHash (14 bands of 8 rows: of pairs at 0.8 it finds 92 %, at 0.9 99.96 %),
and each is compared by all its shingles before it counts. Numbers are words as all others; texts of less than
five words are only compared for equality.

Of what repeats, one document stays: that of the source that comes first (--priority, then the order of --in),
then the longest, then by content hash and id, whatever the order of rows and files. The others get the
verdict `dedup`, with `same text` or `near duplicate` for a reason and the kept one in their flags; a query
that is answered by one of them is answered by the one that stays. `cluster` holds what belongs together, for
mine and export: documents of one cluster are no negatives of each other's queries. With --near cluster near
duplicates stay, and have a cluster.

Of graded pairs only equal texts are merged: what is nearly equal has a score of its own there.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from codiemb.data.records import GRADED_TASKS
from codiemb.errors import UserError
from data_prep.dedup.pool import Pool
from data_prep.dedup.repeats import Repeats, equal_queries, find_repeats
from data_prep.dedup.signatures import Signed, sign_all
from data_prep.dedup.tables import Tables, kept
from data_prep.layout import CORPUS, QUERIES
from data_prep.options import option
from data_prep.step import Step, Work


@dataclass(frozen=True)
class Parameters:
    """What counts as the same."""

    near: Literal["drop", "cluster", "off"] = option(
        "drop", "near duplicates: drop, cluster (they stay, and are no negatives), or off"
    )
    threshold: float = option(0.8, "the least Jaccard similarity of near duplicates")
    queries: bool = option(True, "equal queries with one instruction become one, too")
    priority: list[str] = option([], "names of sources whose documents stay, the first before the second")
    name: str = option("merged", "of the source that several become")


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Write all tables of the source, or of the one that several become.

    Raises:
        UserError: an option is wrong, sources that do not go together, or nothing to compare.
    """
    pool, threshold = prepare(work)
    signed = Signed(sign_all(work.part, pool, near=threshold is not None))
    found = _repeats(work, pool, signed, threshold)
    tables = Tables(work, pool)
    tables.documents(found)
    if pool.has_queries():
        query_of = np.arange(len(kept(pool, QUERIES)))
        tables.queries(equal_queries(pool, kept(pool, QUERIES)) if work.options.queries else query_of)
        tables.judgements(found.of)
    tables.others(work.options.name)
    return {
        "sources": [each["name"] for each in pool.about],
        "near": threshold,
        "clusters": len(np.unique(found.cluster[found.cluster >= 0])),
        "partly_compared": int(found.full),
    }


def prepare(work: Work[Parameters]) -> tuple[Pool, float | None]:
    """The sources as one, and the threshold of near duplicates where they are looked for.

    Raises:
        UserError: an option is wrong, or sources that do not go together.
    """
    options = work.options
    if not 0.5 <= options.threshold <= 1:
        raise UserError(f"dedup: threshold={options.threshold} must be in [0.5, 1]; MinHash finds few below")
    pool = Pool.of(work.sources, options.priority)
    near = options.near != "off" and pool.task not in GRADED_TASKS
    return pool, options.threshold if near else None


def _repeats(work: Work[Parameters], pool: Pool, signed: Signed, threshold: float | None) -> Repeats:
    if not kept(pool, CORPUS).any():
        raise UserError(f"{work.sources[0]}: no document is kept; there is nothing to compare")
    drop_near = work.options.near == "drop"

    def write(path: Path) -> None:
        find_repeats(pool, signed, threshold, drop_near=drop_near).save(path)

    return Repeats.load(work.part("repeats.npz", write))


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    """What makes words and signatures, beside this version of the step."""
    return {"rensa": metadata.version("rensa"), "unicode": unicodedata.unidata_version}


STEP = Step(Parameters, run, depends_on=_depends_on, inputs="many")
