"""A step that is given a closure: noise comes after each call of it, the same within one step."""

import pytest
import torch
from support.loop import (
    SCHEDULE,
    SEED,
    closure_for,
    gradients,
    loss_of,
    make_model,
    plus_noise,
    promised,
    same,
    train,
    values,
)

from gradnoise import attach


def noisy(model, optimizer):
    return attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())


@pytest.mark.parametrize("keyword", [False, True])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_a_step_with_a_closure_equals_one_without(make, keyword):
    ours, plain = make_model(), make_model()
    optimizer, expected = make(ours.parameters(), lr=0.1), make(plain.parameters(), lr=0.1)
    noise, _ = noisy(ours, optimizer), noisy(plain, expected)
    for k in range(3):
        before = loss_of(ours, k)
        closure = closure_for(ours, optimizer, k)
        loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        assert torch.equal(loss, before)
    train(plain, expected, 3)
    assert noise.step == 3
    assert same(values(ours), values(plain))


@pytest.mark.parametrize("none", [{"args": (None,)}, {"kwargs": {"closure": None}}])
def test_none_is_no_closure(none):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = noisy(model, optimizer)
    closure_for(model, optimizer)()
    clean = gradients(model)
    optimizer.step(*none.get("args", ()), **none.get("kwargs", {}))
    assert same(gradients(model), plus_noise(model, clean, 0)) and noise.step == 1


class Recorder:
    """A closure that keeps where it was called, and what gradient the optimizer saw there: what it left behind."""

    def __init__(self, model, optimizer):
        self.model, self.evaluate = model, closure_for(model, optimizer)
        self.places, self.clean, self.seen = [], [], []

    def __call__(self):
        self.look()
        loss = self.evaluate()
        self.places.append(values(self.model))
        self.clean.append(gradients(self.model))
        return loss

    def look(self):
        if len(self.seen) < len(self.places):
            self.seen.append(gradients(self.model))


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_sees_one_deterministic_function_within_a_step(line_search):
    """Compare with f(w) + sum_i w_i n_i, whose gradient is that of f plus n."""
    model = make_model(torch.float64)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=6, line_search_fn=line_search)
    noise = noisy(model, optimizer)
    for t in range(3):
        closure = Recorder(model, optimizer)
        optimizer.step(closure)
        closure.look()
        assert noise.step == t + 1 and len(closure.seen) > 4
        for clean, seen in zip(closure.clean, closure.seen, strict=True):
            assert same(seen, plus_noise(model, clean, t))


def test_with_its_line_search_lbfgs_finds_the_minimum_of_the_noisy_function():
    """Minimize |w|^2 / 2 + n.w, least at -n; noise that changed between evaluations would lead the search astray."""
    w = torch.nn.Parameter(torch.ones(50, dtype=torch.float64))
    optimizer = torch.optim.LBFGS([w], line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=0)
    attach(optimizer, SCHEDULE, seed=SEED)
    n = promised("0.0", 0, w)

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum() / 2
        loss.backward()
        return loss + (n * w).sum().detach()

    optimizer.step(closure)
    torch.testing.assert_close(w.data, -n, rtol=0, atol=1e-9)
