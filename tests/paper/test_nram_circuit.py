"""The compiled run against the definition, and the definition's gradient against finite differences."""

from unittest import mock

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import one_hot

from gradnoise.errors import PopulationError
from gradnoise.noise import backend
from gradnoise.paper.nram.kernel import operator
from gradnoise.paper.nram.machine.circuit import ClippedGradient
from gradnoise.paper.nram.machine.controller import CONTROLLERS
from gradnoise.paper.nram.machine.model import NRAM, stopping
from gradnoise.paper.nram.machine.modules_table import MODULES
from gradnoise.paper.nram.machine.wiring import Wiring

needs_numba = pytest.mark.skipif(backend() != "numba", reason="compares the compiled run with the definition")


def machine(*arguments, seed=0, **options):
    torch.manual_seed(seed)
    return NRAM(*arguments, gain=3.0, stop_bias=-1.0, **options)


def memories(batch, cells, seed=0):
    """Distributions; every other memory holds integers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, cells, cells, generator=generator) ** 4
    x[::2] = one_hot(torch.randint(cells, (batch, cells), generator=generator), cells).float()[::2]
    return x / x.sum(-1, keepdim=True)


def outcome(net, memory, steps, outputs, limit, *, compiled):
    """Everything that a run returns, and the gradients of all weights from random gradients of that."""
    with mock.patch.object(operator, "available", lambda _: compiled):
        run = net(memory, steps, outputs, torch.tensor(limit))
    returned = (run.stop, run.answers, run.entropy)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(x.shape, generator=generator) for x in returned]
    return [*returned, *torch.autograd.grad(returned, list(net.parameters()), grads)]


def test_number_of_logits():
    assert [Wiring(r).logits for r in (4, 5, 6, 8)] == [307, 349, 393, 487]  # and one more to stop
    assert [Wiring(r, 2).logits for r in (4, 5, 6, 8)] == [864, 939, 1016, 1176]


@needs_numba
@pytest.mark.parametrize(
    ("controller", "registers", "units", "cells", "passes", "batch", "steps", "outputs", "limit", "renormalise"),
    [
        ("lstm", 5, 32, 12, 1, 50, 4, slice(2, 3), torch.inf, True),
        ("lstm", 6, 21, 16, 2, 16, 2, slice(None), torch.inf, False),
        ("lstm", 4, 8, 3, 1, 5, 3, slice(0, 1), 0.3, True),
        ("mlp", 4, 16, 7, 1, 33, 4, slice(1, None), 0.05, True),
        ("mlp", 1, 5, 9, 2, 1, 2, slice(3, 6), torch.inf, True),
    ],
)
def test_the_compiled_run_equals_the_definition(
    controller, registers, units, cells, passes, batch, steps, outputs, limit, renormalise
):
    net = machine(registers, units, controller, passes, renormalise=renormalise)
    expected, found = (outcome(net, memories(batch, cells), steps, outputs, limit, compiled=c) for c in (False, True))
    for x, y in zip(expected, found, strict=True):
        torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)


@needs_numba
def test_other_module_lists_run_compiled_too():
    net = machine(3, 7, "mlp", modules=("one", "write", "read", "max", "sub", "write"))
    expected, found = (outcome(net, memories(20, 6), 3, slice(None), 0.5, compiled=c) for c in (False, True))
    for x, y in zip(expected, found, strict=True):
        torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)


@needs_numba
@pytest.mark.parametrize("name", MODULES)
def test_each_module_alone_runs_compiled_too(name):
    net = machine(3, 6, "mlp", modules=("write", name, "read"))
    expected, found = (outcome(net, memories(20, 7), 2, slice(None), 0.5, compiled=c) for c in (False, True))
    for x, y in zip(expected, found, strict=True):
        torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)


def test_the_kernel_knows_each_controller_by_its_kind():
    assert set(operator.KINDS) == set(CONTROLLERS)


def test_a_machine_does_not_see_its_neighbours():
    net, memory = machine(), memories(40, 12)
    together, alone = net(memory, 5), net(memory[33:34], 5)
    for x, y in zip(vars(together).values(), vars(alone).values(), strict=True):
        assert torch.equal(x[33:34], y)


def test_replicas_under_vmap_are_replicas_alone():
    nets, memory = [machine(seed=s) for s in range(3)], torch.stack([memories(20, 12, s) for s in range(3)])
    weights, _ = stack_module_state(nets)

    def losses(weights, memory):
        run = functional_call(nets[0], weights, (memory, 3, slice(2, 3), torch.tensor(1.0)))
        return (run.answers.square().sum((1, 2, 3)) + run.stop.sum(1) + run.entropy.sum(1)).sum()

    together = torch.autograd.grad(vmap(losses)(weights, memory).sum(), list(weights.values()))
    for s, net in enumerate(nets):
        alone = torch.autograd.grad(losses(dict(net.named_parameters()), memory[s]), list(net.parameters()))
        for x, y in zip(together, alone, strict=True):
            assert torch.equal(x[s], y)


@needs_numba
def test_threads_change_no_bit():
    nets, memory = [machine(seed=s) for s in range(3)], torch.stack([memories(20, 12, s) for s in range(3)])
    weights, _ = stack_module_state(nets)
    found = []
    for threads in (1, 2, 4):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            total = vmap(lambda w, x: functional_call(nets[0], w, (x, 3)).answers.square().sum())(weights, memory)
            grads = torch.autograd.grad(total.sum(), list(weights.values()), allow_unused=True)
        finally:
            torch.set_num_threads(before)
        found.append([total.detach(), *(g for g in grads if g is not None)])
    for x, y, z in zip(*found, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(x, z)


def test_without_gradients_nothing_is_kept_and_the_same_comes_out():
    net, memory = machine(), memories(10, 12)
    kept = net(memory, 3)
    with torch.no_grad():
        bare = net(memory, 3)
    for x, y in zip(vars(kept).values(), vars(bare).values(), strict=True):
        assert torch.equal(x, y)
        assert not y.requires_grad


def test_gradients_are_cut_coordinate_by_coordinate():
    x = torch.ones(4, requires_grad=True)
    (ClippedGradient.apply(x, torch.tensor(2.0)) * torch.tensor([-5.0, -1.0, 1.5, 9.0])).sum().backward()
    assert x.grad.tolist() == [-2.0, -1.0, 1.5, 2.0]


def test_nan_stays_nan_in_its_machine():
    net, memory = machine(), memories(20, 12)
    memory[3, 0, 0] = torch.nan
    bad = ~torch.isfinite(net(memory, 3).answers).flatten(1).all(1)
    assert bad.nonzero().flatten().tolist() == [3]


def test_nan_reaches_the_gradient_of_its_replica_alone():
    nets, memory = [machine(seed=s) for s in range(3)], torch.stack([memories(20, 12, s) for s in range(3)])
    memory[1, 7, 2, 0] = torch.nan
    weights, _ = stack_module_state(nets)
    total = vmap(lambda w, x: functional_call(nets[0], w, (x, 3)).answers.sum())(weights, memory).sum()
    for g in torch.autograd.grad(total, list(weights.values()), allow_unused=True):
        if g is not None:
            assert torch.isfinite(g[[0, 2]]).all()


@pytest.mark.parametrize("controller", ["lstm", "mlp"])
@pytest.mark.parametrize("passes", [1, 2])
def test_gradient_against_finite_differences(controller, passes):
    torch.manual_seed(1)
    net = NRAM(4, 12, controller, passes, gain=2.0, stop_bias=-1.0, renormalise=False).double()
    memory = one_hot(torch.randint(9, (3, 9)), 9).double()
    target = torch.randint(9, (3, 9))

    def loss():
        run = net(memory, 6)
        right = run.answers.gather(-1, target[:, None, :, None].expand(3, 6, 9, 1)).clamp(min=1e-12).log().sum((2, 3))
        return -(run.p * right).sum() - 0.1 * run.entropy.sum()

    names, parameters = zip(*net.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(0)
    for name, p, g in zip(names, parameters, gradients, strict=True):
        direction = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        with torch.no_grad():
            values = []
            for step in (1e-6, -1e-6):
                p += step * direction
                values.append(loss())
                p -= step * direction
        difference = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(
            (g * direction).sum(), difference, rtol=1e-4, atol=1e-5, msg=lambda s, n=name: f"{n}: {s}"
        )


def test_probabilities_of_stopping():
    f = [torch.rand(50, dtype=torch.float64, requires_grad=True) for _ in range(7)]
    p = stopping(torch.stack(f, 1)).unbind(1)
    assert all((x >= 0).all() for x in p)
    torch.testing.assert_close(sum(p), torch.ones(50, dtype=torch.float64), rtol=0, atol=1e-12)
    losses = [torch.rand(50, dtype=torch.float64) for _ in f]
    value = losses[-1]
    later = []
    for x, loss in zip(reversed(f[:-1]), reversed(losses[:-1]), strict=True):
        later.append(value)
        value = x * loss + (1 - x) * value
    total = sum(q * loss for q, loss in zip(p, losses, strict=True))
    torch.testing.assert_close(total, value)
    running = torch.ones(50, dtype=torch.float64)
    grads = torch.autograd.grad(total.sum(), f[:-1])
    for x, loss, v, g in zip(f, losses, reversed(later), grads, strict=False):
        torch.testing.assert_close(g, running * (loss - v))
        running = running * (1 - x.detach())


@pytest.mark.parametrize(("f", "at"), [(1.0, 0), (0.0, 4)])
def test_stopping_at_once_and_never(f, at):
    assert stopping(torch.full((2, 5), f)).tolist() == [[float(t == at) for t in range(5)]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "registers R = 0"),
        ((4, 0), "passes K = 0"),
        ((4, 1, ("read", "write", "sum")), "unknown module 'sum'.*did you mean 'sub'"),
        ((4, 1, tuple(x for x in MODULES if x != "write")), "no module 'write'"),
        ((4, 1, tuple(x for x in MODULES if x != "read")), "no module 'read'"),
    ],
)
def test_wiring_that_makes_no_machine(arguments, message):
    with pytest.raises(PopulationError, match=message):
        Wiring(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"controller": "lstn"}, "did you mean 'lstm'"), ({"units": 0}, "units H = 0"), ({"registers": 0}, "registers R")],
)
def test_arguments_that_make_no_machine(options, message):
    with pytest.raises(PopulationError, match=message):
        NRAM(**options)
