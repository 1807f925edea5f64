"""Checkpoints are written whole or not at all, and read back or refused."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import MIXED, Net, Regression, all_with, changed, net_experiment

from gradnoise.noise.schedule import Annealed
from gradnoise.population import Adam, Population, PopulationError, checkpoint
from gradnoise.population.checkpoint import CheckpointError

STATE = {"t": 3, "theta": torch.arange(6.0).view(2, 3), "alive": [0, 2], "diverged": {1: 7}, "optimizer": {}}


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    return a == b


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing


def test_what_is_saved_is_loaded(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    path = checkpoint.save(folder, 3, STATE)
    loaded = checkpoint.load(folder, 3)
    assert path == folder / "step-000000003.pt" == checkpoint.path_for(folder, 3)
    assert loaded.keys() == STATE.keys() and all(equal(loaded[k], v) for k, v in STATE.items())
    assert names(folder) == ["step-000000003.pt"]


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 15, 2_000_000_000):
        checkpoint.save(tmp_path, step, STATE | {"t": step})
    assert checkpoint.steps(tmp_path) == [15, 2_000_000_000]
    assert [checkpoint.load(tmp_path, s)["t"] for s in checkpoint.steps(tmp_path)] == [15, 2_000_000_000]


def test_steps_looks_at_checkpoints_alone(tmp_path):
    assert checkpoint.steps(tmp_path) == [] == checkpoint.steps(tmp_path / "none")
    for name in (".step-000000004.pt.0123.part", "step-x.pt", "notes.txt", "step-7.pt.bak"):
        (tmp_path / name).write_text("")
    checkpoint.save(tmp_path, 20, STATE)
    assert checkpoint.steps(tmp_path) == [20]


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["torch.save", "os.fsync", "os.replace"])
def test_a_full_disk(tmp_path, monkeypatch, where):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, STATE | {"t": step})
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    module, function = where.split(".")
    monkeypatch.setattr({"torch": torch, "os": os}[module], function, full_disk)
    with pytest.raises(CheckpointError, match=r"cannot write .*step-000000003\.pt.*No space left.*make room"):
        checkpoint.save(tmp_path, 3, STATE)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_full_disk_as_torch_reports_it(tmp_path, monkeypatch):
    def half(state, file):
        file.write(b"half a checkpoint")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(CheckpointError, match="unexpected pos"):
        checkpoint.save(tmp_path, 3, STATE)
    assert names(tmp_path) == []


class Killed(BaseException):
    """What no code catches, as if the process had been killed."""


@pytest.mark.parametrize("where", ["save", "fsync"])
def test_killed_while_writing(tmp_path, monkeypatch, where):
    checkpoint.save(tmp_path, 1, STATE | {"t": 1})

    def half(*arguments):
        if where == "save":
            arguments[1].write(b"half a checkpoint")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*((torch, "save", half) if where == "save" else (os, "fsync", half)))
        with pytest.raises(Killed):
            checkpoint.save(tmp_path, 2, STATE)
    assert checkpoint.steps(tmp_path) == [1] and checkpoint.load(tmp_path, 1)["t"] == 1
    # The same command again overwrites what was left behind.
    checkpoint.save(tmp_path, 2, STATE | {"t": 2})
    assert names(tmp_path) == ["step-000000001.pt", "step-000000002.pt"]


def test_an_old_one_goes_only_when_the_new_one_is_whole(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, STATE)
    replaced = []
    original = os.replace

    def watch(source, target):
        assert checkpoint.steps(tmp_path) == [1, 2]
        torch.load(source, weights_only=True)  # complete before it gets its name
        replaced.append(Path(target).name)
        original(source, target)

    monkeypatch.setattr(os, "replace", watch)
    checkpoint.save(tmp_path, 3, STATE)
    assert replaced == ["step-000000003.pt"] and checkpoint.steps(tmp_path) == [2, 3]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*file.*choose another folder"):
        checkpoint.save(tmp_path / "file", 1, STATE)


# Reading


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read .*step-000000009\.pt.*FileNotFoundError"):
        checkpoint.load(tmp_path, 9)


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 0.999))
def test_a_truncated_file(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    path = checkpoint.save(folder, 1, STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load(folder, 1)


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, b"PK\x03\x04 not a zip", b"<html>not found</html>"])
def test_another_file(tmp_path, content):
    checkpoint.path_for(tmp_path, 1).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read .*step-000000001\.pt"):
        checkpoint.load(tmp_path, 1)


@settings(max_examples=20, deadline=None)
@given(place=st.integers(0, 511), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_weight(tmp_path_factory, place, bit):
    # torch.load would hand out the wrong number.
    folder = tmp_path_factory.mktemp("flipped")
    theta = torch.ones(64, dtype=torch.float64)
    path = checkpoint.save(folder, 1, {"theta": theta})
    content = bytearray(path.read_bytes())
    content[content.index(theta.numpy().tobytes()) + place] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-000000001\.pt.*checksum"):
        checkpoint.load(folder, 1)


class Trap:
    """Would run code when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_no_code_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"theta": Trap()}, checkpoint.path_for(tmp_path, 1))
    with pytest.raises(CheckpointError, match="step-000000001"):
        checkpoint.load(tmp_path, 1)
    assert not (tmp_path / "sprung").exists()


# The state of a population


WITH_ADAM = all_with(MIXED, optimizer=Adam())


def population(runs=WITH_ADAM, *, experiment=None, **options) -> Population:
    return Population(experiment or net_experiment(), runs, **({"trace": False} | options))


def with_change(i: int, **change) -> dict[str, list]:
    return {"runs": [changed(r, **change) if i == p else r for p, r in enumerate(WITH_ADAM)]}


def test_a_state_holds_tensors_and_plain_values(tmp_path):
    runs = [changed(r, lr=np.float64(r.training.lr), seed=np.int64(r.seed).item()) for r in WITH_ADAM]
    engine = population(runs)
    engine.step()
    state = engine.state_dict()
    checkpoint.save(tmp_path, 1, state)
    loaded = checkpoint.load(tmp_path, 1)
    assert loaded["t"] == 1 and loaded["optimizer"].keys() == {"m", "v"}
    assert loaded["fixed"].keys() == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    population(runs).load_state_dict(loaded)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"runs": WITH_ADAM[:6]}, "replicas is seed 0, study_seed 5, .*, here none"),
        (with_change(6, seed=8), "replicas is seed 0, study_seed 5, .*, here seed 8, study_seed 5"),
        (with_change(0, lr=0.5), "lr 0.05, .*, here seed 0, study_seed 0, lr 0.5,"),
        (with_change(1, noise=Annealed(0.3)), "first sigma 0.1, .*sigma 0.547"),
        (with_change(5, clip=None), "clip 2.0, .* clip None"),
        ({"runs": MIXED}, r"optimizer Adam\(.*\), .* here .* optimizer SGD\("),
        ({"dtype": torch.float64}, "tensors is theta torch.float32 .*here theta torch.float64"),
        ({"experiment": Regression(lambda c: Net(width=6))}, r"first.weight \(5, 4\), here .*\(6, 4\)"),
    ],
    ids=["fewer", "seed", "lr", "noise", "clip", "optimizer", "dtype", "model"],
)
def test_a_checkpoint_of_another_population(other, message):
    saved, engine = population().state_dict(), population(**other)
    before = engine.modules.theta.clone()
    with pytest.raises(PopulationError, match=f"belongs to another population.*{message}"):
        engine.load_state_dict(saved)
    assert torch.equal(engine.modules.theta, before) and engine.t == 0


def test_no_state_at_all():
    with pytest.raises(PopulationError, match="no state of a population: it has no alive, course, diverged"):
        population().load_state_dict({"theta": torch.zeros(1)})


def test_a_state_with_replicas_that_left_here():
    saved, engine = population().state_dict(), population()
    engine.select([0, 2, 3, 4, 5, 6])
    with pytest.raises(PopulationError, match=r"replicas \[1\] of the checkpoint have left this population"):
        engine.load_state_dict(saved)


def test_a_replica_that_diverged_here_has_left_here():
    """`state_dict` and `load_state_dict` remove rows that have ended, so that all parts of a state have one order."""
    engine = population(experiment=net_experiment(poison={1: 0}))
    engine.step()
    assert engine.alive == list(range(7))  # not looked at yet
    state = engine.state_dict()
    assert state["alive"] == [0, 1, 4, 5, 6] == engine.alive and state["diverged"] == {2: 0, 3: 0}
    assert {len(state["theta"])} == {len(x) for x in state["optimizer"].values()} == {5}


def test_a_loaded_state_is_a_copy():
    first, second = population(), population()
    first.step()
    second.load_state_dict(first.state_dict())
    kept = second.modules.theta.clone()
    first.step()
    assert torch.equal(second.modules.theta, kept)
