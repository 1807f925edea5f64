"""What a dose finder found: a row for each dose, and the largest one that does no harm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from gradnoise.study.analysis.statistics import Interval, sign_flip_interval

LEVEL = 0.9
"""Level of the intervals: a dose that harms passes for one that does not in 1 of 20 pilots at most."""

SHARE = 0.05
"""The margin, where none is given: this share of the mean score without noise."""

HELPS, FINE, UNCLEAR, HARM, DIVERGES = "helps", "no harm", "unclear", "harm", "diverges"


@dataclass(frozen=True)
class Tried:
    """One dose.

    Args:
        dose: rho, or what the schedule was made of.
        scores: one for each seed.
        worse: mean over seeds of how much worse the score is than without noise; negative where it is better.
        interval: of that mean, at `LEVEL`.
        verdict: "helps", "no harm", "unclear", "harm" or "diverges".
    """

    dose: float
    scores: tuple[float, ...]
    worse: float
    interval: Interval
    verdict: str

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Found:
    """The outcome of `find`. `str(found)` is a table and what follows from it.

    Args:
        tried: the doses, ascending, the first of them 0.
        seeds: of the runs, the same for each dose.
        margin: a dose does no harm if the score is shown to be worse by no more than this.
        better: "lower" or "higher" scores.
        what: name of the score.
    """

    tried: tuple[Tried, ...]
    seeds: tuple[int, ...]
    margin: float
    better: str
    what: str

    @property
    def rho(self) -> float:
        """Return the largest dose that is shown to do no harm, as all smaller ones are; 0 where not even the smallest.

        Doses are judged from the smallest up and the first that is not cleared ends it: so the chance to clear one
        that harms is that of a single test, however many doses there are.
        """
        return self._largest(lambda x: x.verdict in (HELPS, FINE))

    @property
    def seen(self) -> float:
        """Return the largest dose of which, as of all smaller ones, no harm is seen, be it shown or not."""
        return self._largest(lambda x: x.verdict not in (HARM, DIVERGES) and x.worse <= self.margin)

    def _largest(self, passes: Callable[[Tried], bool]) -> float:
        largest = 0.0
        for x in self.tried[1:]:
            if not passes(x):
                break
            largest = x.dose
        return largest

    @property
    def best(self) -> Tried:
        """Return the dose with the best mean score, which is often chance."""
        finite = [x for x in self.tried if math.isfinite(x.mean)]
        return min(finite, key=lambda x: x.mean if self.better == "lower" else -x.mean)

    def __str__(self) -> str:
        """Return the table and the answer as text."""
        head = f"{'dose':>8}  {self.what:>12}  {'worse by':>10}  {'90 % interval':>23}  verdict"
        return "\n".join([head, *map(_line, self.tried), "", *self.answer])

    @property
    def answer(self) -> tuple[str, ...]:
        """Return in sentences what follows."""
        n, most = len(self.seeds), self.tried[-1].dose
        within = f"{self.what} worse by less than {self.margin:.3g}"
        sentences = []
        helping = [x for x in self.tried if x.verdict == HELPS]
        if helping:
            none = self.tried[0].mean
            at = ", ".join(f"{x.dose:g} ({x.mean:.3g} against {none:.3g})" for x in helping)
            sentences.append(f"Noise seems to help at {at}.")
        if self.rho:
            sentences.append(f"No harm up to a dose of {self.rho:g}: {within} there, if at all.")
        else:
            sentences.append(f"Not even the smallest dose is shown to do no harm ({within}).")
        if self.seen > self.rho:
            sentences.append(f"None is seen up to {self.seen:g}, which {n} seeds do not decide: take more seeds.")
        if self.rho == most and (not helping or helping[-1].dose == most):
            sentences.append("That is the largest dose tried: try larger ones.")
        sentences.append(f"A pilot of {n} seeds: compare the dose with no noise on new seeds before you trust it.")
        return tuple(sentences)

    def plot(self, path: str | Path) -> Path:
        """Draw the mean score over the dose, with every seed; the suffix of the path decides the format.

        Returns:
            The path.
        """
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        doses = [x.dose for x in self.tried]
        for scores in zip(*(x.scores for x in self.tried), strict=True):
            axes.plot(doses, scores, color="0.75", linewidth=0.8)
        axes.plot(doses, [x.mean for x in self.tried], color="#0067b1", marker="o", linewidth=2, label="mean")
        worst = self.tried[0].mean + (self.margin if self.better == "lower" else -self.margin)
        axes.axhline(worst, color="#b84a00", linestyle="--", linewidth=1, label="margin")
        if self.rho:
            axes.axvline(self.rho, color="#00765a", linewidth=1, label=f"no harm up to {self.rho:g}")
        axes.set_xscale("symlog", linthresh=min(doses[1:]))
        axes.set_xlim(left=0)
        axes.set_xlabel("dose")
        axes.set_ylabel(self.what)
        axes.legend(frameon=False)
        figure.savefig(path)
        return Path(path)


def judge(
    scores: Mapping[float, Sequence[float]], seeds: Sequence[int], margin: float | None, better: str, what: str
) -> Found:
    """Compare each dose with none, seed by seed.

    Args:
        scores: dose -> score of each seed, nan for a run that diverged; 0 is among the doses.
        seeds: at least 5.
        margin: see `Found`; None for a share of the mean score without noise.
        better: "lower" or "higher".
        what: name of the score.

    Raises:
        ValueError: a run without noise diverged.
    """
    base = scores[0.0]
    if lost := [seed for seed, x in zip(seeds, base, strict=True) if not math.isfinite(x)]:
        raise ValueError(
            f"the runs without noise of seeds {lost} diverged, so that there is nothing to compare with; train with a"
            " smaller learning rate or a clip"
        )
    margin = SHARE * abs(sum(base) / len(base)) if margin is None else margin
    sign = 1.0 if better == "lower" else -1.0
    tried = []
    for dose in sorted(scores):
        worse = [sign * (x - y) for x, y in zip(scores[dose], base, strict=True)]
        tried.append(_tried(dose, tuple(scores[dose]), worse, margin))
    return Found(tuple(tried), tuple(seeds), margin, better, what)


def _tried(dose: float, scores: tuple[float, ...], worse: Sequence[float], margin: float) -> Tried:
    if not all(map(math.isfinite, worse)):
        return Tried(dose, scores, math.nan, Interval(-math.inf, math.inf, LEVEL), DIVERGES)
    interval = sign_flip_interval(worse, LEVEL, seed=0)
    if interval.high <= margin:
        verdict = HELPS if interval.high < 0 else FINE
    else:
        verdict = HARM if interval.low > 0 else UNCLEAR
    return Tried(dose, scores, sum(worse) / len(worse), interval, verdict if dose else "")


def _line(x: Tried) -> str:
    if not x.dose:
        return f"{x.dose:>8g}  {x.mean:>12.5g}"
    if x.verdict == DIVERGES:
        return f"{x.dose:>8g}  {'':>12}  {'':>10}  {'':>23}  {x.verdict}"
    low, high = x.interval.low + 0.0, x.interval.high + 0.0  # no "-0"
    interval = f"[{low:.3g}, {high:.3g}]"
    return f"{x.dose:>8g}  {x.mean:>12.5g}  {x.worse + 0.0:>10.3g}  {interval:>23}  {x.verdict}"
