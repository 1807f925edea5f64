"""What the report of an NRAM study adds in numbers: exact tests as in the paper's field, and what was learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median

from scipy import stats

from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.report import Table

PLATEAU = 10.0
"""A machine that answers with the head of the list is wrong far more often, in %."""

Cells = dict[str, list[TrialResult]]
"""Finished runs by arm."""


def solved(run: TrialResult) -> bool:
    """Whether a run made no error in both exams."""
    return run.final.get("solved", 0.0) >= 100


def exact(results: StudyResults) -> Table:
    """Solved runs of every arm against those of the first one, by tests that hold at any size.

    Args:
        results: of an NRAM study.
    """
    base = results.record.arms[0].name
    rows = []
    for title, cells in _cells(results):
        without = {_pair(t): solved(t) for t in cells.get(base, [])}
        for arm in results.record.arms:
            if not (runs := cells.get(arm.name)):
                continue
            hits = sum(map(solved, runs))
            low, high = stats.binomtest(hits, len(runs)).proportion_ci(method="exact")
            line = (title, arm.label, f"{hits}/{len(runs)}", f"{100 * low:.1f} to {100 * high:.1f}")
            rows.append((*line, *(("", "", "", "") if arm.name == base else _against(runs, without))))
    return Table(
        ("row", "arm", "solved", "95 %, exact", "gained", "lost", "p, McNemar", "p, Fisher"),
        tuple(rows),
        "Clopper-Pearson intervals in %; seeds that are solved with the noise alone (gained) and without it alone"
        " (lost); exact two-sided McNemar test over shared seeds, Fisher's test over all, neither adjusted for the"
        " number of tests.",
    )


def _against(runs: Sequence[TrialResult], without: dict[tuple[str, int], bool]) -> tuple[str, str, str, str]:
    pairs = [(solved(t), without[_pair(t)]) for t in runs if _pair(t) in without]
    gained, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    mcnemar = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    hits, base = sum(map(solved, runs)), sum(without.values())
    _, fisher = stats.fisher_exact([[hits, len(runs) - hits], [base, len(without) - base]])
    return str(gained), str(lost), f"{mcnemar:.3g}", f"{fisher:.3g}"


def learned(results: StudyResults) -> Table:
    """What runs ended with: solved ones beside the hard machine and larger problems, the others by hops.

    Args:
        results: of an NRAM study.
    """
    found = [t for _, cells in _cells(results) for runs in cells.values() for t in runs]
    hops = sorted({name for t in found for name in t.final if name.startswith("error_k")})
    rows = []
    for row, cells in _cells(results, pooled=False):
        for arm in results.record.arms:
            runs = cells.get(arm.name, [])
            good, bad = [t for t in runs if solved(t)], [t for t in runs if not solved(t)]
            if runs:
                medians = [(good, "hard_error"), (good, "far_error"), (bad, "error"), *((bad, name) for name in hops)]
                means = [(runs, "steps"), (runs, "level")]
                cells_of = [_of(*x, median) for x in medians] + [_of(*x, fmean) for x in means]
                beyond = sum(
                    min(t.curves["error"].values, default=100.0) < PLATEAU for t in runs if "error" in t.curves
                )
                rows.append((row, arm.label, f"{len(good)}/{len(runs)}", f"{beyond}/{len(runs)}", *cells_of))
    return Table(
        ("row", "arm", "solved", f"ever below {PLATEAU:g} %", "hard", "twice as large", "error, unsolved",
         *(f"k = {name.removeprefix('error_k')}" for name in hops), "E[t]", "level"),
        tuple(rows),
        f"Runs whose error was below {PLATEAU:g} % at some evaluation, far below what finding the head gives. Medians"
        " of errors in %: solved runs as hard machines, and on problems of twice the size; unsolved runs, in all and by"
        " the number of hops. Means over all runs of the time of stop and the curriculum's level.",
    )  # fmt: skip


def _of(runs: Sequence[TrialResult], name: str, average: Callable[[list[float]], float]) -> str:
    values = [t.final[name] for t in runs if t.final.get(name) is not None]
    return f"{average(values):.1f}" if values else ""


def _cells(results: StudyResults, *, pooled: bool = True) -> Iterator[tuple[str, Cells]]:
    """Rows with finished runs by arm; then, of several rows with the same arms and lesson, all together."""
    found = []
    for row, title in results.record.rows:
        cells: Cells = {}
        for t in results.trials:
            if t.row == row and t.done:
                cells.setdefault(t.arm, []).append(t)
        if cells:
            found.append((title, cells))
    yield from found
    alike = {(frozenset(cells), t.config["lesson"]) for _, cells in found for runs in cells.values() for t in runs}
    if pooled and len(found) > 1 and len(alike) == 1:
        yield "all", {arm: [t for _, cells in found for t in cells[arm]] for arm in found[0][1]}


def _pair(t: TrialResult) -> tuple[str, int]:
    return t.row, t.seed
