"""Mistakes that public code makes: a check of each, that our noise passes and the mistake does not."""

import io
import math
import re
import warnings
from pathlib import Path

import pytest
import torch
from support import mistakes
from support.loop import SEED, CallsItsParent, Wrapper, flat, noise_of
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

import gradnoise
from gradnoise import Annealed, Fixed

CAUGHT = {}
"""Mistake -> the check, who makes the mistake, and the error by which the check notices."""


def catches(mistake, maker, error=AssertionError):
    def register(check):
        CAUGHT[mistake] = check, maker, error
        return check

    return register


def sgd(attach, p, schedule, lr=1.0, name="w", cls=torch.optim.SGD):
    """Return an optimizer of one parameter, with noise."""
    optimizer = cls([p], lr=lr)
    attach(optimizer, schedule, seed=SEED, named_parameters=[(name, p)])
    return optimizer


# --- the formula --------------------------------------------------------------------------------------


@catches("sigma where sigma^2 is meant", mistakes.variance_for_deviation)
def deviation(attach):
    (p,) = flat((400, 250))
    sgd(attach, p, Annealed(eta=0.01)).step()
    assert p.grad.double().std().item() == pytest.approx(0.1, rel=0.02)


@catches("t counted from 1", mistakes.t_from_1)
def first_update(attach):
    (p,) = flat((100,))
    sgd(attach, p, Annealed(eta=0.25)).step()
    assert torch.equal(p.grad, noise_of("w", 0, 0.5, p.shape))


@catches("noise after the learning rate", mistakes.after_the_learning_rate)
def learning_rate(attach):
    (p,) = flat((100,))
    sgd(attach, p, Fixed(1.0), lr=1e-3).step()
    assert torch.equal(p.data, -1e-3 * noise_of("w", 0, 1.0, p.shape))


@catches("truncated normal", mistakes.truncated_normal)
def tails(attach):
    """Look for the normals beyond 4, some 63 of 10^6."""
    (p,) = flat((1000, 1000))
    sgd(attach, p, Fixed(1.0)).step()
    assert 20 < (p.grad.abs() > 4).sum() < 120


@catches("noise drawn in bfloat16", mistakes.of_128_values)
def resolution(attach):
    """Count distinct values: 10^5 normals rounded to bfloat16 have some 2,600; the largest is beyond 4."""
    (p,) = flat((400, 250), dtype=torch.bfloat16)
    sgd(attach, p, Fixed(1.0)).step()
    assert len(p.grad.unique()) > 2000 and p.grad.abs().max() > 4


@catches("sigma^2 in each part of a complex number", mistakes.full_variance_in_each_part)
def complex_variance(attach):
    (p,) = flat((400, 250), dtype=torch.complex64)
    sgd(attach, p, Fixed(1.0)).step()
    assert p.grad.abs().square().mean().item() == pytest.approx(1.0, rel=0.02)


@catches("eta = 0 adds zeros", mistakes.plain)
def eta_0(attach):
    (p,) = flat((100,))
    p.grad.neg_()
    sgd(attach, p, Annealed(eta=0.0)).step()
    assert torch.signbit(p.grad).all()  # -0 + 0 is +0


# --- which numbers ------------------------------------------------------------------------------------


@catches("the global generator moves", mistakes.from_the_global_generator)
def global_generator(attach):
    (p,) = flat((100,))
    before = torch.get_rng_state()
    sgd(attach, p, Fixed(1.0)).step()
    assert p.grad.count_nonzero() == 100 and torch.equal(torch.get_rng_state(), before)


@catches("another parameter shifts everyone's noise", mistakes.from_one_generator_in_turn)
def neighbours(attach):
    noises = []
    for names in ("a", "ba"):
        pairs = list(zip(names, flat(*[(7,)] * len(names)), strict=True))
        optimizer = torch.optim.SGD([p for _, p in pairs], lr=1.0)
        attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=pairs)
        optimizer.step()
        noises.append(dict(pairs)["a"].grad)
    assert torch.equal(*noises)


@catches("the same numbers in every tensor", mistakes.from_one_seed_for_all)
def shared_numbers(attach):
    a, b = flat((100,), (100,))
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("a", a), ("b", b)])
    optimizer.step()
    assert not set(a.grad.tolist()) & set(b.grad.tolist())


# --- once per update, after the clip ------------------------------------------------------------------


@catches("noise before the clip", mistakes.in_the_backward_pass)
def clip(attach):
    (p,) = flat((1000,))
    optimizer = sgd(attach, p, Fixed(1.0))
    (1000 * p).sum().backward()
    nn.utils.clip_grad_norm_([p], 1.0)
    optimizer.step()
    assert p.grad.norm() > 25  # about sqrt(1000), which the clip has not seen


@catches("noise on every micro-batch", mistakes.in_the_backward_pass)
def micro_batches(attach):
    (p,) = flat((100,))
    optimizer = sgd(attach, p, Fixed(1.0))
    for _ in range(4):
        (p / 4).sum().backward()
    optimizer.step()
    assert torch.equal(p.grad, 1 + noise_of("w", 0, 1.0, p.shape))


@catches("noise that a closure wipes out", mistakes.a_mere_hook)
def closure(attach):
    (p,) = flat((100,))
    optimizer = sgd(attach, p, Fixed(1.0))

    def evaluate():
        optimizer.zero_grad()
        p.sum().backward()

    optimizer.step(evaluate)
    assert torch.equal(p.grad, 1 + noise_of("w", 0, 1.0, p.shape))


@catches("twice where step calls super().step()", mistakes.a_mere_hook)
def super_step(attach):
    torch.optim.SGD(flat((1,)), lr=1.0)  # the parent's step is hooked by its first instance
    (p,) = flat((100,))
    sgd(attach, p, Fixed(1.0), cls=CallsItsParent).step()
    assert torch.equal(p.grad, noise_of("w", 0, 1.0, p.shape))


@catches("hooks on a wrapper", mistakes.a_mere_hook, AttributeError)
def wrapper(attach):
    (p,) = flat((100,))
    wrapped = Wrapper(torch.optim.SGD([p], lr=1.0))
    attach(wrapped, Fixed(1.0), seed=SEED, named_parameters=[("w", p)])
    wrapped.step()
    assert torch.equal(p.grad, noise_of("w", 0, 1.0, p.shape))


# --- gradients that are not dense, or not there -------------------------------------------------------


@catches("a parameter without a gradient", mistakes.from_the_global_generator, AttributeError)
def no_gradient(attach):
    (p,) = flat((100,))
    p.grad = None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found no gradient")
        sgd(attach, p, Fixed(1.0)).step()
    assert p.grad is None and p.count_nonzero() == 0


@catches("a sparse gradient", mistakes.from_the_global_generator, NotImplementedError)
def sparse_gradient(attach):
    table = nn.Embedding(10, 3, sparse=True)
    optimizer = sgd(attach, table.weight, Fixed(1.0))
    table(torch.tensor([2])).sum().backward()
    optimizer.step()
    expected = torch.zeros(10, 3)
    expected[2] = 1 + noise_of("w", 0, 1.0, (10, 3))[2]
    assert torch.equal(table.weight.grad.to_dense(), expected)


# --- the loss scale -----------------------------------------------------------------------------------


def scaled_step(optimizer, p, scaler, factor=1.0):
    p.grad = None
    scaler.scale((p * factor).sum()).backward()
    scaler.step(optimizer)
    scaler.update()


def fused(p, lr):
    return torch.optim.SGD(p, lr=lr, fused=True)


@catches("noise that is divided by the loss scale", mistakes.a_mere_hook)
def loss_scale(attach):
    (p,) = flat((100,))
    scaled_step(sgd(attach, p, Fixed(1.0), cls=fused), p, torch.amp.GradScaler("cpu"))
    assert torch.equal(p.data, -(1 + noise_of("w", 0, 1.0, p.shape)))


@catches("an update that overflowed is counted", mistakes.a_mere_hook)
def overflow(attach):
    (p,) = flat((100,))
    optimizer, scaler = sgd(attach, p, Fixed(1.0), cls=fused), torch.amp.GradScaler("cpu")
    scaled_step(optimizer, p, scaler, math.inf)
    assert p.count_nonzero() == 0
    scaled_step(optimizer, p, scaler)
    assert torch.equal(p.data, -(1 + noise_of("w", 0, 1.0, p.shape)))


# --- checkpoints --------------------------------------------------------------------------------------


def after_resuming(attach, steps, dtype=torch.float32):
    """Return the noise of the first update after `steps` and a checkpoint."""
    (p,) = flat((100,), dtype=dtype)
    optimizer = sgd(attach, p, Annealed(eta=1.0))
    for _ in range(steps):
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    (p,) = flat((100,), dtype=dtype)
    optimizer = sgd(attach, p, Annealed(eta=1.0))
    optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    optimizer.step()
    return p.grad


@catches("the clock is lost at resume", mistakes.a_mere_hook)
def resume(attach):
    assert torch.equal(after_resuming(attach, 2), noise_of("w", 2, Annealed(1.0)(2) ** 0.5, (100,)))


@catches("a bfloat16 model rounds the clock", mistakes.clock_among_the_moments)
def resume_in_bfloat16(attach):
    noise = noise_of("w", 257, Annealed(1.0)(257) ** 0.5, (100,))  # 257 would be rounded to 256
    assert torch.equal(after_resuming(attach, 257, torch.bfloat16), noise.bfloat16())


@catches("the dummy step of distributed checkpoints gets noise", mistakes.a_mere_hook)
def rehearsal(attach):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters())
    state = get_optimizer_state_dict(model, optimizer)["state"]  # steps with zero gradients and learning rate 0
    assert all(s["exp_avg"].count_nonzero() == 0 for s in state.values())
    model.bias.grad = torch.zeros(2)
    optimizer.step()
    assert torch.equal(model.bias.grad, noise_of("bias", 0, 1.0, (2,)))


@pytest.mark.parametrize("mistake", CAUGHT)
def test_ours_does_not_make_it(mistake):
    check, _, _ = CAUGHT[mistake]
    check(gradnoise.attach)


@pytest.mark.parametrize("mistake", CAUGHT)
def test_who_makes_it_is_caught(mistake):
    check, maker, error = CAUGHT[mistake]
    with pytest.raises(error):
        check(maker)


def test_the_docs_list_each_mistake_and_name_files_that_exist():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert [row for row in CAUGHT if f"\n| {row} |" not in page] == []
    places = re.findall(r"`(?:tests/)?((?:conformance|noise|distributed|integrations|support)/[\w.]*)`", page)
    assert len(places) > 30 and all((root / "tests" / place).exists() for place in places)
