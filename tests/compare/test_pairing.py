"""Pairs are proved or refuted, whatever was added when, and what is said of them is what was seen."""

import re

import pytest
from support.comparing import GOOD, compare, results, said, script

from gradnoise.errors import StudyError
from gradnoise.study.engine import Job, JobTrial
from gradnoise.study.script.judge import Judge
from gradnoise.study.script.outcome import FINISHED, TIMEOUT, Outcome
from gradnoise.study.script.pairing import Beginning, Run, pair_notes


def began(*weights: object, gradient: str = "g", norm: float = 1.0, shapes: str = "s") -> Beginning:
    """One optimizer for each of the weights."""
    return Beginning.of(
        [
            {"optimizer": i, "kind": "SGD", "weights": str(w), "shapes": shapes, "gradient": gradient, "norm": norm,
             "samples": [norm], "elements": 4}
            for i, w in enumerate(weights)
        ]
    )  # fmt: skip


def of(seed: int, arm: str = "none") -> JobTrial:
    return JobTrial(f"{arm}-{seed}", seed, {"arm": arm})


def ended(beginning: Beginning, status: str = FINISHED, value: float = 0.5) -> Outcome:
    return Outcome(status, begin=beginning.optimizers, points={"loss": [(0, value)]})


def test_each_arm_has_its_own_note_and_arms_alike_share_one():
    others = [
        Run("noise:0.01", began("a"), False),
        Run("noise:0.1", began("a"), False),
        Run("wide", began("b", shapes="t"), True),
        Run("torn", began("a", gradient="other", norm=2.0), False),
    ]
    paired, wide, torn = pair_notes("none", began("a"), others)
    assert paired.startswith(
        "Pairing of noise:0.01, noise:0.1 and none is proved: runs of one seed began with the same"
    )
    assert wide.startswith(
        "Runs of wide and none with one seed began with weights of other shapes, as arguments of the"
    )
    assert "runs of torn and none with one seed began with the same weights but another first gradient" in torn
    assert torn.endswith("compared as independent runs")
    assert "other weights" in pair_notes("none", began("a"), [Run("noise:1", began("b"), False)])[0]
    assert "another number of optimizers" in pair_notes("none", began("a"), [Run("noise:1", began("a", "b"), False)])[0]
    assert "on trust: no update" in pair_notes("none", began("a"), [Run("wide", began(), True)])[0]
    assert "on trust: no run of the baseline" in pair_notes("none", None, [Run("wide", began("a"), True)])[0]


def test_an_optimizer_that_begins_later_may_still_tell_seeds_apart():
    judge = Judge(proved=True, most=3)
    judge.attend(of(0), began("always the same", "a"), True)
    judge.attend(of(1), began("always the same"), False)
    judge.attend(of(1), began("always the same", "b"), True)
    judge.attend(of(2), began("always the same"), False)
    with pytest.raises(StudyError, match="ignores its seed: runs with seed 1 and seed 2"):
        judge.attend(of(2), began("always the same", "b"), False)


def test_a_run_that_was_cut_short_tells_nothing_of_what_it_would_have_begun():
    judge = Judge(proved=True, most=3)
    judge.know(of(0), ended(began("same"), TIMEOUT))
    judge.attend(of(1), began("same"), False)
    judge.attend(of(1), began("same", "b"), True)
    judge = Judge(proved=True, most=3)
    judge.know(of(0), ended(began("same")))
    with pytest.raises(StudyError, match="ignores its seed"):
        judge.attend(of(1), began("same"), False)


def test_runs_of_an_earlier_session_are_as_good_as_those_of_this_one():
    judge = Judge(proved=True, most=3)
    for seed in (0, 1):
        judge.know(of(seed), Outcome(FINISHED, points={"loss": [[0, 0.5]]}))  # as JSON has it
    same = Outcome(FINISHED, points={"loss": [(0, 0.5)]})
    with pytest.raises(StudyError, match="seems to ignore its seed"):
        judge.take(Job("c", (of(2),)), [same], None)  # type: ignore[arg-type]
    assert judge.ended("none", 1) is not None and judge.ended("none", 7) is None


def test_an_arm_that_is_added_later_is_proved_too(tmp_path, capsys):
    path = script(tmp_path, GOOD)
    assert compare(path) == 0
    assert compare(path, "--arm", "more=--more") == 0
    assert compare(path, "--arm", "more=--more", "--arm", "other=--other") == 0
    text = said(capsys)
    assert "Pairing of noise:0.01 and none is proved: runs of one seed began with the same weights" in text
    assert "Pairing of more and none is proved" in text and "Pairing of other and none is proved" in text
    notes = results(tmp_path / "runs/compare-train").record.notes
    assert not any("trust" in note or "seeds)" in note for note in notes), notes


def test_an_arm_that_is_added_later_is_refuted_too(tmp_path, capsys):
    body = "begin(time.time_ns() if '--more' in sys.argv else seed, seed, seed + 1.0)\ntell(accuracy=seed / 10)\n"
    path = script(tmp_path, body)
    compare(path)
    assert compare(path, "--arm", "more=--more") == 0
    text = said(capsys)
    assert "Runs of more and none with one seed began with other weights, as arguments of the arm" in text
    assert "Every number of more equals that of none" in text


def test_a_script_that_ignores_its_seed_is_found_out_at_its_first_update(tmp_path, capsys):
    path = script(tmp_path, "begin('same')\nif seed == 1:\n    time.sleep(30)\ntell(accuracy=0.5 + len(arm) / 100)\n")
    assert compare(path) == 1
    assert "the script ignores its seed: runs with seed 0 and seed 1 began with the same weights" in said(capsys)


def test_a_script_without_torch_that_ignores_its_seed_is_found_out_by_its_numbers(tmp_path, capsys):
    path = script(tmp_path, "tell(accuracy=0.5 + len(sys.argv) / 100)\n")
    assert compare(path, "--arm", "wide=--wide", arms="none", seeds=4) == 1
    assert "seems to ignore its seed" in said(capsys)


def test_a_script_that_is_not_seeded_is_compared_as_independent_runs(tmp_path, capsys, page):
    path = script(tmp_path, "begin(time.time_ns())\ntell(accuracy=0.5 + time.time_ns() % 1000 / 1e4)\n")
    assert compare(path) == 0
    text = said(capsys)
    assert "The script is not seeded: runs of noise:0.01 and none with one seed began with other weights" in text
    assert "2 runs of each arm do not tell" in text and not re.search("Pairing|pairs?\\b", text.split("independent")[1])
    written = (tmp_path / "runs/compare-train/report.html").read_text()
    assert "Independent runs" in written and "A pair is one seed" not in written and "same seed in both" not in written
    told = re.sub("<[^>]*>", " ", written.split("<main>")[1].split("Independent runs")[0])
    assert not re.search(r"\bpairs?\b", told), re.findall(r"[^.]*\bpairs?\b[^.]*", told)


def test_rounding_of_gradients_and_arguments_that_change_the_model_are_no_lack_of_seeds(tmp_path, capsys):
    body = "begin(seed if arm == 'none' else f'{seed} wide', seed)\ntell(accuracy=seed / 10 + len(sys.argv) / 100)\n"
    assert compare(script(tmp_path, body), "--arm", "wide=--hidden 512", arms="none") == 0
    assert "no more than the seed is shared" in said(capsys)
    body = "begin(seed, arm, (1 + seed) * (1 if arm == 'none' else 1 + 1e-6))\ntell(accuracy=seed / 10)\n"
    assert compare(script(tmp_path, body, "gpu.py")) == 0
    assert "Pairing of noise:0.01 and none is proved" in said(capsys)


def test_a_start_that_no_seed_changes_is_told_where_seeds_are_not_asked_for(tmp_path, capsys):
    path = script(tmp_path, "begin('same')\ntell(accuracy=0.5 + len(arm) / 100)\n")
    assert compare(path, "--no-seed", seeds=3) == 0
    assert "Runs of other seeds began alike, or told the same numbers" in said(capsys)
    assert any(
        "that one start alone (2 of 3 seeds)" in n for n in results(tmp_path / "runs/compare-train").record.notes
    )
    assert compare(script(tmp_path, "tell(accuracy=0.5 + len(sys.argv) / 100)\n", "plain.py"), "--no-seed", "--arm",
                   "more=--more", arms="none", seeds=3) == 0  # fmt: skip
    assert "that one start alone" in said(capsys)


def test_two_seeds_that_tell_the_same_numbers_are_told_of(tmp_path, capsys):
    path = script(
        tmp_path, "tell(accuracy=max(seed, 1) / 3 + len(sys.argv) / 100)\n"
    )  # as some generators take 0 for 1
    assert compare(path, "--arm", "more=--more", arms="none", seeds=3) == 0
    assert "Runs told the same numbers as those of another seed, in every arm" in said(capsys)
    notes = results(tmp_path / "runs/compare-train").record.notes
    assert any("count twice (1 of 3 seeds)" in note for note in notes), notes


def test_the_gradient_of_a_network_behind_one_with_noise_may_differ():
    """The discriminator of a GAN sees a generator that noise has moved; its weights are still the same."""

    def gan(second: dict, **first) -> Beginning:
        same = {"kind": "Adam", "shapes": [[2]], "samples": [1.0], "elements": 2}
        g = same | {"weights": "g", "gradient": "a", "norm": 1.0} | first
        return Beginning.of([g, same | {"weights": "d", "gradient": "x", "norm": 1.0} | second])

    noise = {"schedule": "Annealed(eta=0.01, gamma=0.55)", "sigma": 0.1}
    other = {"gradient": "y", "norm": 2.0, "samples": [2.0]}

    def note(baseline: Beginning, run: Beginning) -> str:
        return pair_notes("none", baseline, [Run("noise:0.01", run, False)])[0]

    assert "is proved" in note(gan({}), gan(other | noise, **noise))
    assert "another first gradient" in note(gan({}), gan(other))  # nothing moved it
    assert "another first gradient" in note(gan({}), gan({}, **noise, gradient="b", norm=2.0, samples=[2.0]))
    assert "other weights" in note(gan({}), gan({"weights": "e"} | noise, **noise))
