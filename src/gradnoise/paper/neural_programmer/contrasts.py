"""What sections 4.3 and 4.6 say besides Table 3 and the single column: seeds, training loss, other noise, batches."""

from gradnoise.paper.contrast import EACH_SEED, NEVER, Cell, Contrast
from gradnoise.paper.neural_programmer.scales import BATCHES, FIGURE_2, FIVE, FIXED, NOISE, NONE, SINGLE, WEIGHTS
from gradnoise.study import Metric

#: The training loss has no margin: only "helps" and "hurts" are read from it.
LOSS = Metric("train_loss", "training loss", higher_is_better=False)

CONTRASTS = (
    Contrast(
        id="4.3-seeds",
        statement="Every seed has runs that answer everything with noise",
        treatment=(Cell(SINGLE.name, NOISE.name),),
        expects=EACH_SEED,
    ),
    Contrast(
        id="4.3-relative",
        statement="Noise takes away 72 % of the error with five columns, 4.7 to 1.3",
        baseline=(Cell(FIVE.name, NONE.name),),
        treatment=(Cell(FIVE.name, NOISE.name),),
        expects="helps",
        published=(95.3, 98.7),
    ),
    Contrast(
        id="F2/loss",
        statement="The training loss is lower with noise",
        baseline=(Cell(FIGURE_2.name, NONE.name),),
        treatment=(Cell(FIGURE_2.name, NOISE.name),),
        expects="helps",
        metric=LOSS,
    ),
    *(
        Contrast(
            id=f"4.6-fixed-np/{arm.name.removeprefix('fixed-')}",
            statement=f"Fewer runs answer everything with {arm.label} than with annealed noise",
            baseline=(Cell(SINGLE.name, NOISE.name),),
            treatment=(Cell(SINGLE.name, arm.name),),
            expects="hurts",
        )
        for arm in FIXED
    ),
    *(
        Contrast(
            id=f"4.6-batch-np/{row.name.removeprefix('batch-')}",
            statement=f"No run answers everything: {row.title}, no noise",
            treatment=(Cell(row.name, NONE.name),),
            expects=NEVER,
        )
        for row in BATCHES
    ),
    *(
        Contrast(
            id=f"4.6-weight-np/{arm.name.removeprefix('weights-')}",
            statement=f"No run answers everything with {arm.label}",
            treatment=(Cell(SINGLE.name, arm.name),),
            expects=NEVER,
        )
        for arm in WEIGHTS
    ),
)
