"""Noise is attached as a whole, or the optimizer is as it was before."""

import warnings

import pytest
import torch
from support.loop import SEED, flat, noise_of
from torch import nn

from gradnoise import Annealed, Fixed, attach
from gradnoise.noise.doubts.other_steps import Watch
from gradnoise.noise.handle import attached


class Clipper(torch.optim.SGD):
    def __init__(self, parameters):
        super().__init__(parameters, lr=1.0)
        self.max_grad_norm = 1.0


def look_at(optimizer):
    """What attaching adds to: hooks, options of groups, a step, hooks of parameters."""
    own = vars(optimizer)
    groups = optimizer.param_groups
    return (
        {name: list(held) for name, held in own.items() if name.endswith("_hooks")},
        [{name: x for name, x in group.items() if name != "params"} for group in groups],
        own.get("step"),
        [dict(p._post_accumulate_grad_hooks or {}) for group in groups for p in group["params"]],
        attached(optimizer),
    )


@pytest.mark.parametrize("replaced", [True, False])
def test_a_warning_that_is_an_error_leaves_nothing_behind(replaced):
    (p,) = flat((9,))
    optimizer = Clipper([p])
    optimizer.register_step_pre_hook(lambda *_: None)
    if replaced:
        optimizer.step = lambda: None
    before = look_at(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="it clips within its step"):
            attach(optimizer, Annealed(0.01, until=0.5), seed=SEED)
    assert look_at(optimizer) == before
    if not replaced:
        optimizer.step()
        assert not p.grad.any()
    noise = attach(optimizer, Fixed(1.0), seed=SEED, warn=False)
    optimizer.step()
    assert noise.step == 1 and torch.equal(p.grad, noise_of("0.0", 0, 1.0, (9,)))


@pytest.mark.parametrize("at", ["the parameter", "the watch"])
def test_an_error_in_the_middle_leaves_nothing_behind(monkeypatch, at):
    def fail(*_):
        raise RuntimeError("in the middle")

    (p,) = flat((9,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    before = look_at(optimizer)
    if at == "the watch":
        monkeypatch.setattr(Watch, "__init__", fail)
    else:
        monkeypatch.setattr(p, "register_post_accumulate_grad_hook", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        attach(optimizer, Fixed(1.0), seed=SEED)
    assert look_at(optimizer) == before
    optimizer.step()
    assert not p.grad.any()
    monkeypatch.undo()
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert torch.equal(p.grad, noise_of("0.0", 0, 1.0, (9,)))


def test_parameters_that_get_their_shapes_later():
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2), nn.LazyLinear(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters())
    model(torch.ones(2, 4)).sum().backward()
    clean = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer.step()
    assert noise.step == 1
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad - clean[name], noise_of(name, 0, 1.0, p.shape), atol=1e-5)
