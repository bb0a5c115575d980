"""Look at the negatives that mining has chosen: a sample to read, and how many are right answers after all.

Writes audit.html and audit.md: some queries with their positives and chosen negatives, ranks and scores. And,
with grades of people (--judgements) or another scorer as a judge (--judge), how many chosen negatives are
right documents after all, with the 95 % interval of Wilson; the numbers are in audit.json, too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codiemb.atomic import write_text
from codiemb.errors import UserError
from data_prep.auditing.chosen import Candidates, read_candidates
from data_prep.auditing.judges import Verdicts, by_grades, by_scorer
from data_prep.auditing.rates import Rate
from data_prep.auditing.sample import Sample, sample_sections
from data_prep.layout import read_source
from data_prep.manifest import hash_file
from data_prep.options import option
from data_prep.pages.page import Page, Section, Table, write_page
from data_prep.relations import Ids
from data_prep.step import Step, Work

_RANKS = (10, 20, 50, 100, 200)  # ends of the stretches that are told apart


@dataclass(frozen=True)
class Parameters:
    """What to show, and who judges."""

    num_queries: int = option(20, "queries in the sample")
    num_negatives: int = option(8, "negatives shown of each, best rank first")
    seed: int = option(0, "of the sample")
    negatives: list[str] = option([], "scorers whose chosen candidates are looked at (default: all)")
    judgements: str = option("", "grades: Parquet with query, document, grade, or a BEIR table (.tsv)")
    min_grade: float = option(1.0, "a judged document is right from this grade on")
    judge: str = option("", "a scorer whose scores judge")
    judge_above: float | None = option(None, "the judge finds a document right from this score on")


class _Finding(NamedTuple):
    """What one judge found among the chosen negatives: overall, and by rank."""

    judge: str
    rate: Rate
    by_rank: Mapping[str, Rate]
    foreign: int


def run(work: Work[Parameters]) -> Mapping[str, Any]:
    """Write audit.html, audit.md and audit.json.

    Raises:
        UserError: there are no candidates, no such scorer, or judgements that cannot be read.
    """
    options, source = work.options, work.source
    ids = Ids.read(source)
    candidates = read_candidates(source, ids, options.negatives)
    chosen = candidates.chosen()
    verdicts = _judges(source, ids, options)
    findings = [_finding(name, judge, chosen) for name, judge in verdicts.items()]
    sample = Sample(options.num_queries, options.num_negatives, options.seed)
    sections = sample_sections(source, ids, candidates, sample, verdicts)
    facts = [
        ("Queries with chosen negatives", f"{len(np.unique(chosen.query_F)):,}"),
        ("Chosen negatives", f"{len(chosen.query_F):,}"),
        ("Scorers", ", ".join(candidates.names)),
    ]
    title = f"Negatives of {read_source(source)['name']}"
    write_page(Page(title, facts, [*_rates(findings, len(chosen.query_F)), *sections]), work.out / "audit")
    about = _numbers(chosen, findings)
    write_text(work.out / "audit.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return {"chosen": about["chosen"]}


def _judges(source: Path, ids: Ids, options: Parameters) -> dict[str, Verdicts]:
    judges = {}
    if options.judgements:
        judges["grades"] = by_grades(Path(options.judgements), ids, options.min_grade)
    if options.judge and options.judge_above is not None:
        judges[options.judge] = by_scorer(source, ids, options.judge, options.judge_above)
    return judges


def _finding(name: str, verdicts: Verdicts, chosen: Candidates) -> _Finding:
    judged_F, right_F = verdicts.of(chosen.key_F)
    by_rank = {}
    for low, high in zip((0, *_RANKS), (*_RANKS, np.inf), strict=True):
        inside_F = (chosen.rank_F > low) & (chosen.rank_F <= high) & judged_F
        if inside_F.any():
            label = f"{low + 1} to {high}" if high < np.inf else f"above {low}"
            by_rank[label] = Rate(int(inside_F.sum()), int((inside_F & right_F).sum()))
    return _Finding(name, Rate(int(judged_F.sum()), int(right_F.sum())), by_rank, verdicts.foreign)


def _rates(findings: Sequence[_Finding], chosen: int) -> list[Section]:
    if not findings:
        note = "Nobody has judged them: --judgements FILE or --judge SCORER --judge-above SCORE gives a rate."
        return [Section("False negatives", note)]
    rows = [_row(f.judge, f.rate, _percent(f.rate.false / chosen) if chosen else "–") for f in findings]
    tables = [Table((*_HEADER, "Of all chosen"), rows)]
    for finding in findings:
        if len(finding.by_rank) > 1:
            ranks = [_row(label, rate) for label, rate in finding.by_rank.items()]
            tables.append(Table((f"Rank, by {finding.judge}", *_HEADER[1:]), ranks))
    note = (
        "Chosen negatives that a judge finds right, of those it has judged, with the 95 % interval (Wilson)."
    )
    foreign = sum(finding.foreign for finding in findings)
    if foreign:
        note += f" Judgements of queries or documents that this source does not have: {foreign:,}."
    return [Section("False negatives", note, tables)]


_HEADER = ("Judge", "Judged", "Right", "Rate", "From", "To")


def _row(label: str, rate: Rate, *more: str) -> Sequence[str]:
    low, high = map(_percent, rate.interval)
    value = "–" if rate.value is None else _percent(rate.value)
    return (label, f"{rate.judged:,}", f"{rate.false:,}", value, low, high, *more)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _numbers(chosen: Candidates, findings: Sequence[_Finding]) -> dict[str, Any]:
    count = len(chosen.query_F)
    return {
        "queries": len(np.unique(chosen.query_F)),
        "chosen": count,
        "false_negatives": {
            finding.judge: {
                **_rate_numbers(finding.rate),
                "of_chosen": finding.rate.false / count if count else None,
                "by_rank": {label: _rate_numbers(rate) for label, rate in finding.by_rank.items()},
            }
            for finding in findings
        },
    }


def _rate_numbers(rate: Rate) -> dict[str, Any]:
    return {"judged": rate.judged, "right": rate.false, "rate": rate.value, "interval": list(rate.interval)}


def _depends_on(options: Parameters) -> Mapping[str, Any]:
    if bool(options.judge) != (options.judge_above is not None):
        raise UserError("audit: --judge SCORER and --judge-above SCORE belong together")
    if not options.judgements:
        return {}
    path = Path(options.judgements)
    if not path.is_file():
        raise UserError(f"audit: {path}: no such file; --judgements names grades")
    return {"judgements": hash_file(path)}


STEP = Step(Parameters, run, depends_on=_depends_on, makes_source=False)
