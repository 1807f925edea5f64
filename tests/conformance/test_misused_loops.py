"""Loops and restarts that train with other noise than was meant, and none of it shows: each is told once."""

import copy
import warnings

import pytest
import torch
from support.loop import SEED
from torch import nn

from gradnoise import Annealed, Fixed, Relative, attach


def model_and_data(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    return model, torch.randn(64, 20), torch.randint(4, (64,))


def train(model, optimizer, x, y, steps=6, *, zero=True, set_to_none=True, clip=None):
    """A loop; without `zero` the one that forgets."""
    for t in range(steps):
        if zero:
            optimizer.zero_grad(set_to_none=set_to_none)
        rows = torch.arange(16) + 16 * (t % 4)
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: torch.optim.Adam(p, lr=1e-3),
    lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=True),
]

# --- gradients that are not zeroed ------------------------------------------------------------------------


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 1.0, 0.1])
@pytest.mark.parametrize("eta", [0.01, 1.0])
def test_a_loop_that_never_zeroes_its_gradients_is_told_once(make, clip, eta):
    model, x, y = model_and_data()
    optimizer = make(model.parameters())
    attach(optimizer, Annealed(eta), seed=SEED)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train(model, optimizer, x, y, zero=False, clip=clip)
    found = [str(w.message) for w in told if "was added to that of the last update, and to its noise" in str(w.message)]
    assert len(found) == 1


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("schedule", [Annealed(1e-4), Annealed(0.01), Annealed(1.0), Relative(0.1), Relative(3.0)])
@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_loop_that_zeroes_them_is_not(make, clip, schedule, set_to_none):
    for seed in range(3):
        model, x, y = model_and_data(seed)
        optimizer = make(model.parameters())
        attach(optimizer, schedule, seed=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the noise of update")  # as strong as it is
            train(model, optimizer, x, y, set_to_none=set_to_none, clip=clip)


# --- diagnostics at the wrong place -----------------------------------------------------------------------


def test_diagnostics_after_the_step_saw_the_noise_of_the_last_update():
    model, x, y = model_and_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Annealed(1e-4), seed=SEED)
    train(model, optimizer, x, y, 20)
    with pytest.warns(UserWarning, match="saw the gradients of the last update, which have its noise already"):
        noise.diagnostics()
    noise.diagnostics()


def test_diagnostics_after_zero_grad_found_nothing():
    model, x, y = model_and_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Annealed(1e-4), seed=SEED)
    train(model, optimizer, x, y)
    optimizer.zero_grad()
    with pytest.warns(UserWarning, match="found no gradient on any parameter"):
        noise.diagnostics()


@pytest.mark.parametrize("set_to_none", [False, True])
def test_diagnostics_before_the_step_are_right(set_to_none):
    model, x, y = model_and_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Annealed(1e-4), seed=SEED)
    for _ in range(12):
        optimizer.zero_grad(set_to_none=set_to_none)
        nn.functional.cross_entropy(model(x), y).backward()
        noise.diagnostics()
        optimizer.step()


# --- a run that goes on with other noise ------------------------------------------------------------------


def begun():
    model, x, y = model_and_data()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    attach(optimizer, Annealed(0.001), seed=SEED)
    train(model, optimizer, x, y)
    return copy.deepcopy(optimizer.state_dict())


OTHERS = [
    ({"schedule": Annealed(0.001), "seed": SEED + 1}, f"Annealed.eta=0.001, gamma=0.55., seed {SEED + 1}. Where"),
    ({"schedule": Annealed(0.002), "seed": SEED}, f"Annealed.eta=0.002, gamma=0.55., seed {SEED}. Where"),
    ({"schedule": Fixed(0.001), "seed": SEED}, f"Fixed.sigma=0.001., seed {SEED}. Where"),
    ({"schedule": Annealed(0.001), "seed": SEED, "on": "weights"}, f"seed {SEED}, on weights. Where"),
    ({"schedule": Annealed(0.001), "seed": SEED, "anti_pgd": True}, f"seed {SEED}, anticorrelated. Where"),
]


@pytest.mark.parametrize("attach_first", [False, True])
@pytest.mark.parametrize(("how", "told"), OTHERS)
def test_a_run_that_goes_on_with_other_noise_is_told(how, told, attach_first):
    state, (model, x, y) = begun(), model_and_data()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    began = rf"state is that of a run with Annealed.eta=0.001, gamma=0.55., seed {SEED}; from update 6 on it has "
    with pytest.warns(UserWarning, match=began + ".*" + told) as found:
        if attach_first:
            attach(optimizer, **how)
        optimizer.load_state_dict(state)
        if not attach_first:
            attach(optimizer, **how)
    assert len(found) == 1
    train(model, optimizer, x, y)
    optimizer.load_state_dict(optimizer.state_dict())  # from now on it is the noise of this run


@pytest.mark.parametrize("attach_first", [False, True])
def test_a_run_that_goes_on_as_it_began_is_not(attach_first):
    state, (model, x, y) = begun(), model_and_data()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if attach_first:
        attach(optimizer, Annealed(0.001), seed=SEED)
    optimizer.load_state_dict(state)
    if not attach_first:
        attach(optimizer, Annealed(0.001), seed=SEED)
    train(model, optimizer, x, y)


def test_other_noise_that_is_attached_in_the_same_process_is_meant():
    model, x, y = model_and_data()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    noise = attach(optimizer, Annealed(0.001), seed=SEED)
    train(model, optimizer, x, y)
    noise.detach()
    again = attach(optimizer, Fixed(0.001), seed=SEED)
    train(model, optimizer, x, y)
    assert again.step == 12


def test_warnings_can_be_left_out():
    state, (model, _, _) = begun(), model_and_data()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    optimizer.load_state_dict(state)
    assert attach(optimizer, Fixed(0.5), seed=SEED, warn=False).step == 6


# --- what is no schedule, no seed, no optimizer -----------------------------------------------------------


@pytest.mark.parametrize("schedule", [lambda: 0.1, lambda t, u: 0.1, lambda *, t: 0.1])
def test_a_schedule_is_called_with_t(schedule):
    model, _, _ = model_and_data()
    with pytest.raises(ValueError, match="called with one argument, t, the number of updates done before, which"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), schedule, seed=0)


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(value):
    model, _, _ = model_and_data()
    with pytest.raises(ValueError, match=f"eta must be a finite number >= 0, got {value}"):
        Annealed(value)
    with pytest.raises(ValueError, match=f"seed must be an integer, got {value}"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), Annealed(0.01), seed=value)


def test_a_scheduler_of_learning_rates_is_no_optimizer():
    model, _, _ = model_and_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for scheduler in (
        torch.optim.lr_scheduler.StepLR(optimizer, 3),
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
    ):
        with pytest.raises(ValueError, match=f"got the learning-rate scheduler {type(scheduler).__name__}; pass the"):
            attach(scheduler, Annealed(0.01), seed=0)
