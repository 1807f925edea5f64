"""What the report of an NRAM study adds: how fast machines learn, how many at each strength of noise, and tables."""

from __future__ import annotations

from gradnoise.paper.nram.tables import learned
from gradnoise.study import StudyResults
from gradnoise.study.report import Extra, dose_response, evaluated_rows, exact_tests, learning_curves

CAPTION = (
    "Clopper-Pearson intervals in %; seeds that are solved with the noise alone (gained) and without it alone"
    " (lost); exact two-sided McNemar test over shared seeds, Fisher's test over all, neither adjusted for the"
    " number of tests."
)


def learning(results: StudyResults) -> Extra:
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
