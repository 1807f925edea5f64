"""Once per update, after the clip, into the gradient itself, whatever else hangs on the optimizer."""

import random

import numpy as np
import pytest
import torch
from support.loop import (
    SCHEDULE,
    SEED,
    CallsItsGrandparent,
    CallsItsParent,
    Wrapper,
    closure_for,
    flat,
    gradients,
    loss_of,
    make_model,
    noisy_sgd,
    plus_noise,
    promised,
    same,
    train,
    values,
)
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradnoise import attach

# --- the moment ---------------------------------------------------------------------------------------


def test_accumulated_and_clipped_gradients_get_noise_last():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())
    for t in range(3):
        optimizer.zero_grad()
        for k in range(4):
            (loss_of(model, 4 * t + k) / 4).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
        clean = gradients(model)
        optimizer.step()
        assert noise.step == t + 1
        assert same(gradients(model), plus_noise(model, clean, t))


def test_gradients_are_changed_in_place():
    p, optimizer, _ = noisy_sgd((10,))
    gradient, memory, version = p.grad, p.grad.data_ptr(), p.grad._version
    optimizer.step()
    assert p.grad is gradient and gradient.data_ptr() == memory and torch.equal(gradient, promised("0.0", 0, p))
    assert gradient._version > version  # autograd learns of it


def test_hooks_see_the_gradient_before_and_after():
    """Hook in before and after: a user's hook may clip, then comes the noise, and afterwards it can be logged."""
    (p,) = flat((1000,))
    p.grad += 100.0
    optimizer, seen = torch.optim.SGD([p], lr=1.0), []

    def clip(*_):
        seen.append(nn.utils.clip_grad_norm_([p], 1.0).item())

    def log(*_):
        seen.append(p.grad.clone())

    handles = register_optimizer_step_pre_hook(clip), register_optimizer_step_post_hook(log)
    optimizer.register_step_pre_hook(clip)
    noise = attach(optimizer, SCHEDULE, seed=SEED)
    try:
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    first, second, logged = seen
    assert first > 3000 and second == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(logged, p.grad) and noise.step == 1
    assert (logged - promised("0.0", 0, p)).norm() == pytest.approx(1.0, rel=1e-4)


def test_a_learning_rate_scheduler_wraps_the_step():
    p, optimizer, noise = noisy_sgd((5,))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    scheduler.step()
    assert torch.equal(p.grad, promised("0.0", 0, p)) and noise.step == 1


def test_generators_are_not_touched():
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    p, optimizer, _ = noisy_sgd((100_000,))
    optimizer.step()
    assert p.grad.count_nonzero() > 99_000 and states() == before


# --- what a step can be -------------------------------------------------------------------------------


class TwoStepsInOne(CallsItsParent):
    """Such as an extragradient method: the outer step is the update."""

    def step(self, closure=None):
        super().step()
        return super().step(closure)


@pytest.mark.parametrize("cls", [CallsItsParent, CallsItsGrandparent])
@pytest.mark.parametrize("with_closure", [False, True])
def test_a_step_that_calls_super_adds_noise_once(cls, with_closure):
    ours, plain = make_model(), make_model()
    expected = torch.optim.SGD(plain.parameters(), lr=0.1)  # also hooks the parent's step, as its first instance
    optimizer = cls(ours.parameters(), lr=0.1)
    noises = [attach(o, SCHEDULE, seed=SEED) for o in (optimizer, expected)]
    for k in range(3):
        closure = closure_for(ours, optimizer, k)
        if with_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    train(plain, expected, 3)
    assert [noise.step for noise in noises] == [3, 3]
    assert same(values(ours), values(plain))


def test_the_outermost_step_is_the_update():
    (p,) = flat((5,))
    optimizer = TwoStepsInOne([p], lr=1.0)
    attach(optimizer, SCHEDULE, seed=SEED)
    for t in range(2):
        p.grad.zero_()
        optimizer.step()
        assert torch.equal(p.grad, promised("0.0", t, p))


def test_a_step_that_raised_does_not_silence_the_next():
    class Fails(CallsItsParent):
        fail = True

        def step(self, closure=None):
            if self.fail:
                raise RuntimeError("out of luck")
            return super().step(closure)

    (p,) = flat((5,))
    optimizer = Fails([p], lr=1.0)
    noise = attach(optimizer, SCHEDULE, seed=SEED)
    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step()
    optimizer.fail = False
    p.grad.zero_()
    t = noise.step
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", t, p))


def test_wrappers_are_seen_through():
    (p,) = flat((5,))
    inner = torch.optim.SGD([p], lr=1.0)
    wrapped = Wrapper(Wrapper(inner), "original_optimizer")
    noise = attach(wrapped, SCHEDULE, seed=SEED)
    wrapped.step()
    assert torch.equal(p.grad, promised("0.0", 0, p)) and noise.optimizer is inner


def test_two_optimizers_have_clocks_of_their_own():
    """Step two optimizers, as of generator and discriminator; also one in the midst of the other's step."""
    a, first, noise_a = noisy_sgd((5,))
    b, second, noise_b = noisy_sgd((5,))
    first.step()
    b.grad.zero_()
    first.register_step_post_hook(lambda *_: second.step())
    a.grad.zero_()
    first.step()
    assert (noise_a.step, noise_b.step) == (2, 1)
    assert torch.equal(a.grad, promised("0.0", 1, a)) and torch.equal(b.grad, promised("0.0", 0, b))


def test_an_optimizer_per_parameter_may_step_within_backward():
    """Step within backward, which saves the memory of the gradients."""
    ours, plain = make_model(), make_model()
    for p in ours.parameters():
        optimizer = torch.optim.SGD([p], lr=0.1)
        attach(optimizer, SCHEDULE, seed=SEED, named_parameters=ours.named_parameters())

        def update(p, optimizer=optimizer):
            optimizer.step()
            p.grad = None

        p.register_post_accumulate_grad_hook(update)
    expected = torch.optim.SGD(plain.parameters(), lr=0.1)
    attach(expected, SCHEDULE, seed=SEED, named_parameters=plain.named_parameters())
    for k in range(3):
        loss_of(ours, k).backward()
    train(plain, expected, 3)
    assert same(values(ours), values(plain))


def test_a_group_added_later_joins_the_clock():
    a, b = flat((5,), (6,))
    optimizer = torch.optim.SGD([a], lr=1.0)
    noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=[("a", a), ("b", b)])
    optimizer.step()
    optimizer.add_param_group({"params": [b]})
    optimizer.step()
    assert torch.equal(b.grad, promised("b", 1, b)) and noise.step == 2
    assert torch.equal(a.grad, promised("a", 0, a) + promised("a", 1, a))


# --- steps that move nothing --------------------------------------------------------------------------


def test_a_learning_rate_of_0_alone_is_no_rehearsal():
    """Begin with learning rate 0, as a warm-up does."""
    p, optimizer, noise = noisy_sgd((5,))
    optimizer.param_groups[0]["lr"] = 0.0
    p.grad += 1.0
    optimizer.step()
    assert torch.equal(p.grad, 1 + promised("0.0", 0, p)) and noise.step == 1


@pytest.mark.parametrize("zero", [0.0, torch.tensor(0.0)])
def test_a_rehearsal_gets_no_noise_and_does_not_count(zero):
    p, optimizer, noise = noisy_sgd((5,))
    optimizer.param_groups[0]["lr"] = zero
    optimizer.step()
    assert p.grad.count_nonzero() == 0 and noise.step == 0


def test_a_learning_rate_on_a_device_is_not_read():
    """Put the rate on "meta", where it has no value to read: reading it on a GPU would wait for the device."""

    class Idle(torch.optim.Optimizer):
        def step(self, closure=None):
            pass

    (p,) = flat((5,))
    optimizer = Idle([p], {"lr": torch.zeros((), device="meta")})
    attach(optimizer, SCHEDULE, seed=SEED)
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", 0, p))


@torch.no_grad()
def descend(optimizer):
    for p in optimizer.param_groups[0]["params"]:
        p.sub_(p.grad)


@pytest.mark.parametrize("way", ["inherited", "replaced"])
def test_hooks_of_others_run_as_often_as_without_noise(way):
    class Fresh(torch.optim.Optimizer):  # torch calls no hooks in its step until an instance is made
        def __init__(self, params):
            super().__init__(params, {"lr": 1.0})

        def step(self, closure=None):
            descend(self)

    class Clipping(Fresh):
        def step(self, closure=None):
            nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1.0)
            return super().step(closure)

    def run(kind, noisy):
        p = nn.Parameter(torch.zeros(50))
        optimizer, calls = kind([p]), []
        if way == "replaced":
            optimizer.step = lambda: descend(optimizer)
        optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
        optimizer.register_step_post_hook(lambda *_: calls.append("after"))
        noise = attach(optimizer, SCHEDULE, seed=SEED) if noisy else None
        for k in range(2):
            p.grad = torch.full_like(p, 100.0)
            optimizer.step()
            assert noise is None or noise.step == k + 1
        return calls, p.detach()

    noise = sum(promised("0.0", t, torch.zeros(50)) for t in range(2))
    counts = []
    for kind in (Clipping, Fresh, Clipping):  # an instance of Fresh changes what torch does in Clipping
        plain, still = run(kind, noisy=False)
        calls, moved = run(kind, noisy=True)
        assert calls == plain == run(kind, noisy=False)[0]
        assert torch.allclose(still - moved, noise, atol=1e-4)
        counts.append(len(calls))
    assert counts == ([4, 4, 8] if way == "inherited" else [0, 0, 0])
