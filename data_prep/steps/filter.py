"""Mark what is not to be trained on: pairs that a search does not find, low scores, other languages.

A pair is consistent if its document is among the best of its query by a scorer that has mined this source
(Promptagator, arXiv 2209.11755). Nothing is deleted: rows get the verdict `filter` and a reason, and a
later run with other limits starts from the same folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codiemb.errors import UserError
from codiemb.mining.choose import pair_key
from data_prep.blocks import blocks, column
from data_prep.languages import is_wanted, unknown_languages
from data_prep.layout import CANDIDATES, CORPUS, QRELS, QUERIES
from data_prep.options import option
from data_prep.relations import Ids, positions
from data_prep.step import Step, Work
from data_prep.verdicts import mark


@dataclass(frozen=True)
class Parameters:
    """Limits; those that are not given are none."""

    scorer: str = option("", "whose candidates are asked; needed if there are several")
    max_rank: int | None = option(None, "a positive stays if it is among so many best documents of its query")
    min_score: float | None = option(
        None, "a positive stays if it scores at least this; without a score it does not"
    )
    languages: list[str] = option([], "queries and documents in others are marked: zh,en")


def run(work: Work[Parameters]) -> None:
    """Mark rows of qrels by rank and score, rows of queries and corpus by language."""
    options = work.options
    if options.max_rank is not None or options.min_score is not None:
        path = candidates_of(work.source, options.scorer)
        work.rewrite(QRELS, _by_scorer(Ids.read(work.source), path, options))
    if options.languages:
        _check_languages(work.source, options.languages)
        for name in (QUERIES, CORPUS):
            work.rewrite(name, _by_language(options.languages))


def candidates_of(source: Path, scorer: str) -> Path:
    """The candidates of a scorer; the only ones where none is named.

    Raises:
        UserError: there are none, or several and no name.
    """
    found = {path.stem: path for path in sorted((source / CANDIDATES).glob("*.parquet"))}
    if scorer in found:
        return found[scorer]
    if len(found) == 1 and not scorer:
        return next(iter(found.values()))
    names = ", ".join(found) or "none; mine first"
    raise UserError(f"{source / CANDIDATES}: scorer={scorer or 'null'}; there are {names}")


def _by_scorer(ids: Ids, path: Path, options: Parameters) -> Callable[[pa.Table], pa.Table]:
    pairs = ids.pairs(path, "score")
    key = pair_key(pairs.query, pairs.document)
    order = np.argsort(key)
    key, score = key[order], pairs.value[order]
    rank = pc.fill_null(column(path, "rank"), 0).to_numpy()[order]

    def change(block: pa.Table) -> pa.Table:
        wanted = pair_key(positions(ids.query, block["query"]), positions(ids.document, block["document"]))
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        known = key[place] == wanted
        its_rank, its_score = np.where(known, rank[place], 0), np.where(known, score[place], np.nan)
        reasons = [
            _reason(options, *found) if grade > 0 else None
            for grade, *found in zip(block["grade"].to_pylist(), its_rank, its_score, strict=True)
        ]
        return mark(block, "filter", reasons)

    return change


def _reason(options: Parameters, rank: int, score: float) -> str | None:
    if options.max_rank is not None and not 1 <= rank <= options.max_rank:
        return "rank"
    if options.min_score is None or score >= options.min_score:
        return None
    return "no score" if np.isnan(score) else "score"


def _by_language(languages: list[str]) -> Callable[[pa.Table], pa.Table]:
    def change(block: pa.Table) -> pa.Table:
        langs = block["lang"].to_pylist()
        return mark(block, "filter", [None if is_wanted(lang, languages) else "language" for lang in langs])

    return change


def _check_languages(source: Path, languages: list[str]) -> None:
    if unknown := unknown_languages(languages):
        raise UserError(
            f"languages={','.join(languages)}: {unknown[0]!r} is none that a text can have (zh, en)"
        )
    for path in (source / QUERIES, source / CORPUS):
        if all(block["lang"].null_count == len(block) for block in blocks(path, ["lang"])):
            raise UserError(f"{path}: no row has a language; `python -m data_prep clean` finds them")


STEP = Step(Parameters, run, version=2)
