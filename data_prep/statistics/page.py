"""The page of a mixture: tables of what was counted, and two charts for each source."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from markupsafe import Markup

from codiemb.report.axes import short
from data_prep.pages.charts import Mark, Outline, outlines
from data_prep.pages.page import Page, Section, Table
from data_prep.statistics.counts import KINDS, SIDES, mean, quantile, share_above
from data_prep.statistics.mixture import CountedSource, Mixture, planned_epoch
from data_prep.statistics.planned import TrainingPlan

_PER_OCTAVE = 2  # bins of a chart of lengths
_MOST_DOCUMENTS = 16  # of a record, in a chart
_COLOURS = {"query": "c1", "document": "c2", "positive": "positive", "negative": "hard_negative"}


def mixture_page(mixture: Mixture) -> Page:
    """All that is known of a mixture."""
    records = sum(source.counts.records for source in mixture.sources)
    facts = [("Sources", f"{len(mixture.sources):,}"), ("Records", f"{records:,}")]
    plan = _plan(mixture)
    if plan is not None and plan.note is None:
        facts += [("Steps an epoch", f"{plan.steps:,.0f}"), ("Tokens an epoch", short(plan.tokens))]
    sections = [
        _sources(mixture),
        *([plan.section] if plan else []),
        _lengths(mixture),
        _documents(mixture),
        _duplicates(mixture),
        *_scores(mixture),
        Section(
            "Lineage",
            tables=[Table(("Source", "Made by"), [(s.name, s.lineage) for s in mixture.sources], 2)],
        ),
    ]
    return Page("Training mixture", facts, sections)


def _sources(mixture: Mixture) -> Section:
    rows = [
        (
            source.name,
            source.task,
            source.licence,
            _languages(source.counts.languages["query"]),
            _languages(source.counts.languages["document"]),
            f"{source.counts.records:,}",
        )
        for source in mixture.sources
    ]
    header = ("Source", "Task", "Licence", "Queries in", "Documents in", "Records")
    return Section(
        "Sources",
        "Languages by script: latin may be any language in Latin letters.",
        [Table(header, rows, 5)],
    )


def _languages(counter: Counter[str]) -> str:
    total = counter.total()
    shares = [(name or "no letters", count / total) for name, count in counter.most_common(4)]
    return ", ".join(f"{name} {_percent(share)}" for name, share in shares) or "–"


def _lengths(mixture: Mixture) -> Section:
    rows = []
    for source in mixture.sources:
        for side in SIDES:
            counter = source.counts.lengths[side]
            if counter:
                limit = _limit(mixture.plan, source.task, side)
                marks = [quantile(counter, share) for share in (0.5, 0.95, 0.99)]
                cut = ("–", "–") if limit is None else (f"{limit:,}", _percent(share_above(counter, limit)))
                numbers = [f"{mean(counter):,.1f}", *(f"{mark:,}" for mark in (*marks, max(counter)))]
                rows.append((source.name, side, *numbers, *cut))
    header = ("Source", "Side", "Mean", "Median", "95 %", "99 %", "Longest", "Limit", "Cut")
    said = ", prompt and special tokens counted" if mixture.unit == "tokens" else ""
    figures = [_length_chart(source, mixture) for source in mixture.sources]
    return Section("Lengths", f"In {mixture.unit}{said}.", [Table(header, rows, 2)], figures)


def _limit(plan: TrainingPlan | None, task: str, side: str) -> int | None:
    spec = plan.tasks.get(task) if plan else None
    if spec is None:
        return None
    return spec.max_query_tokens if side == "query" else spec.max_document_tokens


def _length_chart(source: CountedSource, mixture: Mixture) -> Markup:
    limits = {
        side: limit
        for side in SIDES
        if source.counts.lengths[side] and (limit := _limit(mixture.plan, source.task, side))
    }
    longest = max(max(counter, default=1) for counter in source.counts.lengths.values())
    num_bins = _bin(max(longest, *limits.values(), 1)) + 1
    kinds = []
    for side in SIDES:
        bins = [0] * num_bins
        for length, count in source.counts.lengths[side].items():
            bins[_bin(length)] += count
        kinds.append(Outline("queries" if side == "query" else "documents", _COLOURS[side], bins))
    octaves = range(0, num_bins // _PER_OCTAVE + 1, 1 + num_bins // (6 * _PER_OCTAVE))
    ticks = [Mark(octave * _PER_OCTAVE, short(2**octave)) for octave in octaves]
    marks = [
        Mark(math.log2(limit) * _PER_OCTAVE, f"{side} limit {limit:,}", _COLOURS[side])
        for side, limit in limits.items()
    ]
    return outlines(f"{source.name}: lengths", kinds, ticks, f"{mixture.unit} (logarithmic)", marks)


def _bin(length: int) -> int:
    return int(math.log2(max(length, 1)) * _PER_OCTAVE)


def _documents(mixture: Mixture) -> Section:
    rows, figures = [], []
    for source in mixture.sources:
        counters = [source.counts.documents[kind] for kind in KINDS]
        if not any(counters):
            continue
        cells = [cell for c in counters for cell in (f"{mean(c):,.2f}", f"{min(c):,}", f"{max(c):,}")]
        rows.append((source.name, *cells, _percent(counters[1][0] / source.counts.records)))
        figures.append(_document_chart(source))
    header = ("Source", "Positives", "least", "most", "Negatives", "least", "most", "Without negatives")
    return Section("Documents of a query", tables=[Table(header, rows)], figures=figures)


def _document_chart(source: CountedSource) -> Markup:
    kinds = []
    for kind in KINDS:
        bins = [0] * (_MOST_DOCUMENTS + 1)
        for number, count in source.counts.documents[kind].items():
            bins[min(number, _MOST_DOCUMENTS)] += count
        kinds.append(Outline(f"{kind}s", _COLOURS[kind], bins))
    ticks = [Mark(number + 0.5, str(number)) for number in range(0, _MOST_DOCUMENTS, 4)]
    ticks.append(Mark(_MOST_DOCUMENTS + 0.5, f"{_MOST_DOCUMENTS}+"))
    return outlines(f"{source.name}: documents of a query", kinds, ticks, "documents")


def _duplicates(mixture: Mixture) -> Section:
    rows = []
    for source in mixture.sources:
        for side in SIDES:
            texts = source.counts.texts[side]
            if texts.added:
                share = _percent(texts.repeated / texts.added)
                rows.append(
                    (
                        source.name,
                        side,
                        *(f"{n:,}" for n in (texts.added, len(texts.values), texts.repeated)),
                        share,
                    )
                )
    tables = [Table(("Source", "Side", "Texts", "Different", "Repeated", "Share"), rows, 2)]
    shared = list(_shared(mixture.sources))
    if shared:
        tables.append(Table(("Source", "And", "Queries in both", "Documents in both"), shared, 2))
    note = (
        "Equal but for case, width and blanks, by a 64-bit hash, as the trainer compares texts. A document "
        "may well stand in many records. Sources with nothing in common are left out of the second table."
    )
    return Section("Equal texts", note, tables)


def _shared(sources: Sequence[CountedSource]) -> Iterator[Sequence[str]]:
    for first, second in combinations(sources, 2):
        common = [first.counts.texts[side].common(second.counts.texts[side]) for side in SIDES]
        if any(common):
            yield first.name, second.name, *(f"{number:,}" for number in common)


def _scores(mixture: Mixture) -> Iterator[Section]:
    rows = [
        (
            source.name,
            f"{kind}s",
            f"{counter.total():,}",
            f"{min(counter):.2f}",
            f"{mean(counter):.2f}",
            f"{max(counter):.2f}",
        )
        for source in mixture.sources
        for kind, counter in source.counts.scores.items()
        if counter
    ]
    if rows:
        header = ("Source", "Of", "Scores", "Lowest", "Mean", "Highest")
        yield Section("Scores", tables=[Table(header, rows, 2)])


class _Planned(NamedTuple):
    section: Section
    steps: float
    tokens: float
    note: str | None


def _plan(mixture: Mixture) -> _Planned | None:
    """Steps and tokens of an epoch; where the trainer would refuse the plan, what it would say."""
    if mixture.plan is None:
        return None
    estimate = planned_epoch(mixture.sources, mixture.plan)
    if isinstance(estimate, str):
        return _Planned(Section("Plan", f"Training would stop here: {estimate}"), 0, 0, estimate)
    rows = [
        (
            row["source"],
            f"{row['global_batch_size']:,}",
            f"{row['steps']:,.0f}",
            _percent(row["steps"] / max(sum(r["steps"] for r in estimate), 1)),
            f"{row['tokens_per_step']:,.0f}",
            short(row["steps"] * row["tokens_per_step"]),
        )
        for row in estimate
    ]
    header = ("Source", "Global batch", "Steps", "Share", "Tokens a step", "Tokens an epoch")
    note = (
        "An epoch, on average. Tokens are those of the documents that are drawn, cut at the limits; a text "
        "that stands twice in a batch is encoded once, so a run has at most so many."
    )
    tokens = sum(row["steps"] * row["tokens_per_step"] for row in estimate)
    return _Planned(
        Section("Plan", note, [Table(header, rows)]), sum(row["steps"] for row in estimate), tokens, None
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
