"""What section 4.1 says besides Table 1's rows: what learns without noise, the clip, the learning rate."""

from collections.abc import Iterator

from gradnoise.paper.contrast import LEARNS, Cell, Contrast
from gradnoise.paper.deep_mlp.study import NOISE, NONE, STRONG

SIMPLE = {"1": "no clip", "2": "clip 100", "3": "clip 10"}
#: Row -> published average of 40 runs, without noise and with it.
AVERAGES = {"1": (43.1, 52.7), "2": (46.3, 52.3), "3": (51.6, 53.6)}
#: Ending of the rows' names -> ending of the statements' ids, and words: pixels from 0 to 1, and from 0 to 255.
SCALES = {"": ("", ""), "-raw": ("/raw", ", raw pixels")}


def _contrasts(rows: str, part: str, words: str) -> Iterator[Contrast]:
    """Yield the statements about Simple Init for one scale of the pixels."""
    for row, title in SIMPLE.items():
        yield Contrast(
            id=f"4.1-baseline{part}/{title.replace(' ', '-')}",
            statement=f"Without noise runs learn from Simple Init, {title}{words}",
            treatment=(Cell(row + rows, NONE.name),),
            expects=LEARNS,
            published=(None, AVERAGES[row][0]),
        )
    for row, title in SIMPLE.items():
        if row != "1":
            yield Contrast(
                id=f"4.1-clip{part}/{title.replace(' ', '-')}",
                statement=f"With noise {title} makes no difference to no clip{words}",
                baseline=(Cell("1" + rows, NOISE.name),),
                treatment=(Cell(row + rows, NOISE.name),),
                expects="no difference",
                published=(AVERAGES["1"][1], AVERAGES[row][1]),
            )
    yield Contrast(
        id=f"4.1-tuned{part}",
        statement=f"At clip 10 no noise reaches what noise reaches{words}",
        baseline=(Cell("3" + rows, NOISE.name),),
        treatment=(Cell("3" + rows, NONE.name),),
        expects="no difference",
        published=(AVERAGES["3"][1], AVERAGES["3"][0]),
    )
    yield Contrast(
        id=f"4.1-slow{part}",
        statement=f"From Simple Init with noise, learning rate 0.01 ends below 0.1{words}",
        baseline=tuple(Cell(row + rows, NOISE.name, setting="lr 0.1") for row in SIMPLE),
        treatment=tuple(Cell(row + rows, NOISE.name, setting="lr 0.01") for row in SIMPLE),
        expects="hurts",
    )


CONTRASTS = (
    *(contrast for rows, scale in SCALES.items() for contrast in _contrasts(rows, *scale)),
    Contrast(
        id="4.1-eta",
        statement="Over the six experiments η = 0.01 ends above η = 1.0",
        baseline=tuple(Cell(str(row), STRONG.name) for row in range(1, 7)),
        treatment=tuple(Cell(str(row), NOISE.name) for row in range(1, 7)),
        expects="helps",
    ),
)
