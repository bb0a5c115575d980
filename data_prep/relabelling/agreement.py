"""How far the judges agree: with each other on what both were asked, and with people on what is judged."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codiemb.tables import pipe_table
from data_prep.blocks import blocks
from data_prep.pages.page import Page, Section, Table
from data_prep.relabelling.verdicts import VERDICTS

NOT_ASKED = "not asked"
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def agreement(evidence: Path) -> dict[str, Any]:
    """Counts of relabel.parquet, for the manifest.

    Returns:
        `cheap_by_strong`: of the candidates. `people`: by what qrels say of a pair, what the cheap judge says
        of it, and what would become of it; and quantiles of both judges' scores.
    """
    count, scores = Counter[tuple[str, ...]](), dict[tuple[str, str], list[float]]()
    for block in blocks(evidence):
        for row in block.to_pylist():
            people = row["people"] or ""
            count[
                people or "cheap_by_strong",
                row["cheap"],
                row["strong"] or NOT_ASKED,
                row["verdict"],
            ] += 1
            for judge in ("score", "strong_score") if people else ():
                if row[judge] is not None:
                    scores.setdefault((people, judge), []).append(row[judge])
    return {
        "cheap_by_strong": _crossed(
            ((cheap, strong), n) for (of, cheap, strong, _), n in count.items() if of == "cheap_by_strong"
        ),
        "verdicts": _summed(
            (verdict, n) for (of, _, _, verdict), n in count.items() if of == "cheap_by_strong"
        ),
        "people": {
            people: {
                "cheap": _summed((cheap, n) for (of, cheap, _, _), n in count.items() if of == people),
                "verdict": _summed((verdict, n) for (of, _, _, verdict), n in count.items() if of == people),
                "scores": _quantiles(scores.get((people, "score"), [])),
                "strong_scores": _quantiles(scores.get((people, "strong_score"), [])),
            }
            for people in ("right", "wrong")
        },
    }


def _crossed(counts: Iterable[tuple[tuple[str, str], int]]) -> dict[str, dict[str, int]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for (cheap, strong), n in counts:
        found.setdefault(cheap, []).append((strong, n))
    return {cheap: _summed(found[cheap]) for cheap in VERDICTS if cheap in found}


def _summed(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for name, n in counts:
        total[name] += n
    return {name: total[name] for name in (*VERDICTS, NOT_ASKED) if total[name]}


def _quantiles(scores: Sequence[float]) -> dict[str, float]:
    return {f"{q:g}": round(float(np.quantile(scores, q)), 4) for q in _QUANTILES} if scores else {}


def as_tables(found: Mapping[str, Any]) -> list[Table]:
    """The counts to read; what nobody said has no column."""
    crossed = found["cheap_by_strong"]
    columns = [name for name in (*VERDICTS, NOT_ASKED) if any(name in row for row in crossed.values())]
    counts = [(cheap, *(f"{row.get(name, 0):,}" for name in columns)) for cheap, row in crossed.items()]
    tables = [Table(("Cheap judge", *(f"strong: {name}" for name in columns)), counts)]
    people = found["people"]
    cheap, verdict = (
        [name for name in VERDICTS if any(name in each[key] for each in people.values())]
        for key in ("cheap", "verdict")
    )
    rows = [
        (
            name,
            *(f"{each['cheap'].get(column, 0):,}" for column in cheap),
            *(f"{each['verdict'].get(column, 0):,}" for column in verdict),
        )
        for name, each in people.items()
        if each["verdict"]
    ]
    if rows:
        tables.append(
            Table(
                ("Judged before", *(f"cheap: {n}" for n in cheap), *(f"at last: {n}" for n in verdict)), rows
            )
        )
    quantiles = [
        (f"{judge} score of {name}", *(f"{value:.4g}" for value in each[key].values()))
        for judge, key in (("cheap", "scores"), ("strong", "strong_scores"))
        for name, each in people.items()
        if each[key]
    ]
    if quantiles:
        tables.append(Table(("Quantile", *(f"{100 * q:g} %" for q in _QUANTILES)), quantiles))
    return tables


def as_text(found: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    return "\n".join(
        pipe_table([table.header, *table.rows], table.text_columns) for table in as_tables(found)
    )


def relabel_page(
    name: str,
    judges: Sequence[tuple[str, str]],
    found: Mapping[str, Any],
    examples: Sequence[Mapping[str, str]],
) -> Page:
    """What was judged, how far judges agree, and some pairs to look at.

    Args:
        name: of the source.
        judges: what each is called, and which it is.
        found: what `agreement` counted.
        examples: verdict, query, document and score of some pairs.
    """
    facts = [*judges, *((f"Candidates: {verdict}", f"{n:,}") for verdict, n in found["verdicts"].items())]
    note = (
        "Candidates by what both judges say; and pairs that were judged before, by what qrels say of them, "
        "what the cheap judge says, and what would have become of them."
    )
    rows = [(each["verdict"], each["query"], each["document"], each["score"]) for each in examples]
    shown = Section("Pairs", "Some of each verdict: look at these before you believe the numbers.",
                    [Table(("Verdict", "Query", "Document", "Score"), rows, 3)])  # fmt: skip
    return Page(
        f"Candidates of {name}, judged again", facts, [Section("Agreement", note, as_tables(found)), shown]
    )
