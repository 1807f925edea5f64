"""Edges of the noise library at which numbers were wrong, settings were passed over, or a step took for ever."""

import json
import math
import warnings

import pytest
import torch
from support.loop import SEED
from torch import nn

from gradnoise import Annealed, Fixed, Relative, add_gradient_noise_, attach, flip_labels
from gradnoise.noise.schedule import EXACT


def network(*sizes):
    return [nn.Parameter(torch.zeros(size)) for size in sizes]


def set_gradients(parameters, k=0):
    generator = torch.Generator().manual_seed(k)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)


# --- what is told of the noise ----------------------------------------------------------------------------


def test_diagnostics_take_away_from_each_parameter_what_is_its_own():
    a, b = network(40, 40)
    optimizer = torch.optim.SGD([a, b], lr=0.1)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True, warn=False)
    for missing in (None, b, None):
        set_gradients([a, b])
        if missing is not None:
            missing.grad = None
        before = [None if p.grad is None else p.grad.clone() for p in (a, b)]
        told = noise.diagnostics()[0].noise_norm
        optimizer.step()
        added = [p.grad - g for p, g in zip((a, b), before, strict=True) if g is not None]
        assert told == pytest.approx(float(torch.cat(added).norm()), rel=1e-5)


def test_noise_relative_to_the_clip_has_a_sigma_before_and_after():
    (p,) = network(100)
    optimizer = torch.optim.SGD([p], lr=0.1)
    noise = attach(optimizer, Relative(0.5, to="clip", clip=2.0), seed=SEED, warn=False)
    assert noise.sigma == pytest.approx(0.1)
    set_gradients([p])
    before = p.grad.clone()
    optimizer.step()
    assert torch.allclose(noise.replay("0.0", 0), p.grad - before, atol=1e-6)
    assert noise.sigma == pytest.approx(0.1 * 2 ** (-0.55 / 2))


@pytest.mark.parametrize("closures", [1, 6])
def test_an_optimizer_that_clips_is_told_however_often_it_calls_its_closure(closures):
    class Clips(torch.optim.SGD):
        def step(self, closure=None):
            for _ in range(closures):
                closure()
            for p in self.param_groups[0]["params"]:
                p.grad = p.grad * (0.01 / p.grad.norm())
                p.data.sub_(p.grad)

    (p,) = network(50)
    optimizer = Clips([p], lr=0.1)
    attach(optimizer, Fixed(0.1), seed=SEED)

    def closure():
        optimizer.zero_grad()
        (p * torch.ones(50)).sum().backward()

    with pytest.warns(UserWarning, match="clipped gradients after the noise was added"):
        optimizer.step(closure)


def test_a_frozen_parameter_is_not_its_own_nearest_name():
    a, b = network(4, 4)
    noise = attach(torch.optim.SGD([a, b], lr=0.1), Fixed(0.1), seed=SEED)
    b.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'0.1' gets no noise now: it is frozen"):
        noise.replay("0.1", 0)


# --- what is added ----------------------------------------------------------------------------------------


def test_noise_by_hand_and_by_attach_is_warned_of():
    model = nn.Linear(20, 20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attach(optimizer, Fixed(0.01), seed=0, named_parameters=model.named_parameters())

    def step():
        optimizer.zero_grad()
        model(torch.ones(1, 20)).sum().backward()
        add_gradient_noise_(model.named_parameters(), Fixed(0.01), t=0, seed=0)
        optimizer.step()

    with pytest.warns(UserWarning, match="got noise by add_gradient_noise_, and gets that of attach too"):
        step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()  # once


def test_noise_by_hand_on_other_parameters_is_no_doubt():
    a, b = network(20, 20)
    optimizer = torch.optim.SGD([a], lr=0.1)
    attach(optimizer, Fixed(0.01), seed=0)
    for _ in range(3):
        set_gradients([a, b])
        add_gradient_noise_([("b", b)], Fixed(0.01), t=0, seed=0)
        optimizer.step()


def test_a_seed_without_a_schedule_is_warned_of(monkeypatch):
    optimizer = torch.optim.SGD(network(4), lr=0.1)
    with pytest.warns(UserWarning, match="a seed and no schedule, and adds no noise"):
        assert attach(optimizer, seed=0) is None
    assert attach(optimizer) is None  # a script that is ready for a comparison
    monkeypatch.setenv("GRADNOISE_SEED", "3")
    assert attach(optimizer, seed=0) is None  # an arm without noise


@pytest.mark.parametrize("found_inf", [1.0, 2.0])
def test_an_overflow_on_several_devices_skips_noise_on_weights(found_inf):
    """GradScaler adds up what it finds on each device."""
    bare, noisy = (torch.optim.SGD(network(50), lr=0.1, fused=True) for _ in range(2))
    attach(noisy, Fixed(1.0), seed=SEED, on="weights")
    for optimizer in (bare, noisy):
        set_gradients(optimizer.param_groups[0]["params"])
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(1.0), torch.tensor(found_inf)
        optimizer.step()
    assert torch.equal(noisy.param_groups[0]["params"][0], bare.param_groups[0]["params"][0])


# --- states -----------------------------------------------------------------------------------------------


def anticorrelated(anti_pgd=True):
    (p,) = network(8)
    optimizer = torch.optim.SGD([p], lr=0.1)
    noise = attach(optimizer, Fixed(0.1), seed=SEED, anti_pgd=anti_pgd)
    set_gradients([p])
    optimizer.step()
    return noise


def test_a_state_of_anticorrelated_noise_needs_anticorrelated_noise():
    state = anticorrelated().state_dict()
    with pytest.raises(ValueError, match="attach with anti_pgd=True"):
        anticorrelated(anti_pgd=False).load_state_dict(state)


@pytest.mark.parametrize("added", ["{", "3", json.dumps([1, 2])])
def test_a_state_that_cannot_be_read_changes_nothing(added):
    noise = anticorrelated()
    before = noise.state_dict()
    with pytest.raises(ValueError):
        noise.load_state_dict({**before, "t": 7, "added": added})
    assert noise.state_dict() == before


# --- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "until"), [(0.05, 0.01), (0.1, 1e-4), (1e-3, 0.05), (0.2, 1e-3)])
def test_an_end_that_is_far_away_takes_no_time(gamma, until):
    relative = Relative(1.0, gamma=gamma, until=until)
    assert relative.end > EXACT / 2 and relative.ratio(0) == 1.0


@pytest.mark.parametrize("until", [0.5, 0.1, 0.01])
def test_an_end_is_the_first_update_under_its_share(until):
    relative = Relative(1.0, gamma=0.9, until=until)
    t = int(relative.end) - 1
    assert (1.0 + t) ** -0.45 < until <= t**-0.45 and not math.isinf(relative.end)


def test_an_ignored_index_that_the_labels_cannot_hold_is_refused():
    labels = torch.tensor([0, 156], dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"no label is ignore_index=-100: labels are torch\.uint8"):
        flip_labels(labels, 0.5, classes=200, seed=0, t=0, ignore_index=-100)


def test_an_option_of_any_size_ends_no_step():
    (p,) = network(30)
    optimizer = torch.optim.SGD([{"params": [p], "own": 1e60}], lr=0.1)
    attach(optimizer, Annealed(0.1), seed=SEED)
    optimizer.register_step_pre_hook(lambda *_: setattr(p, "grad", p.grad * 0.5))
    set_gradients([p])
    with pytest.warns(UserWarning, match="clipped gradients"):
        optimizer.step()
