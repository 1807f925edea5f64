"""Where a slice begins and ends, and what was lost in between, changes no bit of a run."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.small import EVERY, STEPS, Toy, small

from gradnoise import Annealed
from gradnoise.population import SGD, Adam, PopulationError, checkpoint
from gradnoise.study.run import population_engine
from gradnoise.study.run.population_engine import Job, advance, job_of, shape_key
from gradnoise.study.store import Report

FOREVER = 1e9


@pytest.fixture(autouse=True)
def nothing_resident(monkeypatch):
    monkeypatch.setattr(population_engine, "_resident", None)


def job(folder: Path, **changes) -> Job:
    return job_of("chunk", list(small(**changes).trials()), folder, threads=1)


def trained(
    experiment: Toy, job: Job, seconds: float = 0.0, between: Callable[[], None] = lambda: None
) -> list[Report]:
    """All slices from start to end, as a runner would ask for them."""
    reports = [advance(experiment, job, 0, seconds)]
    while not reports[-1].done:
        between()
        reports.append(advance(experiment, job, reports[-1].step, seconds))
    return reports


def known(reports: list[Report]) -> tuple:
    """What a store knows after these reports: a row that comes again replaces the one before."""
    rows = {row[:3]: row[3] for r in reports for row in r.rows}
    diverged = {i: t for r in reports for i, t in r.diverged.items()}
    return rows, diverged, {i: v for r in reports for i, v in r.final.items()}, reports[-1].step


def assert_same(reports: list[Report], reference: list[Report]) -> None:
    """The same rows, divergences and finals, to the last bit; what comes twice is the same twice."""
    assert known(reports) == known(reference)
    assert {row for r in reports for row in r.rows} == {row for r in reference for row in r.rows}


def forget() -> None:
    population_engine._resident = None


# Boundaries


@pytest.mark.parametrize(
    "base", [{}, {"optimizer": Adam(), "clip": 0.5}, {"optimizer": SGD(0.9), "clip_per": "tensor"}]
)
def test_slices_do_not_matter(tmp_path, base):
    """Float32, where another order of sums would show."""
    whole = trained(Toy(), job(tmp_path / "a", base=base), FOREVER)
    resident = trained(Toy(), job(tmp_path / "b", base=base))
    resumed = trained(Toy(), job(tmp_path / "c", base=base), between=forget)
    assert len(whole) == 1 and len(resident) == len(resumed) == STEPS // EVERY
    assert [r.step for r in resumed] == [3, 6, 9, 12] and [r.done for r in resumed] == [False] * 3 + [True]
    assert_same(resident, whole)
    assert_same(resumed, whole)
    assert not (tmp_path / "a").exists()  # nothing to resume, no checkpoint
    assert checkpoint.steps(tmp_path / "c") == [6, 9]


def test_an_interval_that_does_not_divide(tmp_path):
    reports = trained(Toy(), job(tmp_path, eval_every=5), between=forget)
    assert [r.step for r in reports] == [5, 10, 12]
    assert_same(reports, trained(Toy(), job(tmp_path / "whole", eval_every=5), FOREVER))


def test_every_trial_reports_every_metric_at_every_evaluation(tmp_path):
    (whole,) = trained(Toy(), job(tmp_path), FOREVER)
    names = {"error", "mean", "train_loss", "gradient_norm", "clipped", "noise_norm"}
    ids = [t.id for t in small().trials()]
    assert {row[:3] for row in whole.rows} == set(itertools.product(ids, names, range(EVERY, STEPS + 1, EVERY)))
    last = {(i, m): v for i, m, step, v in whole.rows if step == STEPS}
    assert whole.final == {i: {m: last[i, m] for m in names} for i in ids}


# What is lost or damaged


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {"missing": Path.unlink, "empty": lambda p: p.write_bytes(b""), "truncated": truncate, "flipped": flip}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("which", ["last", "both"])
def test_a_damaged_checkpoint_costs_time_only(tmp_path, how, which):
    reports = [advance(Toy(), job(tmp_path), step, 0.0) for step in (0, 3)]
    for step in checkpoint.steps(tmp_path)[-1 if which == "last" else 0 :]:
        DAMAGE[how](checkpoint.path_for(tmp_path, step))
    forget()
    reports.append(advance(Toy(), job(tmp_path), 6, FOREVER))
    assert {step for _, _, step, _ in reports[-1].rows} == ({6, 9, 12} if which == "last" else {3, 6, 9, 12})
    assert_same(reports, trained(Toy(), job(tmp_path / "whole"), FOREVER))


def test_a_slice_that_was_never_taken_in(tmp_path):
    """Killed after the checkpoint was written and before the store knew of it."""
    first = advance(Toy(), job(tmp_path), 0, 0.0)
    lost = advance(Toy(), job(tmp_path), 3, 0.0)
    forget()
    again = advance(Toy(), job(tmp_path), 3, 0.0)
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(lost, seconds=0)
    assert first.step == 3 and checkpoint.steps(tmp_path) == [3, 6]


def test_a_lost_slice_does_not_push_out_the_checkpoint_that_is_needed(tmp_path):
    """The store stands at 3; a slice that was lost got to 9; the next one is killed after its own checkpoint."""
    state = {"t": 0}
    for step in (3, 9):
        checkpoint.save(tmp_path, step, state)
    (tmp_path / ".step-000000006.pt.0123.part").write_bytes(b"killed while writing")
    checkpoint.save(tmp_path, 6, state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000003.pt", "step-000000006.pt"]


def test_a_checkpoint_of_another_model(tmp_path):
    advance(Toy(), job(tmp_path), 0, 0.0)
    forget()
    with pytest.raises(PopulationError, match="the checkpoint belongs to another population"):
        advance(Toy(), job(tmp_path, base={"width": 4, "clip": 1.0}), 3, 0.0)


class Interrupted(Adam):
    """Ctrl-C between the update of the weights and the counting of it."""

    armed = False

    def update(self, *arguments) -> None:
        super().update(*arguments)
        if Interrupted.armed:
            raise KeyboardInterrupt


def test_an_update_that_was_interrupted_is_not_resumed_from_memory(tmp_path, monkeypatch):
    base = {"optimizer": Interrupted(), "lr": 0.01}
    reference = trained(Toy(), job(tmp_path / "whole", base=base), FOREVER)
    reports = [advance(Toy(), job(tmp_path, base=base), 0, 0.0)]
    monkeypatch.setattr(Interrupted, "armed", True)
    with pytest.raises(KeyboardInterrupt):
        advance(Toy(), job(tmp_path, base=base), 3, 0.0)
    monkeypatch.setattr(Interrupted, "armed", False)
    reports += [advance(Toy(), job(tmp_path, base=base), 3, FOREVER)]
    assert_same(reports, reference)


class Clock:
    """A time that goes on by one second whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


actions = st.fixed_dictionaries(
    {"evaluations": st.integers(1, 3), "lost": st.booleans(), "forget": st.booleans(), "damage": st.booleans()}
)


@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])  # shrinking takes long
@given(st.lists(actions, max_size=5))
def test_any_history_gives_the_same_run(tmp_path_factory, history):
    """Slices of any length, lost or taken in, in one process or several, with checkpoints that rot."""
    folder, experiment = tmp_path_factory.mktemp("history"), Toy(poison={1: 7})
    chunk, reports, step = job(folder), [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(population_engine, "time", Clock())
        patch.setattr(population_engine, "_resident", None)
        for action in [*history, {"evaluations": 99, "lost": False, "forget": True, "damage": False}]:
            if action["damage"] and checkpoint.steps(folder):
                truncate(checkpoint.path_for(folder, checkpoint.steps(folder)[-1]))
            if action["forget"]:
                forget()
            report = advance(experiment, chunk, step, action["evaluations"] - 0.5)
            if not action["lost"]:
                reports.append(report)
                step = report.step
            if report.done and not action["lost"]:
                break
    assert_same(reports, trained(experiment, job(folder / "whole"), FOREVER))


# Trials that diverge


def test_a_diverged_trial_is_frozen_and_its_neighbours_go_on(tmp_path):
    whole = trained(Toy(poison={1: 7}), job(tmp_path / "a"), FOREVER)
    resumed = trained(Toy(poison={1: 7}), job(tmp_path / "b"), between=forget)
    assert_same(resumed, whole)
    sick = {t.id for t in small().trials() if t.seed == 1}
    (report,) = whole
    assert report.diverged == dict.fromkeys(sick, 7) and report.step == STEPS and report.done
    assert {i: report.final[i] for i in sick} == {i: {"error": 99.0} for i in sick}
    assert {step for i, _, step, _ in report.rows if i in sick} == {3, 6}
    well = trained(Toy(), job(tmp_path / "well"), FOREVER)[0]
    assert {i: v for i, v in report.final.items() if i not in sick} == {
        i: v for i, v in well.final.items() if i not in sick
    }


def test_a_diverged_trial_is_reported_final_once(tmp_path):
    reports = trained(Toy(poison={1: 4}), job(tmp_path), between=forget)
    sick = next(t.id for t in small().trials() if t.seed == 1)
    assert [sick in r.final for r in reports] == [False, True, False, False]
    assert [r.diverged.get(sick) for r in reports] == [None, 4, 4, 4]


@pytest.mark.parametrize("seconds", [0.0, FOREVER])
def test_all_diverge(tmp_path, seconds):
    reports = trained(Toy(poison={0: 4, 1: 7}), job(tmp_path), seconds, between=forget)
    assert reports[-1].done and reports[-1].step == 7
    assert sorted(reports[-1].diverged.values()) == [4] * 4 + [7] * 4
    finals = {i: v for r in reports for i, v in r.final.items()}
    assert list(finals.values()) == [{"error": 99.0}] * 8


# The worker around it


def test_threads_are_put_back(tmp_path):
    torch.set_num_threads(2)
    try:
        advance(Toy(), job(tmp_path), 0, 0.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_another_experiment_does_not_take_over_what_is_in_memory(tmp_path):
    """The same folder again, emptied by hand, with an edited experiment: an interactive session."""
    advance(Toy(), job(tmp_path), 0, 0.0)
    assert population_engine._resident is not None
    for path in tmp_path.iterdir():
        path.unlink()
    edited = Toy(poison={0: 1, 1: 1})
    assert advance(edited, job(tmp_path), 3, FOREVER).diverged == dict.fromkeys((t.id for t in small().trials()), 1)


class Vector(Toy):
    def evaluate(self, model):
        return super().evaluate(model) | {"weights": torch.zeros(2)}


def test_metrics_that_are_no_scalars(tmp_path):
    with pytest.raises(
        PopulationError, match=r"toy.evaluate: metric 'weights' has shape \(2,\); metrics are tensors of"
    ):
        advance(Vector(), job(tmp_path), 0, 0.0)
    assert not tmp_path.joinpath("chunk").exists() and population_engine._resident is None


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(checkpoint.CheckpointError, match="No space left on device; make room"):
            advance(Toy(), job(tmp_path / "a"), 0, 0.0)
    assert_same(trained(Toy(), job(tmp_path / "a")), trained(Toy(), job(tmp_path / "b"), FOREVER))


# What trains together


@pytest.mark.parametrize(
    ("change", "together"),
    [
        ({"lr": 0.3}, True),
        ({"noise": Annealed(1.0)}, True),
        ({"clip": None}, True),
        ({"gain": 3.0}, True),  # the experiment's own replica key
        ({"width": 4}, False),
        ({"optimizer": Adam()}, False),
        ({"clip_per": "tensor"}, False),
        ({"dropout": 0.0}, True),
        ({"dropout": 0.5}, False),
        ({"steps": 13}, False),
    ],
)
def test_shape_key(change, together):
    config = {"lr": 0.1, "clip": 1.0, "steps": 12, "eval_every": 3, "study_seed": 0}
    assert (shape_key(Toy(), config) == shape_key(Toy(), config | change)) is together


def test_dropout_rates_train_together():
    assert shape_key(Toy(), {"dropout": 0.5}) == shape_key(Toy(), {"dropout": 0.2})
