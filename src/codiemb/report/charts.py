"""Charts as inline SVG: curves, histograms, a path in the plane. Colours are CSS classes of the page."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from codiemb.report.axes import Axis, fit_axis, short

WIDTH, HEIGHT = 330, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36
SMOOTH_FROM = 24  # points from which a curve is drawn smoothed, over its raw values

Points = Sequence[tuple[float, float]]


class Series(NamedTuple):
    """A line, its label in the legend, and the class that colours it."""

    label: str
    colour: str
    points: Points


def line_chart(title: str, series: Sequence[Series], *, smooth: bool = True) -> Markup:
    """Values over steps. Long curves are smoothed (over a tenth of the run), their raw values faint."""
    drawn = [entry for entry in series if entry.points]
    everything = [point for entry in drawn for point in entry.points]
    x = fit_axis([p[0] for p in everything], LEFT, WIDTH - RIGHT, num_ticks=5, loose=False)
    y = fit_axis([p[1] for p in everything], HEIGHT - BOTTOM, TOP, num_ticks=4, loose=True)
    body = [_grid(x, y, "optimizer step")]
    for entry in drawn:
        points = entry.points
        if smooth and len(points) >= SMOOTH_FROM:
            body.append(_line(points, x, y, f"raw {entry.colour}"))
            points = smoothed(points)
        body.append(_line(points, x, y, f"line {entry.colour}"))
        if len(points) <= 3:  # a single point is no line
            body += [_dot(point, x, y, entry.colour) for point in points]
    legend = [(entry.label, entry.colour) for entry in drawn] if len(drawn) > 1 else []
    return figure(title, Markup("").join(body), legend)


def path_chart(title: str, series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Smoothed paths in the plane, from a hollow to a full point."""
    paths = [Series(e.label, e.colour, _both_smoothed(e.points)) for e in series if e.points]
    points = [point for entry in paths for point in entry.points]
    x = fit_axis([p[0] for p in points], LEFT, WIDTH - RIGHT, num_ticks=5, loose=True)
    y = fit_axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, num_ticks=4, loose=True)
    body = [_grid(x, y, x_label), _text("row", LEFT + 4, TOP + 8, y_label)]
    for entry in paths:
        body += [
            _line(entry.points, x, y, f"line {entry.colour}"),
            _dot(entry.points[0], x, y, f"hollow {entry.colour}"),
            _dot(entry.points[-1], x, y, entry.colour),
        ]
    legend = [(entry.label, entry.colour) for entry in paths]
    return figure(title, Markup("").join(body), legend)


def histogram_chart(title: str, looks: Sequence[tuple[str, dict[str, list[int]]]]) -> Markup:
    """Shares of pairs by cosine, one row per look and one outline per kind, on one common axis.

    Args:
        title: of the figure.
        looks: (name of the row, counts by kind in equal bins from -1 to 1).
    """
    used = [i for _, kinds in looks for counts in kinds.values() for i, count in enumerate(counts) if count]
    num_bins = len(next(iter(looks[0][1].values())))
    first, last = max(0, min(used) - 1), min(num_bins, max(used) + 2)
    width = max(1, (last - first) // 40)  # bins drawn as one
    edges = [2 * i / num_bins - 1 for i in (first, last)]
    x = fit_axis(edges, LEFT, WIDTH - RIGHT, num_ticks=5, loose=False)
    height = (HEIGHT - TOP - BOTTOM) / len(looks)
    body = [_x_ticks(x, HEIGHT - BOTTOM, "cosine")]
    for row, (name, kinds) in enumerate(looks):
        base = TOP + (row + 1) * height
        shares = {kind: _shares(counts[first:last], width) for kind, counts in kinds.items() if any(counts)}
        top = max((max(share) for share in shares.values()), default=1)
        y = Axis(0, top, base, base - height * 0.88, [])
        for kind, share in shares.items():
            at = [2 * min(first + k * width, last) / num_bins - 1 for k in range(len(share) + 1)]
            body.append(_steps(at, share, x, y, kind))
        body.append(_rule("axis", base))
        body.append(_text("row", 2, round(base - height / 2), name))
    shown = dict.fromkeys(kind for _, kinds in looks for kind, counts in kinds.items() if any(counts))
    return figure(title, Markup("").join(body), [(kind.replace("_", " "), kind) for kind in shown])


def smoothed(points: Points) -> list[tuple[float, float]]:
    """Exponential moving average whose memory is a tenth of the curve, started without bias."""
    keep = 1 - 1 / max(1.0, len(points) / 10)
    total = weight = 0.0
    out = []
    for step, value in points:
        total, weight = keep * total + value, keep * weight + 1
        out.append((step, total / weight))
    return out


def _both_smoothed(points: Points) -> list[tuple[float, float]]:
    if len(points) < SMOOTH_FROM:
        return list(points)
    first = smoothed([(float(i), p[0]) for i, p in enumerate(points)])
    second = smoothed([(float(i), p[1]) for i, p in enumerate(points)])
    return [(a, b) for (_, a), (_, b) in zip(first, second, strict=True)]


def _shares(counts: list[int], width: int) -> list[float]:
    grouped = [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
    return [count / sum(counts) for count in grouped] if sum(counts) else [0.0] * len(grouped)


def figure(title: str, body: Markup, legend: Sequence[tuple[str, str]]) -> Markup:
    """An SVG of WIDTH x HEIGHT with its title, and a legend of labels and classes."""
    keys = Markup("").join(
        Markup('<span class="key"><i class="{}"></i>{}</span>').format(colour, label)
        for label, colour in legend
    )
    return Markup(
        '<figure><figcaption><b>{}</b><div class="keys">{}</div></figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>'
    ).format(title, keys, WIDTH, HEIGHT, title, body)


def _grid(x: Axis, y: Axis, x_label: str) -> Markup:
    rows = [_rule("grid", y.pixel(t)) + _text("y", LEFT - 6, y.pixel(t) + 3.5, short(t)) for t in y.ticks]
    return Markup("").join(rows) + _x_ticks(x, HEIGHT - BOTTOM, x_label)


def _x_ticks(x: Axis, bottom: float | int, label: str) -> Markup:
    ticks = [_text("x", x.pixel(t), bottom + 14, short(t)) for t in x.ticks]
    return Markup("").join(ticks) + _text("x", (LEFT + WIDTH - RIGHT) / 2, bottom + 30, label)


def _rule(classes: str, y: float | int) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        classes, LEFT, WIDTH - RIGHT, y, y
    )


def _text(classes: str, x: float | int, y: float | int, text: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(classes, x, y, text)


def _line(points: Points, x: Axis, y: Axis, classes: str) -> Markup:
    places = " ".join(f"{x.pixel(a)},{y.pixel(b)}" for a, b in points)
    return Markup('<polyline class="{}" points="{}"/>').format(classes, places)


def _dot(point: tuple[float, float], x: Axis, y: Axis, classes: str) -> Markup:
    return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.2"/>').format(
        classes, x.pixel(point[0]), y.pixel(point[1])
    )


def _steps(edges: list[float], shares: list[float], x: Axis, y: Axis, kind: str) -> Markup:
    """An outline of bars, filled; from the base line up and back."""
    corners = [(edges[0], 0.0)]
    for left, right, share in zip(edges, edges[1:], shares, strict=False):
        corners += [(left, share), (right, share)]
    corners.append((edges[-1], 0.0))
    places = " ".join(f"{x.pixel(a)},{y.pixel(b)}" for a, b in corners)
    return Markup('<polygon class="area {}" points="{}"/>').format(escape(kind), places)
