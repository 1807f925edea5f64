"""How many seeds an effect needs: held against simulated studies, and as the command `plan` says it."""

from dataclasses import replace

import numpy as np
import pytest
from support.commandline import gradnoise
from support.error_rates import PLAIN, RATE, judged
from support.report_fakes import METRIC
from support.toys import net_experiment

from gradnoise.noise import Annealed
from gradnoise.paper import load_system
from gradnoise.paper.ledger import committed_results
from gradnoise.study import Arm, Metric, Setting, Study, StudyError
from gradnoise.study.analysis import seeds_needed
from gradnoise.study.analysis.power import Need, Spread, too_few_seeds


def planned(metric: Metric, rows: int = 1, seeds: int = 8) -> Study:
    settings = tuple(Setting(str(r), f"row {r}", {"lr": 0.1 + r}) for r in range(rows))
    arms = (Arm("none"), Arm("noise", {"noise": Annealed(0.01)}))
    return Study(
        name="plan",
        title="Plan",
        experiment=net_experiment(),
        arms=arms,
        metric=metric,
        settings=settings,
        seeds=tuple(range(seeds)),
        steps=10,
        eval_every=10,
    )


def one(study: Study, effect: float, **known: object) -> Need:
    (need,) = seeds_needed(study, effect, **known)
    return need


@pytest.mark.parametrize(("effect", "rows"), [(5.0, 1), (5.0, 4)])
def test_the_number_of_seeds_shows_the_effect_as_often_as_promised(effect, rows):
    """Rows with nothing in common: 80% in the row that has the effect; 60 studies, 3 standard errors below."""
    needs = seeds_needed(planned(PLAIN, rows), effect, spread=4.0)
    n, rng, seen = needs[0].seeds.high, np.random.default_rng(1), 0
    for _ in range(60):
        values = rng.normal(50.0, 4.0 / np.sqrt(2.0), (rows, 2, n))
        values[0, 1] += effect
        seen += judged(PLAIN, values).effects[0].verdict.outcome == "helps"
    assert seen / 60 > 0.8 - 3 * np.sqrt(0.16 / 60)


def test_a_larger_family_a_smaller_effect_and_a_wider_spread_need_more_seeds():
    alone = one(planned(PLAIN), 2.0, spread=3.0).seeds.high
    assert seeds_needed(planned(PLAIN, 4), 2.0, spread=3.0)[0].seeds.high > alone
    assert one(planned(PLAIN), 1.0, spread=3.0).seeds.high > alone
    assert one(planned(PLAIN), 2.0, spread=5.0).seeds.high > alone
    assert one(planned(PLAIN), 2.0, spread=3.0, power=0.95).seeds.high > alone


def test_what_the_studys_own_seeds_show_is_what_they_would_be_needed_for():
    need = one(planned(PLAIN, seeds=20), 2.0, spread=3.0)
    assert one(planned(PLAIN), need.shown, spread=3.0).seeds.high in (20, 21)
    assert one(planned(PLAIN, seeds=5), 2.0, spread=3.0).shown is None  # fewer than six decide nothing


def test_a_pilot_gives_both_ends_of_the_spread():
    values = np.array([[[10.0, 12.0, 11.0, 15.0], [11.0, 10.0, 14.0, 19.0]]])
    need = one(planned(PLAIN), 2.0, pilot=judged(PLAIN, values))
    spread = np.std(values[0, 1] - values[0, 0], ddof=1)
    assert need.spread.low < spread < need.spread.high and need.spread.pairs == 4
    assert one(planned(PLAIN), 2.0, spread=need.spread.low).seeds.low == need.seeds.low
    assert one(planned(PLAIN), 2.0, spread=need.spread.high).seeds.high == need.seeds.high


def test_a_rate_is_planned_by_the_runs_that_only_one_arm_solves():
    values = np.array([[[0.0] * 9 + [100.0], [100.0] * 3 + [0.0] * 7]])
    need = one(planned(RATE), 20.0, pilot=judged(RATE, values))
    assert need.spread.rate_of == 100.0 and need.spread.low < 0.1 < need.spread.high
    assert 6 <= need.seeds.low < need.seeds.high
    assert one(planned(RATE), 90.0, pilot=judged(RATE, values)).seeds.high is None  # no room beside the runs lost


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        (PLAIN, [[[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]]),  # alike: a spread is unknown
        (PLAIN, [[[1.0], [2.0]]]),
        (METRIC, [[[1.0], [2.0]]]),
    ],
)
def test_a_pilot_that_does_not_tell_is_said(metric, values):
    need = one(planned(metric), 1.0, pilot=judged(metric, np.array(values)))
    assert (need.spread, need.seeds, need.shown) == (None, None, None)


@pytest.mark.parametrize(
    ("effect", "known", "message"),
    [
        (0.0, {"spread": 1.0}, "effect is 0"),
        (float("nan"), {"spread": 1.0}, "effect is nan"),
        (1.0, {"spread": -1.0}, "spread is -1"),
        (1.0, {"spread": 1.0, "power": 1.0}, "power is 1"),
    ],
)
def test_what_is_out_of_range_is_refused(effect, known, message):
    with pytest.raises(StudyError, match=message):
        seeds_needed(planned(PLAIN), effect, **known)


def test_claims_are_a_family_of_their_own():
    study = load_system("deep-mlp").study("paper", "digits")
    needs = {(n.row, n.arm): n for n in seeds_needed(study, 2.0, spread=3.0)}
    assert len({n.seeds.high for n in needs.values()}) == 1 and len(needs) == 8  # all are claimed
    assert needs["1", "noise"].spread == Spread(3.0, 3.0)


# --- the command ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def test_plan_prints_seeds_and_time_and_writes_nothing(tmp_path, capsys):
    code = gradnoise("plan", "deep-mlp", "--scale", "smoke", "--data", "digits", "--effect", "4", "--spread", "5")
    out = capsys.readouterr().out
    assert code == 0 and "To show 4 points of test accuracy with a chance of 80%" in out
    assert "All comparisons: " in out and " trials, about " in out and not list(tmp_path.iterdir())


def test_plan_takes_the_spread_from_the_results_that_there_are(capsys):
    where = ("--scale", "paper", "--data", "digits", "--rows", "3")
    assert gradnoise("plan", "deep-mlp", *where, "--effect", "2", "--chunk", "2", "--workers", "1") == 0
    out = capsys.readouterr().out
    assert "results/deep_mlp" in out.replace("\n", "") and "Simple init, clip 10" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nram", "--scale", "smoke", "--effect", "10"], "how far pairs differ is not known"),
        (["deep-mlp", "--data", "digits", "--effect", "-2", "--spread", "1"], "effect is -2"),
        (["deep-mlp", "--data", "digits", "--effect", "2", "--pilot", "nowhere"], "nowhere"),
    ],
)
def test_plan_says_what_is_missing(arguments, message, capsys):
    assert gradnoise("plan", *arguments) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_pilot_of_another_metric_is_refused(capsys):

    code = gradnoise(
        "plan", "deep-mlp", "--data", "digits", "--effect", "2", "--pilot", str(committed_results() / "nram/lists")
    )
    assert code == 1 and "was judged by" in " ".join(capsys.readouterr().err.split())


# --- designs that can decide nothing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "1 seed can decide nothing"), (5, "5 seeds can decide nothing"), (6, "")]
)
def test_too_few_seeds_are_found_before_training(seeds, said):
    text = too_few_seeds(planned(PLAIN, rows=4, seeds=seeds))
    assert text.startswith(said) and bool(text) == bool(said) and ("it takes 6" in text) == bool(said)


def test_seeds_that_are_declared_for_later_count():
    assert not too_few_seeds(replace(planned(PLAIN, seeds=2), max_seeds=8))


@pytest.mark.parametrize("rows", [1, 8])
def test_rates_need_more_where_the_family_is_large(rows):
    """The number named is the least: with every pair gained it decides, with one fewer it does not."""
    text = too_few_seeds(planned(RATE, rows=rows, seeds=1))
    least = int(text.split()[-1].rstrip("."))
    outcomes = []
    for n in (least, least - 1):
        values = np.zeros((rows, 2, n))
        values[:, 1] = 100.0
        outcomes.append({e.verdict.outcome.value for e in judged(RATE, values).effects})
    assert outcomes[1] == {"undecided"} and ("helps" in outcomes[0] or rows > 1)


def test_a_dry_run_says_so(capsys):
    assert gradnoise("run", "deep-mlp", "--scale", "smoke", "--data", "digits", "--dry-run") == 0
    assert "2 seeds can decide nothing, whatever they show: it takes 6." in capsys.readouterr().out
