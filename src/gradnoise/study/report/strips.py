"""Strip charts of a page: a line for each arm of each row, with a point, its interval and the single seeds.

The page draws them with percentages instead of a fixed size: as wide as the screen, with text that stays readable on a
phone. Nothing here renders anything: a chart is values, made from a summary alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from gradnoise.study.analysis.comparison import Outcome
from gradnoise.study.analysis.shapes import Effect, Fates, Summary
from gradnoise.study.report.limits import Limits, limits
from gradnoise.study.report.numbers import bounds, decimals, number
from gradnoise.study.report.text import difference_heading, success_words

#: Single seeds are drawn as dots up to so many on a page; beyond, a pale bar spans the middle 80% of them.
DOTS = 4_000


@dataclass(frozen=True)
class Strip:
    """One arm in one row; places are in percent of the width."""

    arm: str
    value: str
    """Difference or rate, as text."""
    detail: str
    """Interval or setting, as text."""
    place: float
    low: float | None
    high: float | None
    """Ends of the interval; None where it has none."""
    dots: tuple[tuple[float, float], ...] = ()
    """Place and height, in percent, of each seed."""
    middle: tuple[float, float] | None = None
    """Where the middle 80% of the seeds lie, where they are too many for dots."""
    published: float | None = None
    beyond: str = ""
    """"<" or ">" where the point lies outside of the picture."""
    verdict: str = ""
    outlook: str = ""
    """If undecided, what would decide; "" otherwise."""


@dataclass(frozen=True)
class Strips:
    """A chart: groups of strips on one axis."""

    groups: tuple[tuple[str, tuple[Strip, ...]], ...]
    """Title of the row, and its strips."""
    axis: str
    ticks: tuple[tuple[float, str], ...]
    zero: float | None
    """Place of no difference; None where the axis has none."""
    band: tuple[float, float] | None
    """Between which places differences are too small to matter."""
    better: str
    """"right" or "left"."""
    caption: str


def differences(summary: Summary) -> Strips | None:
    """Chart every comparison with its mean, interval, seeds and verdict; None where no pair is whole.

    Args:
        summary: what `summarise` returned.
    """
    effects = [e for e in summary.effects if e.comparison.n]
    if not effects:
        return None
    shown, metric = shown_differences(summary), summary.record.metric
    place = _scale(shown)
    dots = sum(e.comparison.n for e in effects) <= DOTS
    by_row: dict[str, list[Strip]] = {}
    for effect in effects:
        by_row.setdefault(effect.row, []).append(_strip(effect, summary, place, shown, dots))
    margin = metric.margin
    return Strips(
        groups=tuple((title, tuple(by_row[row])) for row, title in summary.record.rows if row in by_row),
        axis=difference_heading(metric),
        ticks=_ticks(shown, place),
        zero=place(0.0),
        band=(place(-margin), place(margin)) if margin else None,
        better="right" if metric.higher_is_better else "left",
        caption=difference_caption(summary, dots) + shown.sentence({a.name: a.label for a in summary.record.arms}),
    )


def shown_differences(summary: Summary) -> Limits:
    """Return which part of the axis of differences is drawn."""
    values: dict[str, list[float]] = {}
    for effect in summary.effects:
        comparison, published = effect.comparison, published_difference(effect, summary)
        if comparison.n:
            ends = (comparison.interval.low, comparison.interval.high, *([] if published is None else [published]))
            values.setdefault(effect.arm, []).extend([*comparison.differences, *ends])
    margin = summary.record.metric.margin or 0.0
    return limits(values, (-margin, margin))


def difference_caption(summary: Summary, dots: bool = True) -> str:
    """Explain the marks of a chart of differences.

    Args:
        summary: what is drawn.
        dots: whether each seed has its dot.
    """
    baseline = summary.record.arms[0].label
    seeds = "Dots: one seed each" if dots else "Pale bar: the middle 80% of seeds"
    caption = f"{seeds}, arm minus {baseline}. Bar and tick: mean and its interval."
    if summary.record.metric.margin:
        caption += " Band: differences too small to matter."
    if any(published_difference(e, summary) is not None for e in summary.effects if e.comparison.n):
        caption += " Hollow triangle: the published difference."
    return caption


def published_difference(effect: Effect, summary: Summary) -> float | None:
    """Return the difference of the published means of an arm and the baseline; None where one is not published."""
    ours = summary.published(effect.row, effect.arm).get("mean")
    base = summary.published(effect.row, summary.record.arms[0].name).get("mean")
    return None if ours is None or base is None else ours - base


def spread(n: int) -> np.ndarray:
    """Return heights in [-0.5, 0.5] that keep n dots apart: multiples of the golden ratio, whatever their number."""
    return (np.arange(n) * 0.618034) % 1.0 - 0.5


def _strip(effect: Effect, summary: Summary, place: Callable[[float], float], shown: Limits, dots: bool) -> Strip:
    c, digits = effect.comparison, decimals(summary.record.metric)
    inside = shown.low <= c.difference <= shown.high
    whole = math.isfinite(c.interval.low) and math.isfinite(c.interval.high) and inside
    seen = [d for d in c.differences if shown.low <= d <= shown.high]
    published = published_difference(effect, summary)
    middle = np.quantile(c.differences, [0.1, 0.9]).tolist()
    return Strip(
        arm=effect.arm,
        value=number(c.difference, digits, signed=True),
        detail=bounds(c.interval, digits, signed=True),
        place=place(c.difference),
        low=place(c.interval.low) if whole else None,
        high=place(c.interval.high) if whole else None,
        dots=tuple((place(d), round(50.0 + 60.0 * y, 1)) for d, y in zip(seen, spread(len(seen)), strict=True))
        if dots
        else (),
        middle=None if dots else (place(middle[0]), place(middle[1])),
        published=None if published is None else place(published),
        beyond="" if inside else (">" if c.difference > shown.high else "<"),
        verdict=effect.verdict.outcome.value,
        outlook=outlook(effect, summary),
    )


def outlook(effect: Effect, summary: Summary) -> str:
    """Say in a few words how many pairs would decide an undecided comparison; "" where it is decided or unknown."""
    needed = effect.verdict.pairs_needed
    if effect.verdict.outcome is not Outcome.UNDECIDED or needed is None:
        return ""
    pairs = "seeds" if summary.record.independent else "pairs"
    if needed.high is None:
        return f"needs {needed.low:,} {pairs} or more"
    if needed.high == needed.low:
        return f"needs about {needed.low:,} {pairs}"
    return f"needs {needed.low:,} to {needed.high:,} {pairs}"


def _scale(shown: Limits) -> Callable[[float], float]:
    """Return value -> percent of the width, cut off at both ends."""
    width = shown.high - shown.low
    return lambda value: round(min(max(100.0 * (value - shown.low) / width, 0.0), 100.0), 2)


def _ticks(shown: Limits, place: Callable[[float], float]) -> tuple[tuple[float, str], ...]:
    values: Sequence[float] = MaxNLocator(5).tick_values(shown.low, shown.high)
    inside = [v for v in values if shown.low <= v <= shown.high]
    return tuple((place(v), f"{v + 0.0:g}".replace("-", "−")) for v in inside)


def rates(summary: Summary) -> Strips | None:
    """Chart the share of runs that succeed, by setting, with its interval; None without a success rule.

    Args:
        summary: what `summarise` returned.
    """
    metric, cells = summary.record.metric, [c for c in summary.cells if c.fates.done]
    if metric.success is None or not cells:
        return None
    by_row: dict[str, list[Strip]] = {}
    for cell in cells:
        by_row.setdefault(cell.row, []).extend(_rate(cell.arm, f) for f in cell.by_setting if f.done)
    return Strips(
        groups=tuple((title, tuple(by_row[row])) for row, title in summary.record.rows if row in by_row),
        axis="runs that succeed",
        ticks=tuple((float(x), f"{x}%") for x in (0, 25, 50, 75, 100)),
        zero=None,
        band=None,
        better="right",
        caption=rate_caption(summary),
    )


def rate_caption(summary: Summary) -> str:
    """Explain a chart of success rates."""
    return f"Share of runs that end with {success_words(summary.record.metric)}, with its interval."


def _rate(arm: str, fates: Fates) -> Strip:
    interval = fates.interval
    return Strip(
        arm=arm,
        value=f"{fates.successes}/{fates.done}",
        detail=fates.setting,
        place=round(100.0 * (fates.successes or 0) / fates.done, 2),
        low=round(100.0 * interval.low, 2) if interval else None,
        high=round(100.0 * interval.high, 2) if interval else None,
    )
