"""What sections 4.4 and 4.6 say of the NRAM besides Table 4's rows: average, order, other noise, minibatches."""

from gradnoise.paper.contrast import NEVER, Cell, Contrast
from gradnoise.paper.nram.scales import BATCHES, FIRST, FIXED, NONE, STRONG, WEAK, WEIGHTS

#: Row -> the arm that its claim speaks of.
NOISY = {"A": STRONG.name, "B": STRONG.name, "C": WEAK.name}


def _rows(arm: str) -> tuple[Cell, ...]:
    return tuple(Cell(row, arm) for row in NOISY)


CONTRASTS = (
    Contrast(
        id="T4.average",
        statement="Noise lets more runs reach zero error, the three settings together",
        baseline=_rows(NONE.name),
        treatment=tuple(Cell(row, arm) for row, arm in NOISY.items()),
        expects="helps",
        published=(1.3, 11.3),
    ),
    Contrast(
        id="4.4-order",
        statement="Noise before the clip solves fewer than noise after it",
        baseline=_rows(STRONG.name),
        treatment=_rows(FIRST.name),
        expects="hurts",
    ),
    *(
        Contrast(
            id=f"4.6-fixed-nram/{arm.name.removeprefix('fixed-')}",
            statement=f"No run is solved with {arm.label}",
            treatment=_rows(arm.name),
            expects=NEVER,
        )
        for arm in FIXED
    ),
    *(
        Contrast(
            id=f"4.6-batch-nram/{arm.name.removeprefix('batch-')}",
            statement=f"{arm.label} solves no more runs than minibatches of 50",
            baseline=_rows(NONE.name),
            treatment=_rows(arm.name),
            expects="no help",
            published=(2.0, solved),
        )
        for arm, solved in zip(BATCHES, (1.0, 0.0), strict=True)
    ),
    *(
        Contrast(
            id=f"4.6-weight-nram/{arm.name.removeprefix('weights-')}",
            statement=f"No run is solved with {arm.label}",
            treatment=_rows(arm.name),
            expects=NEVER,
        )
        for arm in WEIGHTS
    ),
)
