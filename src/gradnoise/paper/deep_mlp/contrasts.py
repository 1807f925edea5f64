"""What section 4.1 says besides Table 1's rows: what learns without noise, the clip, the learning rate."""

from gradnoise.paper.contrast import LEARNS, Cell, Contrast
from gradnoise.paper.deep_mlp.study import NOISE, NONE

SIMPLE = {"1": "no clip", "2": "clip 100", "3": "clip 10"}
#: Row -> published average of 40 runs, without noise and with it.
AVERAGES = {"1": (43.1, 52.7), "2": (46.3, 52.3), "3": (51.6, 53.6)}

CONTRASTS = (
    *(
        Contrast(
            id=f"4.1-baseline/{title.replace(' ', '-')}",
            statement=f"Without noise runs learn from Simple Init, {title}",
            treatment=(Cell(row, NONE.name),),
            expects=LEARNS,
            published=(None, AVERAGES[row][0]),
        )
        for row, title in SIMPLE.items()
    ),
    *(
        Contrast(
            id=f"4.1-clip/{title.replace(' ', '-')}",
            statement=f"With noise {title} makes no difference to no clip",
            baseline=(Cell("1", NOISE.name),),
            treatment=(Cell(row, NOISE.name),),
            expects="no difference",
            published=(AVERAGES["1"][1], AVERAGES[row][1]),
        )
        for row, title in SIMPLE.items()
        if row != "1"
    ),
    Contrast(
        id="4.1-tuned",
        statement="At clip 10 no noise reaches what noise reaches",
        baseline=(Cell("3", NOISE.name),),
        treatment=(Cell("3", NONE.name),),
        expects="no difference",
        published=(AVERAGES["3"][1], AVERAGES["3"][0]),
    ),
    Contrast(
        id="4.1-slow",
        statement="From Simple Init with noise, learning rate 0.01 ends below 0.1",
        baseline=tuple(Cell(row, NOISE.name, setting="lr 0.1") for row in SIMPLE),
        treatment=tuple(Cell(row, NOISE.name, setting="lr 0.01") for row in SIMPLE),
        expects="hurts",
    ),
)
