"""The choice of a backend, and that each keeps the contract."""

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
from support.streams import reference_normal, same_bits

from gradnoise.noise.gaussian import Backend, add_rows_, backend, backends, normal, reference


@pytest.fixture
def set_backend(monkeypatch):
    def choose(name):
        monkeypatch.setenv("GRADNOISE_BACKEND", name)
        backends.forget()

    yield choose
    backends.forget()


def test_the_environment_chooses_the_backend(set_backend):
    x, y = torch.zeros(2, 3000), torch.zeros(2, 3000)
    arguments = {"offsets": [0, 1501, 3000], "keys": [[1, 2], [3, 4]], "t": [0, 5], "sigma": [1.0, 0.1]}
    add_rows_(x, **arguments)
    set_backend("torch")
    assert backend() == "torch"
    add_rows_(y, **arguments)
    assert same_bits(x, y) and same_bits(normal(5, 0, 3), reference_normal(5, 0, 3))


def test_an_unknown_backend_is_refused(set_backend):
    set_backend("fast")
    with pytest.raises(ValueError, match="GRADNOISE_BACKEND must be one of auto, numba, triton, torch, got 'fast'"):
        backend()


def test_without_numba_the_reference_takes_over(set_backend, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    set_backend("auto")
    assert backend() == "torch"
    set_backend("numba")
    with pytest.raises(ValueError, match="GRADNOISE_BACKEND=numba needs numba"):
        backend()


@pytest.mark.filterwarnings("ignore:NUMBA_DISABLE_JIT is set")
def test_numba_that_is_switched_off_is_not_used(set_backend, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    set_backend("auto")
    assert backend() == "torch"
    x = torch.zeros(1, 8)
    with pytest.warns(UserWarning, match="NUMBA_DISABLE_JIT is set: noise is drawn by plain torch"):
        assert backends.implementation("cpu") is reference
    add_rows_(x, offsets=[0, 8], keys=[[1]], t=0, sigma=[1.0])
    assert torch.equal(x[0], normal(1, 0, 8))
    set_backend("numba")
    with pytest.raises(ValueError, match="NUMBA_DISABLE_JIT"):
        backend()


@pytest.mark.parametrize("name", ["reference", "numba_backend", "triton_backend"])
def test_every_backend_keeps_the_contract(name):
    """Compare arguments with the protocol's, read from the source: neither Numba nor Triton need be installed."""
    source = Path(reference.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    contract = {k: v for k, v in vars(Backend).items() if inspect.isfunction(v) and not k.startswith("_")}
    assert set(contract) == {"add_parts_", "add_rows_", "bernoulli_rows_", "fill_words_"}
    for method, function in contract.items():
        wanted = [a for a in inspect.signature(function).parameters if a != "self"]
        assert [a.arg for a in functions[method].args.args] == wanted
