"""Axes of a chart: round ticks, short labels, and data mapped to pixels."""

import math
from typing import NamedTuple


class Axis(NamedTuple):
    """An interval of values on an interval of pixels, with its ticks."""

    low: float | int
    high: float | int
    pixel_low: float | int
    pixel_high: float | int
    ticks: list[float]

    def pixel(self, value: float | int) -> float:
        """Where a value lies."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.pixel_low + share * (self.pixel_high - self.pixel_low), 1)


def fit_axis(
    values: list[float], pixel_low: float | int, pixel_high: float | int, *, num_ticks: int, loose: bool
) -> Axis:
    """An axis around finite values; `loose` ends it on ticks, otherwise on the values themselves."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a constant: leave room on both sides
        pad = abs(low) * 0.5 or 0.5
        low, high = low - pad, high + pad
    step = tick_step(high - low, num_ticks)
    if loose:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, pixel_low, pixel_high, [k * step for k in range(first, last + 1)])


def tick_step(span: float, num_ticks: int) -> float:
    """1, 2 or 5 times a power of ten: between half and one and a half times `num_ticks` intervals."""
    raw = span / num_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.7 * raw)


def short(value: float | int) -> str:
    """At most about six characters: 12000 -> 12k, 0.00035 -> 3.5e-4."""
    if abs(value) >= 10_000:
        scaled, unit = (value / 1e6, "M") if abs(value) >= 1e6 else (value / 1e3, "k")
        return f"{scaled:.4g}{unit}"
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"
