"""Diagnostics tell what the coming update adds, and change nothing by telling it."""

import math
import random
import re
import warnings

import numpy as np
import pytest
import torch
from support.loop import SEED, closure_for, flat, gradients, loss_of, make_model, same, train, values
from torch import nn

import gradnoise.noise.gradients
import gradnoise.noise.norms
from gradnoise import Annealed, Fixed, attach


def norm(tensors):
    return math.sqrt(sum(x.abs().double().square().sum().item() for x in tensors))


def two_groups(dtype=torch.float32):
    """Return a model in two groups of different eta, with gradients."""
    model = make_model(dtype)
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "noise_eta": 4.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    noise = attach(optimizer, Annealed(0.3), seed=SEED, named_parameters=model.named_parameters())
    return model, optimizer, noise


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_norms_are_those_of_the_gradient_and_of_the_noise_to_come(dtype):
    model, optimizer, noise = two_groups(dtype)
    train(model, optimizer, 3)
    closure_for(model, optimizer, 3)()
    clean = gradients(model)
    told = noise.diagnostics()
    assert [(d.group, d.t) for d in told] == [(0, 3), (1, 3)]
    for d, prefix, eta in zip(told, ("0.", "2."), (0.3, 4.0), strict=True):
        names = [name for name in clean if name.startswith(prefix)]
        assert d.sigma == pytest.approx((eta / 4**0.55) ** 0.5, rel=1e-15)
        rel = 1e-2 if dtype == torch.bfloat16 else 1e-6
        assert d.gradient_norm == pytest.approx(norm(clean[n] for n in names), rel=rel)
        assert d.noise_norm == pytest.approx(norm(noise.replay(n, 3) for n in names), rel=rel)
        assert d.ratio == d.noise_norm / d.gradient_norm
    optimizer.step()
    realised = [norm(gradients(model)[n] - clean[n] for n in clean if n.startswith(p)) for p in ("0.", "2.")]
    assert [d.noise_norm for d in told] == pytest.approx(realised, rel=1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_asking_changes_nothing():
    """Check gradients, the clock, generators, and the weights that training ends with."""

    def generators():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    (ours, optimizer, noise), (plain, other, _) = two_groups(), two_groups()
    for k in range(3):
        closure_for(ours, optimizer, k)()
        before, grads, states = gradients(ours), [p.grad for p in ours.parameters()], generators()
        assert noise.diagnostics() == noise.diagnostics()
        assert same(gradients(ours), before) and noise.step == k
        assert all(p.grad is g for p, g in zip(ours.parameters(), grads, strict=True))
        assert generators() == states
        optimizer.step()
    train(plain, other, 3)
    assert same(values(ours), values(plain))


def test_who_does_not_ask_pays_nothing(monkeypatch):
    """Count draws and norms: a step draws its noise once and takes no norm, but for the first one's warning."""
    calls = []
    gradients, norms = gradnoise.noise.gradients, gradnoise.noise.norms
    for module, name in ((gradients, "add_whole_"), (gradients, "add_parts_"), (norms, "square_sum")):
        original = getattr(module, name)

        def count(*arguments, name=name, original=original, **options):
            calls.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, count)
    p, q = flat((5,), (6,))
    optimizer = torch.optim.SGD([p, q], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, warn=False)
    optimizer.step()
    optimizer.step()
    assert calls == ["add_whole_", "add_whole_"]
    noise.diagnostics()
    assert len(calls) > 2


def one(gradient, **options):
    """Return the diagnostics of one parameter with this gradient, and the handle."""
    p = nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype))
    p.grad = gradient
    noise = attach(torch.optim.SGD([p], lr=1.0), Fixed(0.5), seed=SEED, **options)
    (told,) = noise.diagnostics()
    return told, noise, p


@pytest.mark.parametrize("rows", ["present", "all"])
def test_sparse_gradients(rows):
    """Let token 4 occur twice: its row has 2, and noise once."""
    values = torch.ones(3, 3)
    gradient = torch.sparse_coo_tensor(torch.tensor([[4, 1, 4]]), values, (10, 3), check_invariants=True)
    told, noise, p = one(gradient, rows=rows)
    assert p.grad is gradient and not gradient.is_coalesced()
    expected = noise.replay("0.0", 0)
    assert told.gradient_norm == pytest.approx(math.sqrt(3 * 1 + 3 * 4))
    assert told.noise_norm == pytest.approx(norm([expected if rows == "all" else expected[[1, 4]]]))


@pytest.mark.parametrize("conjugate", [False, True])
def test_complex_gradients(conjugate):
    gradient = torch.randn(50, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    gradient = gradient.conj() if conjugate else gradient
    told, noise, p = one(gradient)
    assert p.grad is gradient and gradient.is_conj() == conjugate
    assert told.gradient_norm == pytest.approx(norm([gradient]))
    assert told.noise_norm == pytest.approx(norm([noise.replay("0.0", 0)]))


def test_only_parameters_that_get_noise_are_counted():
    a, b, c = flat((5,), (5,), (5,))
    for p in (a, b, c):
        p.grad += 1.0
    b.grad = None
    pairs = [("a", a), ("b", b), ("c", c)]
    optimizer = torch.optim.SGD([a, b, c], lr=1.0)
    noise = attach(optimizer, Fixed(0.5), seed=SEED, named_parameters=pairs, where=lambda name: name != "c")
    (told,) = noise.diagnostics()
    assert told.gradient_norm == pytest.approx(5**0.5)
    assert told.noise_norm == pytest.approx(norm([noise.replay("a", 0)]))


def test_while_paused_it_tells_what_would_be_added():
    _, noise, _ = one(torch.ones(5))
    before = noise.diagnostics()
    with noise.paused():
        assert noise.diagnostics() == before


def test_the_ratio_of_nothing():
    told, _, _ = one(torch.zeros(5))
    assert told.gradient_norm == 0 and told.ratio == math.inf
    p = nn.Parameter(torch.zeros(5))
    with pytest.warns(UserWarning, match="found no gradient on any parameter that gets noise; call it after backward"):
        (told,) = attach(torch.optim.SGD([p], lr=1.0), Fixed(0.5), seed=SEED).diagnostics()
    assert told.noise_norm == 0 and math.isnan(told.ratio)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("when", ["scaled", "unscaled", "before the clip", "after the clip"])
def test_gradients_that_are_not_yet_those_of_the_update(when, fused):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    noise = attach(optimizer, Fixed(1e-6), seed=SEED)
    scaler = torch.amp.GradScaler("cpu", init_scale=1000.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for k in range(3):
            optimizer.zero_grad()
            scaler.scale(100 * loss_of(model, k)).backward()
            if when == "scaled":
                noise.diagnostics()
            else:
                scaler.unscale_(optimizer)
                if when == "before the clip":
                    noise.diagnostics()
                if "clip" in when:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                if "before" not in when:
                    noise.diagnostics()
            scaler.step(optimizer)
            scaler.update()
    factor = {"scaled": "1000 times", "before the clip": r"\d+\.\d+ times"}.get(when)
    assert len(said) == (factor is not None)
    if factor:
        assert re.match(
            rf"diagnostics\(\) saw gradients {factor} as large as those of the update", str(said[0].message)
        )
