"""Under GradScaler the noise has the size of the unscaled gradient, and an update that overflowed does not count."""

import inspect
import math

import pytest
import torch
from support.loop import SCHEDULE, SEED, flat, loss_of, make_model, promised, same, values
from torch import nn

from gradnoise import attach

CLASSES = [
    cls
    for cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)
    if "fused" in inspect.signature(cls).parameters
]


def train(cls, fused, batches, scaler, *, unscale=False, clip=None, overflowing=()):
    """Make updates with noise; return the weights and the clock."""
    model = make_model()
    optimizer = cls(model.parameters(), lr=0.1, fused=fused)
    noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())
    for k in batches:
        optimizer.zero_grad()
        loss = loss_of(model, k) * (math.inf if k in overflowing else 1.0)
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    return values(model), noise.step


@pytest.mark.parametrize("overflowing", [(), (0,), (2, 3)], ids=["no overflow", "at first", "two in a row"])
@pytest.mark.parametrize("unscale", [False, True], ids=["", "unscaled"])
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
@pytest.mark.parametrize("cls", CLASSES)
def test_noise_and_clock_are_those_of_a_run_without_scale(cls, fused, unscale, overflowing):
    """Compare bit for bit, for a scale that is a power of two."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    batches = range(5)
    ours, t = train(cls, fused, batches, scaler, unscale=unscale, overflowing=overflowing)
    off = torch.amp.GradScaler("cpu", enabled=False)
    expected, _ = train(cls, fused, [k for k in batches if k not in overflowing], off)
    assert t == 5 - len(overflowing)
    assert same(ours, expected)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_a_scale_that_is_no_power_of_two(fused, unscale):
    ours, _ = train(torch.optim.SGD, fused, range(4), torch.amp.GradScaler("cpu", init_scale=1000.0), unscale=unscale)
    expected, _ = train(torch.optim.SGD, fused, range(4), torch.amp.GradScaler("cpu", enabled=False))
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("fused", [False, True])
def test_noise_comes_after_a_clip_of_unscaled_gradients(fused):
    (p,) = flat((1000,))
    optimizer = torch.optim.SGD([p], lr=1.0, fused=fused)
    attach(optimizer, SCHEDULE, seed=SEED)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale((1000 * p).sum()).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_([p], 1.0)
    clipped = p.grad.clone()
    scaler.step(optimizer)
    assert torch.equal(p.data, -(clipped + promised("0.0", 0, p)))


def test_only_the_optimizer_that_overflowed_stands_still():
    a, b = flat((5,), (5,))
    optimizers = [torch.optim.SGD([p], lr=1.0, fused=True) for p in (a, b)]
    noises = [attach(o, SCHEDULE, seed=SEED) for o in optimizers]
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((a + math.inf * b).sum()).backward()
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert [noise.step for noise in noises] == [1, 0]


def test_a_loss_scale_without_a_scaler():
    """Scale the loss by other means and tell a fused optimizer so with its attribute `grad_scale`."""
    (p,) = flat((100,))
    optimizer = torch.optim.SGD([p], lr=1.0, fused=True)
    attach(optimizer, SCHEDULE, seed=SEED)
    optimizer.grad_scale = torch.tensor(4.0)
    optimizer.step()
    assert torch.equal(p.data, -promised("0.0", 0, p))


def test_the_protocol_that_torch_gave_up_is_refused():
    class TakesScaler(torch.optim.SGD):
        _step_supports_amp_scaling = True

        def step(self, closure=None, *, grad_scaler=None):
            return super().step(closure)

    (p,) = flat((5,))
    optimizer = TakesScaler([p], lr=1.0)
    noise = attach(optimizer, SCHEDULE, seed=SEED)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(p.sum()).backward()
    with pytest.warns(FutureWarning), pytest.raises(NotImplementedError) as error:
        scaler.step(optimizer)
    assert str(error.value) == (
        "TakesScaler.step takes a GradScaler as an argument, a protocol that torch gave up and that does not tell the"
        " loss scale; call scaler.unscale_(optimizer), then optimizer.step()"
    )
    assert noise.step == 0


# --- an overflow that a GPU reports later --------------------------------------------------------------


class Event:
    """Stands in for the event behind which the overflow flag has arrived."""

    waited = 0

    def synchronize(self):
        self.waited += 1


@pytest.fixture
def pending():
    """Return a handle after one update whose overflow flag is still on its way."""

    def make(overflowed):
        optimizer = torch.optim.SGD(flat((5,)), lr=1.0)
        noise = attach(optimizer, SCHEDULE, seed=SEED)
        optimizer.step()
        event = Event()
        noise._steps.clock._overflow = torch.tensor(float(overflowed)), event
        return optimizer, noise, event

    return make


@pytest.mark.parametrize("overflowed", [False, True])
def test_the_clock_waits_when_it_is_read(pending, overflowed):
    _, noise, event = pending(overflowed)
    assert event.waited == 0
    assert [noise.step, noise.step] == [1 - overflowed] * 2
    assert event.waited == 1


def test_the_next_update_takes_the_place_of_one_that_overflowed(pending):
    optimizer, noise, _ = pending(True)
    (p,) = optimizer.param_groups[0]["params"]
    p.grad.zero_()
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", 0, p)) and noise.step == 1


def test_a_saved_clock_has_settled(pending):
    optimizer, _, _ = pending(True)
    assert optimizer.state_dict()["param_groups"][0]["gradnoise_t"] == 0


@pytest.mark.parametrize("load", ["the optimizer's state", "the handle's state"])
def test_a_loaded_clock_is_not_set_back(pending, load):
    """Load a clock as a run does that overflowed and goes back to its last checkpoint."""
    optimizer, noise, _ = pending(False)
    saved, of_handle = optimizer.state_dict(), noise.state_dict()
    optimizer, noise, _ = pending(True)
    if load == "the optimizer's state":
        optimizer.load_state_dict(saved)
    else:
        noise.load_state_dict(of_handle)
    assert noise.step == 1


def test_detaching_settles(pending):
    optimizer, noise, _ = pending(True)
    noise.detach()
    assert optimizer.param_groups[0]["gradnoise_t"] == 0
