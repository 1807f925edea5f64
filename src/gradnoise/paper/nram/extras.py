"""What an NRAM study adds to its report: how fast machines learn, how many at each dose of noise, what they learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from gradnoise.study import StudyResults, TrialResult
from gradnoise.study.analysis import done_by_row, succeeded
from gradnoise.study.report import Extras, Table, dose_response, evaluated_rows, exact_tests, learning_curves

PLATEAU = 10.0
"""A machine that answers with the head of the list is wrong far more often, in %."""

CAPTION = (
    "Clopper-Pearson intervals in %; seeds that are solved with the noise alone (gained) and without it alone"
    " (lost); exact two-sided McNemar test over shared seeds, Fisher's test over all, neither adjusted for the"
    " number of tests."
)


def learning(results: StudyResults) -> Extras:
    """Make the learning curves, the share of solved runs by the strength of the noise, and the tables.

    Args:
        results: of an NRAM study.
    """
    if not evaluated_rows(results):
        return []
    curves = learning_curves(results, "error", y="mean error in %", y_success="% of runs solved by then")
    arms = [arm.name for arm in results.record.arms]
    doses = {name: _dose(name) for name in arms if name == "none" or name.startswith("eta-")}
    return [
        ("Learning curves: a run that is solved ends there, and counts on as it was", curves),
        (
            "Dose and response: runs that reach zero error by the strength of their noise",
            dose_response(results, doses, x="η", y="% of runs solved"),
        ),
        (
            "Exact tests of the runs at zero error",
            exact_tests(results, succeeds="solved", caption=CAPTION, pool_by="lesson"),
        ),
        ("What was learned", learned(results)),
    ]


def _dose(arm: str) -> str:
    return arm.removeprefix("eta-").replace("none", "0")


def learned(results: StudyResults) -> Table:
    """Make the table of what runs ended with, by row and arm.

    Args:
        results: of an NRAM study.
    """
    rows = done_by_row(results)
    found = [t for _, cells in rows for runs in cells.values() for t in runs]
    hops = sorted({name for t in found for name in t.final if name.startswith("error_k")})
    return Table(
        ("row", "arm", "solved", f"ever below {PLATEAU:g} %", "hard", "twice as large", "error, unsolved",
         *(f"k = {name.removeprefix('error_k')}" for name in hops), "E[t]", "level"),
        tuple(
            (title, arm.label, *_cells(cells[arm.name], results, hops))
            for title, cells in rows
            for arm in results.record.arms
            if arm.name in cells
        ),
        f"Runs whose error was below {PLATEAU:g} % at some evaluation, far below what finding the head gives. Medians"
        " of errors in %: solved runs as hard machines, and on problems of twice the size; unsolved runs, in all and by"
        " the number of hops. Means over all runs of the time of stop and the curriculum's level.",
    )  # fmt: skip


def _cells(runs: Sequence[TrialResult], results: StudyResults, hops: Sequence[str]) -> list[str]:
    solved = [t for t in runs if succeeded(t, results.record.metric)]
    unsolved = [t for t in runs if not succeeded(t, results.record.metric)]
    errors = (t.curves["error"].values for t in runs if "error" in t.curves)
    below = sum(min(values, default=100.0) < PLATEAU for values in errors)
    medians = [(solved, "hard_error"), (solved, "far_error"), *((unsolved, name) for name in ("error", *hops))]
    return [
        f"{len(solved)}/{len(runs)}",
        f"{below}/{len(runs)}",
        *(_average(group, name, median) for group, name in medians),
        *(_average(runs, name, fmean) for name in ("steps", "level")),
    ]


def _average(runs: Sequence[TrialResult], name: str, average: Callable[[list[float]], float]) -> str:
    values = [t.final[name] for t in runs if t.final.get(name) is not None]
    return f"{average(values):.1f}" if values else ""
