"""Table 5 of the paper as a study: Neural GPUs learn to multiply, with and without noise."""

from __future__ import annotations

from collections.abc import Iterator

from gradnoise.paper.contrast import Cell, Contrast
from gradnoise.paper.neural_gpu.config import PROFILES
from gradnoise.paper.neural_gpu.experiment import NeuralGPUExperiment
from gradnoise.paper.neural_gpu.scales import LITERAL, MULTIPLY, NONE, Grid
from gradnoise.paper.system import Request
from gradnoise.population import Adam
from gradnoise.study import Claim, Metric, Setting, Study

SOURCE = "Neelakantan et al., Table 5"
#: Models of each arm.
MODELS = 7290
#: Error in % -> models below it, without and with noise.
PUBLISHED = {1: (28, 58), 2: (90, 159), 3: (172, 282), 5: (387, 570)}
#: The threshold that decides: the one with the most models below it.
LOOSEST = 5


def below(threshold: int) -> Metric:
    """Return the metric that counts runs below a threshold of Table 5."""
    title = f"runs below {threshold} % error"
    return Metric(f"below_{threshold}", title, unit="%", chance=0.0, margin=1.0, success=100.0, rate=True)


METRIC = below(LOOSEST)
#: The metric that Table 5 has four thresholds of.
ERROR = Metric(name="error", title="wrong digits", unit="%", higher_is_better=False, chance=50.0)

CLAIMS = (
    Claim(
        id=f"T5.{LOOSEST}",
        row=MULTIPLY.name,
        statement=f"Noise brings more models below {LOOSEST} % error: 570 instead of 387 of 7,290",
        source=SOURCE,
        treatment=LITERAL.name,
        expects="helps",
        figures={
            arm.name: {"mean": 100 * models / MODELS}
            for arm, models in zip((NONE, LITERAL), PUBLISHED[LOOSEST], strict=True)
        },
    ),
)

#: The other thresholds, judged from the same runs.
CONTRASTS = tuple(
    Contrast(
        id=f"T5.{threshold}",
        statement=f"Noise brings more models below {threshold} % error: {treated} instead of {without} of 7,290",
        baseline=(Cell(MULTIPLY.name, NONE.name),),
        treatment=(Cell(MULTIPLY.name, LITERAL.name),),
        expects="helps",
        published=(100 * without / MODELS, 100 * treated / MODELS),
        metric=below(threshold),
    )
    for threshold, (without, treated) in PUBLISHED.items()
    if threshold != LOOSEST
)

PROTOCOL = (
    ("network", "state of n x 4 cells with 24 maps; 2 gated convolutional layers a step, n steps; 6 sets of their"
     " weights that take turns, are pulled together and in the end averaged"),
    ("task", "the product of two binary numbers of equal length, lowest bit first, high zeros dropped"),
    ("curriculum", "one length a minibatch, uniform up to a limit (and sometimes longer ones); the limit rises by 1"
     " after each window whose share of wrong products is below a bound"),
    ("dropout", "on the whole state, before the first step and after every one"),
    ("one update", "gradient of the mean cross entropy plus the pull; clip of the global norm; add noise"
     " N(0, eta / (1 + t)^0.55); Adam; the learning rate falls where the loss does not"),
    ("reported", "share of runs that end with fewer than 5 % wrong digits at the tested length"),
    ("pairs", "same seed, same initial weights, random numbers for problems and dropout masks in every arm"),
    ("a diverged run", "ends and counts as one in which everything is wrong"),
)  # fmt: skip

SILENT = (
    "Table 5 does not say whether its error counts digits or whole products; digits count here, and whole products"
    " stand beside them.",
    "It says neither how long models were trained nor which checkpoint counts, nor what its 7,290 models are:"
    " 40,000 updates, the last checkpoint, and 3^6 cells with 10 seeds are our choice. The grid has the authors' axes,"
    " with the clip in place of the strength of the noise.",
    "The authors' public program never adds its noise to the gradient, in any version: noise here is that of the"
    " paper's text. Read literally its norm in the first update is 434, against a clip of 1 (March 2016) or 0.05"
    " (January 2016).",
    "Every problem is run for exactly its own length; the program pads lengths to a few sizes.",
)


def build_grid(request: Request[Grid]) -> Study:
    """Make the study of a request for the network of Table 5."""
    return request.study(
        title="Neural GPU on binary multiplication (Table 5)",
        experiment=NeuralGPUExperiment(),
        metric=METRIC,
        settings=tuple(_settings(request)),
        base={},
        protocol=PROTOCOL,
        silent=SILENT,
    )


def _settings(request: Request[Grid]) -> Iterator[Setting]:
    """Make the cells of every row; a length that was asked for is that of all rows."""
    for row in request.scale.rows:
        profile = PROFILES[row.profile]
        training = {"lr": profile.lr, "clip": profile.clip, "optimizer": Adam(eps=profile.eps), "profile": row.profile}
        steps, every = request.recipe.steps or row.steps, row.eval_every
        if every is not None and steps is not None:
            every = min(every, steps)
        for name, values in row.cells:
            yield Setting(
                row=row.name,
                title=row.title,
                values={**training, **row.values, **values},
                name=name,
                steps=steps,
                eval_every=every,
            )
