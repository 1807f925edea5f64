"""The fused kernel against the definition, and the definition's gradient against finite differences."""

import pytest
import torch
from torch.nn.functional import one_hot

from gradnoise.paper.nram.circuit import ClippedGradient, circuit
from gradnoise.paper.nram.fused import run_circuit
from gradnoise.paper.nram.model import NRAM, stopping
from gradnoise.paper.nram.wiring import MODULES, Wiring


def inputs(wiring, batch, cells, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def distributions(rows):
        x = torch.rand(batch, rows, cells, generator=generator) ** 4
        return x / x.sum(-1, keepdim=True)

    logits = 2 * torch.randn(batch, wiring.logits, generator=generator)
    given = logits, distributions(wiring.registers), distributions(cells)
    grads = [torch.randn(s, generator=generator) for s in ((batch, wiring.registers, cells), (batch, cells, cells))]
    return given, [*grads, torch.randn(batch, generator=generator)]


def test_number_of_logits():
    assert [Wiring(r).logits for r in (4, 5, 6, 8)] == [307, 349, 393, 487]  # and one more to stop
    assert [Wiring(r, 2).logits for r in (4, 5, 6, 8)] == [864, 939, 1016, 1176]


@pytest.mark.parametrize(
    ("registers", "cells", "passes", "batch", "limit", "renormalise"),
    [
        (5, 12, 1, 37, torch.inf, True),
        (4, 3, 1, 5, 0.3, True),
        (6, 16, 2, 16, torch.inf, False),
        (1, 7, 1, 3, 0.05, True),
    ],
)
def test_the_kernel_equals_the_definition(registers, cells, passes, batch, limit, renormalise):
    wiring = Wiring(registers, passes)
    given, grads = inputs(wiring, batch, cells)
    results = []
    for function in (circuit, run_circuit):
        xs = [x.clone().requires_grad_() for x in given]
        outputs = function(wiring, *xs, torch.tensor(limit), renormalise)
        results.append([*outputs, *torch.autograd.grad(outputs, xs, grads)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_machine_does_not_see_its_neighbours():
    wiring = Wiring(5)
    given, _ = inputs(wiring, 40, 12)
    together = run_circuit(wiring, *given, torch.tensor(torch.inf))
    alone = run_circuit(wiring, *(x[33:34] for x in given), torch.tensor(torch.inf))
    for x, y in zip(together, alone, strict=True):
        assert torch.equal(x[33:34], y)


def test_gradients_are_cut_coordinate_by_coordinate():
    x = torch.ones(4, requires_grad=True)
    (ClippedGradient.apply(x, torch.tensor(2.0)) * torch.tensor([-5.0, -1.0, 1.5, 9.0])).sum().backward()
    assert x.grad.tolist() == [-2.0, -1.0, 1.5, 2.0]


def test_nan_stays_nan_in_its_machine():
    wiring = Wiring(5)
    given, grads = inputs(wiring, 20, 12)
    grads[0][3] = torch.nan
    xs = [x.clone().requires_grad_() for x in given]
    found = torch.autograd.grad(run_circuit(wiring, *xs, torch.tensor(1.0)), xs, grads)
    bad = ~torch.isfinite(found[0]).all(1)
    assert bad.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("controller", ["lstm", "mlp"])
@pytest.mark.parametrize("passes", [1, 2])
def test_gradient_against_finite_differences(controller, passes):
    torch.manual_seed(1)
    machine = NRAM(4, 12, controller, passes, gain=2.0, stop_bias=-1.0, renormalise=False).double()
    memory = one_hot(torch.randint(9, (3, 9)), 9).double()
    target = torch.randint(9, (3, 9))

    def loss():
        moments = list(machine(memory, 6))
        p = stopping([m.stop for m in moments])
        right = [m.memory.gather(-1, target[..., None])[..., 0].clamp(min=1e-12).log().sum(-1) for m in moments]
        return -sum((q * x).sum() for q, x in zip(p, right, strict=True)) - 0.1 * sum(m.entropy.sum() for m in moments)

    names, parameters = zip(*machine.named_parameters(), strict=True)
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
    p = stopping(f)
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
    p = stopping([torch.full((2,), f)] * 5)
    assert [x.tolist() for x in p] == [[float(t == at)] * 2 for t in range(5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "registers R = 0"),
        ((4, 0), "passes K = 0"),
        ((4, 1, ("read", "write", "sum")), "unknown module 'sum'"),
        ((4, 1, tuple(x for x in MODULES if x != "write")), "no module 'write'"),
        ((4, 1, tuple(x for x in MODULES if x != "read")), "no module 'read'"),
    ],
)
def test_wiring_that_makes_no_machine(arguments, message):
    with pytest.raises(ValueError, match=message):
        Wiring(*arguments)
