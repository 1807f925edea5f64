"""Memory that runs out is called that: fewer trials train together, it is said, and the numbers are the same."""

import errno
import os

import pytest
import torch
from support.small import Toy, facts, small

from gradnoise.population import Population, PopulationError
from gradnoise.population.memory import is_out_of_memory
from gradnoise.study import Options, StudyError, run_study

OPTIONS = Options(workers=1, chunk=8, slice_seconds=0.0)

ERRORS = {
    "torch": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "a CPU's": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    "Python's": MemoryError,
    "C++": lambda: RuntimeError("std::bad_alloc"),
    "a library's": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "the system's": lambda: OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
}


class Large(Toy):
    """Does not fit where more than `most` replicas train together, from the given call of their loss on."""

    most, calls, first, make = 4, 0, 0, staticmethod(ERRORS["torch"])

    def loss(self, model, batch, config):
        Large.calls += self.size > self.most
        if Large.calls > self.first and self.size > self.most:
            raise self.make()
        return super().loss(model, batch, config)


@pytest.fixture
def crowded(monkeypatch):
    """Let the loss know how many replicas train together."""
    original = Population.step

    def step(population):
        population.experiment.size = len(population.alive)
        return original(population)

    monkeypatch.setattr(Population, "step", step)
    Large.calls = 0


@pytest.mark.parametrize("kind", ERRORS)
def test_a_smaller_chunk_and_the_same_bits(tmp_path, crowded, monkeypatch, kind):
    monkeypatch.setattr(Large, "make", staticmethod(ERRORS[kind]))
    results = run_study(small(Large()), tmp_path / "crowded", options=OPTIONS)
    reference = run_study(small(), tmp_path / "roomy", options=OPTIONS)
    assert [facts(t) for t in results.trials] == [facts(t) for t in reference.trials]
    events = [text for name, text in results.record.provenance if name == "event"]
    assert len(events) == 1 and "memory ran out while 8 trials were trained together" in events[0]


def test_in_the_middle_of_a_run(tmp_path, crowded, monkeypatch):
    """It was enough at first: what was trained starts over in halves, and is said to."""
    monkeypatch.setattr(Large, "first", 10)
    results = run_study(small(Large(), steps=60, eval_every=3), tmp_path / "crowded", options=OPTIONS)
    reference = run_study(small(steps=60, eval_every=3), tmp_path / "roomy", options=OPTIONS)
    assert [facts(t) for t in results.trials] == [facts(t) for t in reference.trials]
    events = [text for name, text in results.record.provenance if name == "event"]
    assert len(events) == 2 and all("memory ran out while 8 trials" in e and "two halves" in e for e in events)


def test_not_even_one(tmp_path, crowded, monkeypatch):
    monkeypatch.setattr(Large, "most", 0)
    with pytest.raises(StudyError, match=r"memory ran out while 1 trials .* does not suffice for one"):
        run_study(small(Large()), tmp_path, options=OPTIONS)


def test_other_errors_are_not_it():
    for error in (RuntimeError("shape mismatch"), ValueError("out of range"), KeyError("memory")):
        assert not is_out_of_memory(error)
    outer = ValueError("wrapped")
    outer.__cause__ = MemoryError()
    assert is_out_of_memory(outer)


def test_vmap_without_its_rules_is_refused(monkeypatch):
    monkeypatch.setenv("PYTORCH_JIT", "0")
    with pytest.raises(PopulationError, match=r"PYTORCH_JIT=0 makes torch.func.vmap round otherwise"):
        Population(Toy(), [])
