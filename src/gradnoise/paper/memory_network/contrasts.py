"""What section 4.2 says besides the validation errors of Table 2: training errors, the warm start, other noise."""

from collections.abc import Iterator

from gradnoise.paper.contrast import Cell, Contrast
from gradnoise.paper.memory_network.scales import NOISE, NONE
from gradnoise.paper.memory_network.study import STAGES, TABLE_2, TRAIN

#: First part of an id -> how the networks are trained. The paper does not say which.
MODES = {"joint": "jointly", "tasks": "by task"}
ARMS = {NONE.name: "without noise", NOISE.name: "with noise"}


def _training_errors(mode: str) -> Iterator[Contrast]:
    for number, (stage, title) in enumerate(STAGES.items(), start=1):
        row = f"{mode}-{stage}"
        yield Contrast(
            id=f"T2.{number}-train/{mode}",
            statement=f"Noise lowers the training error of {title} training ({MODES[mode]})",
            baseline=(Cell(row, NONE.name),),
            treatment=(Cell(row, NOISE.name),),
            expects="helps",
            published=(TABLE_2[stage, NONE.name][0], TABLE_2[stage, NOISE.name][0]),
            metric=TRAIN,
        )


def _warm_starts(mode: str) -> Iterator[Contrast]:
    for arm, title in ARMS.items():
        yield Contrast(
            id=f"4.2-warm/{mode}/{arm}",
            statement=f"The warm start helps {title} ({MODES[mode]})",
            baseline=(Cell(f"{mode}-one", arm),),
            treatment=(Cell(f"{mode}-two", arm),),
            expects="helps",
            published=(TABLE_2["one", arm][1], TABLE_2["two", arm][1]),
        )
    gain = {stage: TABLE_2[stage, NOISE.name][1] - TABLE_2[stage, NONE.name][1] for stage in STAGES}
    yield Contrast(
        id=f"4.2-most/{mode}",
        statement=f"Noise changes the validation error more in one stage than in two ({MODES[mode]})",
        baseline=(Cell(f"{mode}-two", NOISE.name, less=NONE.name),),
        treatment=(Cell(f"{mode}-one", NOISE.name, less=NONE.name),),
        expects="helps",
        published=(gain["two"], gain["one"]),
    )


def _other_noise() -> Iterator[Contrast]:
    for stage, title in STAGES.items():
        usual = (Cell(f"tasks-{stage}", NOISE.name),)
        for arm, eta in (("eta-0.1", "0.1"), ("eta-1", "1")):
            yield Contrast(
                id=f"4.2-eta/{eta}-{stage}",
                statement=f"Noise of η = {eta} does worse than 0.01 in {title} training (by task)",
                baseline=usual,
                treatment=(Cell(f"tasks-{stage}", arm),),
                expects="hurts",
            )
        for reading in ("sd", "variance"):
            yield Contrast(
                id=f"4.6-fixed-memn2n/{reading}/{stage}",
                statement=f"Fixed noise of {reading} 0.001 does as annealed noise in {title} training (by task)",
                baseline=usual,
                treatment=(Cell(f"tasks-{stage}", f"fixed-{reading}"),),
                expects="no difference",
            )


CONTRASTS = (
    *(contrast for mode in MODES for made in (_training_errors, _warm_starts) for contrast in made(mode)),
    *_other_noise(),
)
