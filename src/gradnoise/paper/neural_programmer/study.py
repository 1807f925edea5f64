"""Section 4.3 of the paper as studies: a single column, Table 3, Figure 2, and the ablations of section 4.6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gradnoise.paper.neural_programmer.experiment import TableQuestions
from gradnoise.paper.neural_programmer.scales import NOISE, NONE, Grid, Row
from gradnoise.paper.system import Request
from gradnoise.study import Claim, Setting, Study

SOURCE = "Neelakantan et al."


def _share(of: int) -> dict[str, float]:
    return {"mean": 100 * of / 216}


def _cell(id: str, row: str, expects: str, statement: str, without: float, treated: float) -> Claim:
    figures = {NONE.name: {"best": without}, NOISE.name: {"best": treated}}
    return Claim(id, row, statement, f"{SOURCE}, Table 3", NOISE.name, expects, figures)


#: Shares of 216 runs, and the best accuracies of Table 3, in %.
CLAIMS = (
    Claim(
        "4.3-single",
        "single",
        "Noise lets more runs answer every question about a single column, 9 of 216 against 1",
        f"{SOURCE}, section 4.3",
        NOISE.name,
        "helps",
        {NONE.name: _share(1), NOISE.name: _share(9)},
    ),
    Claim(
        "4.3-dropout",
        "single-dropout",
        "With dropout no run answers every question",
        f"{SOURCE}, section 4.3",
        NOISE.name,
        "chance",
        {NONE.name: _share(0), NOISE.name: _share(0)},
    ),
    _cell("T3.five", "five", "helps", "Noise raises the best accuracy, five columns", 95.3, 98.7),
    _cell("T3.text", "text", "helps", "Noise raises the best accuracy, text entries", 97.6, 98.8),
    _cell("T3.five-dropout", "five-dropout", "helps", "The same with dropout, five columns", 97.4, 99.2),
    _cell("T3.text-dropout", "text-dropout", "hurts", "With dropout noise lowers it, text entries", 99.1, 97.3),
    Claim(
        "F2",
        "figure2",
        "Noise generalises almost always better",
        f"{SOURCE}, Figure 2",
        NOISE.name,
        "helps",
    ),
)

PROTOCOL = (
    ("network", "recurrent encoder, d = 256, selectors of operations and columns over 4 steps; no biases"),
    ("initial weights", "uniform in ±0.1"),
    ("questions", "50,000 about tables of 30 to 100 rows with numbers up to 100; tests have 120 rows and numbers up to"
     " 200, each question on its own tables"),
    ("training", "mixtures of operations; Huber loss of numbers, cross-entropy of cells times lambda; Adam, rate 0.001,"
     " minibatches of 50"),
    ("one update", "gradient of the mean loss; clip by global norm; add noise N(0, eta / (1 + t)^0.55), eta = 1; Adam"),
    ("tests", "every choice replaced by the most likely one, run in float64; a number is right up to its first"
     " decimal, a lookup if every cell is right"),
    ("reported", "the test at the first epoch with the best validation accuracy; “solved” if it is 100 %"),
    ("end", "300 epochs, or earlier: all validation questions right, and then all on as many other tables"),
    ("pairs", "same seed, same initial weights, minibatches and dropout masks in every arm"),
)  # fmt: skip

SILENT = (
    "Neither paper gives validation set, length of training, rounding of numbers, or the rule of stopping; the choices"
    " are in docs/neural_programmer.md.",
    "Comparisons with a pivot give its attention no gradient, as the formulas say and the author's later program does.",
    "Rate and places of dropout are those of the first author's later system.",
)


def build(request: Request[Grid]) -> Study:
    """Make the study of a request."""
    experiment, scale = TableQuestions(), request.scale
    settings = tuple(setting for row in scale.rows for setting in _settings(experiment, request, row))
    return request.study(
        title=f"Neural Programmer (Section 4.3), {scale.title}",
        experiment=experiment,
        metric=scale.metric,
        settings=settings,
        base={"lr": 1e-3},
        protocol=PROTOCOL,
        silent=SILENT,
        steps=max(s.steps or 0 for s in settings),
        eval_every=max(s.eval_every or 0 for s in settings),
        unit=lambda setting: setting.eval_every or 1,  # as it is built: an epoch
    )


def _settings(experiment: TableQuestions, request: Request[Grid], row: Row) -> Iterator[Setting]:
    """Make the points of a row; all run for the same number of epochs, and are evaluated after each."""
    scale = request.scale
    for point in row.points[: scale.most]:
        values = {**row.values, **point, **(scale.shrink or {})}
        epoch = experiment.epoch(experiment.configured(values))
        yield Setting(
            row=row.name,
            title=row.title,
            values=values,
            arms=row.arms,
            name=_named(point),
            steps=epoch * request.length,
            eval_every=epoch,
        )


def _named(point: Mapping[str, Any]) -> str:
    return (
        f"clip={point['clip']:g}, eps={point['optimizer'].eps:g}, delta={point['delta']:g},"
        f" lambda={point['lookup_weight']:g}"
    )
