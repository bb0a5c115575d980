"""Shares over bins as inline SVG, an outline for each kind; the look is that of a run's report."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from codiemb.report.axes import Axis, fit_axis, short
from codiemb.report.charts import HEIGHT, WIDTH, figure

LEFT, RIGHT, TOP, BOTTOM = 46, 18, 14, 36


class Outline(NamedTuple):
    """Counts in bins, their label in the legend, and the class that colours them."""

    label: str
    colour: str
    counts: Sequence[int]


class Mark(NamedTuple):
    """A place on the axis, in bins from the left, and what is written there."""

    place: float
    label: str
    colour: str = ""


def outlines(
    title: str, kinds: Sequence[Outline], ticks: Sequence[Mark], x_label: str, limits: Sequence[Mark] = ()
) -> Markup:
    """The share of each bin, in percent of its kind; `limits` are upright broken lines.

    Args:
        title: of the figure.
        kinds: each with a count for every bin; one without any count is left out.
        ticks: below the axis.
        x_label: what the bins are.
        limits: with their label and colour.
    """
    drawn = [kind for kind in kinds if any(kind.counts)]
    num_bins = max((len(kind.counts) for kind in drawn), default=1)
    x = Axis(0, num_bins, LEFT, WIDTH - RIGHT, [])
    shares = [[100 * count / sum(kind.counts) for count in kind.counts] for kind in drawn]
    top = max((max(share) for share in shares), default=1.0)
    y = fit_axis([0.0, top], HEIGHT - BOTTOM, TOP, num_ticks=4, loose=True)
    body = [_grid(y), _ticks(x, ticks, x_label)]
    body += [_outline(share, kind.colour, x, y) for share, kind in zip(shares, drawn, strict=True)]
    body += [_limit(x, mark) for mark in limits]
    legend = [(kind.label, kind.colour) for kind in drawn] + [(m.label, m.colour) for m in limits]
    return figure(title, Markup("").join(body), legend)


def _grid(y: Axis) -> Markup:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    rows = [
        line.format(LEFT, WIDTH - RIGHT, y.pixel(t), y.pixel(t))
        + _text("y", LEFT - 6, y.pixel(t) + 3.5, f"{short(t)} %")
        for t in y.ticks
    ]
    return Markup("").join(rows)


def _ticks(x: Axis, ticks: Sequence[Mark], label: str) -> Markup:
    marks = [_text("x", x.pixel(tick.place), HEIGHT - BOTTOM + 14, tick.label) for tick in ticks]
    return Markup("").join(marks) + _text("x", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 30, label)


def _outline(shares: Sequence[float], colour: str, x: Axis, y: Axis) -> Markup:
    corners = [(0.0, 0.0)]
    for index, share in enumerate(shares):
        corners += [(index, share), (index + 1, share)]
    corners.append((len(shares), 0.0))
    places = " ".join(f"{x.pixel(a)},{y.pixel(b)}" for a, b in corners)
    return Markup('<polygon class="area {}" points="{}"/>').format(colour, places)


def _limit(x: Axis, mark: Mark) -> Markup:
    return Markup('<line class="limit {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        mark.colour, x.pixel(mark.place), x.pixel(mark.place), TOP, HEIGHT - BOTTOM
    )


def _text(classes: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(classes, x, y, text)
