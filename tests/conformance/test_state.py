"""Checkpoints and copies: the clock is in the optimizer's state, and noise goes on as if nothing had happened."""

import copy
import io
import pickle

import pytest
import torch
from support.loop import SCHEDULE, SEED, flat, make_model, promised, same, train, values

from gradnoise import attach

UPDATES = 5


def start(noise=True):
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    if noise:
        noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())
    return model, optimizer, noise


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.fixture(scope="module")
def whole():
    """Return the weights after an uninterrupted run."""
    model, optimizer, _ = start()
    train(model, optimizer, UPDATES)
    return values(model)


@pytest.mark.parametrize("step", range(UPDATES + 1))
@pytest.mark.parametrize("attach_first", [True, False], ids=["attach, then load", "load, then attach"])
def test_killed_at_any_step_and_resumed(whole, step, attach_first):
    model, optimizer, _ = start()
    train(model, optimizer, step)
    saved = through_a_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    model, optimizer, noise = start(noise=attach_first)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    if not attach_first:
        noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())
    assert noise.step == step
    train(model, optimizer, UPDATES - step, first=step)
    assert same(values(model), whole)


@pytest.mark.parametrize("step", range(UPDATES))
def test_the_handle_s_state_suffices_where_the_optimizer_s_is_not_saved(step):
    """Use SGD without momentum, whose only state worth saving is the clock."""

    def sgd():
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return model, optimizer, attach(optimizer, SCHEDULE, seed=SEED)

    model, optimizer, noise = sgd()
    train(model, optimizer, step)
    saved = through_a_file({"model": model.state_dict(), "noise": noise.state_dict()})
    train(model, optimizer, UPDATES - step, first=step)
    expected = values(model)
    model, optimizer, noise = sgd()
    model.load_state_dict(saved["model"])
    noise.load_state_dict(saved["noise"])
    train(model, optimizer, UPDATES - step, first=step)
    assert same(values(model), expected)


def test_a_checkpoint_without_noise_starts_the_clock():
    model, optimizer, _ = start(noise=False)
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    model, optimizer, noise = start()
    train(model, optimizer, 3)
    optimizer.load_state_dict(saved)
    assert noise.step == 0
    train(model, optimizer, 1)
    assert noise.step == 1


def test_who_trains_without_noise_can_load_a_checkpoint_with_it():
    model, optimizer, _ = start()
    train(model, optimizer, 2)
    plain, other, _ = start(noise=False)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    train(plain, other, 1)


def test_every_group_keeps_the_clock():
    """Check every group, so that the clock survives a checkpoint of which some groups were dropped."""
    a, b = flat((5,), (5,))
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0)
    attach(optimizer, SCHEDULE, seed=SEED)
    optimizer.step()
    assert [group["gradnoise_t"] for group in optimizer.state_dict()["param_groups"]] == [1, 1]


@pytest.mark.parametrize("clock", [None, -3, 1.5, "two"])
def test_a_checkpoint_whose_clock_is_none(clock):
    (p,) = flat((5,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, SCHEDULE, seed=SEED)
    state = optimizer.state_dict()
    state["param_groups"][0]["gradnoise_t"] = clock
    optimizer.load_state_dict(state)
    with pytest.raises(ValueError) as error:
        optimizer.step()
    assert str(error.value).startswith(f"the optimizer's state has gradnoise_t = {clock!r}, and this clock")
    assert not p.grad.any() and not p.any()
    state["param_groups"][0]["gradnoise_t"] = torch.tensor(3)
    optimizer.load_state_dict(state)
    optimizer.step()
    assert p.grad.any()


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_a_copy_has_no_noise_and_keeps_the_clock(duplicate):
    (p,) = flat((5,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, SCHEDULE, seed=SEED)
    optimizer.step()
    twin = duplicate(optimizer)
    (q,) = twin.param_groups[0]["params"]
    q.grad = torch.zeros(5)
    twin.step()
    assert q.grad.count_nonzero() == 0
    assert attach(twin, SCHEDULE, seed=SEED).step == 1
    twin.step()
    assert torch.equal(q.grad, promised("0.0", 1, q))
    assert noise.step == 1  # the original's clock is its own
