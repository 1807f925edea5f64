"""Contrasts: statements about groups of runs are judged as rows of a study."""

import dataclasses
import math

import pytest
from support.report_fakes import METRIC, paired, study, trial

from gradnoise.paper.contrast import EACH_SEED, LEARNS, NEVER, Cell, Contrast, restated
from gradnoise.paper.ledger.check import RUNS_FOR_NEVER, Direction, Size, checks
from gradnoise.paper.ledger.evidence import Evidence
from gradnoise.paper.system import System
from gradnoise.study.analysis import summarise


def between(baseline: tuple[Cell, ...], treatment: tuple[Cell, ...], expects: str = "helps", **more) -> Contrast:
    return Contrast(id="T", statement="s", baseline=baseline, treatment=treatment, expects=expects, **more)


def checked(trials, *contrasts: Contrast, **changes):
    results = study(trials, rows=("a", "b"), **changes)
    system = System(name="fake", title="f", table="Table 1", claims=(), studies={}, build=None, contrasts=contrasts)  # type: ignore[arg-type]
    return list(checks(Evidence("fake", system, results)))


ROWS = [
    *paired(lambda arm, seed: (60.0 if arm == "noise" else 50.0) + 0.1 * seed),
    *paired(lambda arm, seed: (72.0 if arm == "noise" else 50.0) + 0.3 * seed, row="b"),
]
A, B = (Cell("a", "noise"),), (Cell("b", "noise"),)


def test_rows_are_compared_seed_by_seed():
    (check,) = checked(ROWS, between(A, B, published=(60.0, 72.7)))
    assert (check.direction, check.size, check.runs) == (Direction.AGREES, Size.HELD, 16)
    assert check.ours.startswith("60.4 → 73.0, +12.7 [") and check.ours.endswith("8 pairs")
    (other,) = checked(ROWS, between(B, A, published=(1.0, 2.0)))
    assert (other.direction, other.size) == (Direction.CONTRADICTS, Size.MISSED)


def test_cells_are_averaged_within_a_seed():
    both = (Cell("a", "none"), Cell("b", "none")), (Cell("a", "noise"), Cell("b", "noise"))
    summary = summarise(restated(study(ROWS, rows=("a", "b")), [between(*both)], METRIC))
    comparison = summary.effects[0].comparison
    assert comparison.n == 8 and comparison.difference == pytest.approx((10 + 22) / 2)


def test_settings_can_be_compared_with_each_other():
    trials = [
        trial("noise", s, v, setting=f"lr={lr}") for s in range(8) for lr, v in ((0.1, 90.0 + s), (0.01, 20.0 + s))
    ]
    cells = ((Cell("a", "noise", setting="lr=0.1"),), (Cell("a", "noise", setting="lr=0.01"),))
    (check,) = checked(trials, between(*cells, expects="hurts"))
    assert check.direction is Direction.AGREES and "-70.0" in check.ours


def test_effects_can_be_compared_with_each_other():
    (check,) = checked(ROWS, between((Cell("a", "noise", less="none"),), (Cell("b", "noise", less="none"),)))
    assert check.ours.startswith("10.0 → 22.0, +12.0 [")
    alone = [t for t in ROWS if not (t.row == "b" and t.arm == "none" and t.seed == 3)]
    (check,) = checked(alone, between((Cell("a", "noise", less="none"),), (Cell("b", "noise", less="none"),)))
    assert check.ours.endswith("7 pairs")  # a run without its partner is left out


def test_what_has_no_runs_is_not_checked():
    assert checked(ROWS, between(A, (Cell("c", "noise"),))) == []
    assert checked([dataclasses.replace(t, status="running") for t in ROWS], between(A, B)) == []


@pytest.mark.parametrize(
    ("value", "direction"), [(50.0, Direction.AGREES), (10.0, Direction.CONTRADICTS)], ids=["learns", "at chance"]
)
def test_learning_is_to_be_above_chance(value, direction):
    # chance: enough runs to exclude a success, 70 points off, that none has shown
    trials = [trial("none", seed, value + 0.1 * (seed % 8)) for seed in range(8 if value > 11.0 else 180)]
    contrast = Contrast(id="T", statement="s", treatment=(Cell("a", "none"),), expects=LEARNS, published=(None, 50.3))
    (check,) = checked(trials, contrast)
    assert check.direction is direction and check.published == "50.3"
    assert check.size is (Size.HELD if value == 50.0 else Size.MISSED)


def test_runs_at_chance_contradict_a_mean_that_many_seeds_must_carry():
    for seeds, published, direction in (
        (5, 55.0, Direction.CONTRADICTS),  # half of the seeds must learn: 0.5 ** 5 = 0.03
        (4, 55.0, Direction.UNDECIDED),
        (5, 40.0, Direction.UNDECIDED),  # a third of them
    ):
        contrast = Contrast(
            id="T", statement="s", treatment=(Cell("a", "none"),), expects=LEARNS, published=(None, published)
        )
        (check,) = checked([trial("none", seed, 10.0) for seed in range(seeds)], contrast)
        assert check.direction is direction, (seeds, published)
    learning = [trial("none", seed, 10.0 + 50.0 * (seed == 4)) for seed in range(5)]
    (check,) = checked(learning, contrast)
    assert check.direction is Direction.UNDECIDED


def test_never_is_believed_of_enough_runs_only():
    assert 0.95**RUNS_FOR_NEVER < 0.05 < 0.95 ** (RUNS_FOR_NEVER - 1)
    contrast = Contrast(id="T", statement="s", treatment=(Cell("a", "none"),), expects=NEVER)

    def direction(runs: int, value: float) -> Direction:
        return checked([trial("none", seed, value) for seed in range(runs)], contrast)[0].direction

    assert direction(RUNS_FOR_NEVER, 20.0) is Direction.AGREES
    assert direction(RUNS_FOR_NEVER - 1, 20.0) is Direction.UNDECIDED
    assert direction(3, 95.0) is Direction.CONTRADICTS


@pytest.mark.parametrize(
    ("solved", "direction"),
    [((0, 1, 2), Direction.AGREES), ((1,), Direction.CONTRADICTS), ((), Direction.UNDECIDED)],
)
def test_successes_may_have_to_cover_every_seed(solved, direction):
    trials = [
        trial("none", seed, 95.0 if seed in solved and lr == 0.1 else 20.0, setting=f"lr={lr}")
        for seed in range(3)
        for lr in (0.1, 0.01)
    ]
    contrast = Contrast(id="T", statement="s", treatment=(Cell("a", "none"),), expects=EACH_SEED)
    (check,) = checked(trials, contrast)
    assert check.direction is direction and check.ours == f"{len(solved)} of 3 seeds have a run that succeeds"


def test_a_baseline_at_chance_cannot_be_hurt():
    stuck = paired(lambda arm, seed: 10.0 + 0.01 * seed)
    (check,) = checked(stuck, between((Cell("a", "none"),), A, expects="hurts", published=(43.1, 10.8)))
    assert (check.direction, check.size) == (Direction.UNTESTABLE, Size.NONE) and "stays at chance" in check.reason


def test_no_difference_does_not_contradict_a_published_difference_that_is_as_small():
    same = paired(lambda arm, seed: 50.0 + 0.2 * ((seed + (arm == "noise")) % 2), 260)
    cells = (Cell("a", "none"),), A
    for published, direction in ((0.01, Direction.UNDECIDED), (5.0, Direction.CONTRADICTS)):
        (check,) = checked(same, between(*cells, published=(50.0, 50.0 + published)))
        assert check.direction is direction, check


def test_a_difference_that_is_not_known_counts_as_nan():
    broken = [dataclasses.replace(t, final={}) if t.arm == "none" and t.row == "b" else t for t in ROWS]
    results = restated(study(broken, rows=("a", "b")), [between(A, (Cell("b", "noise", less="none"),))], METRIC)
    assert all(math.isnan(t.final["accuracy"]) for t in results.trials if t.arm == "treatment")
