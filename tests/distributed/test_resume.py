"""torch.distributed.checkpoint: what 2 ranks saved goes on, bit for bit, on any number of ranks."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from support.exact import UPDATES, Model, alone, full, naive, noisy, same, sgd, train, weights
from support.ranks import on_ranks
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard

from gradnoise.noise.steps.clock import CLOCK

every_size = pytest.mark.parametrize("size", [1, 2, 4])

SAVED = 3
KINDS = {
    "sharded": (torch.float32, StateDictOptions()),
    "of a bfloat16 model": (torch.bfloat16, StateDictOptions()),
    "flattened": (torch.float32, StateDictOptions(flatten_optimizer_state_dict=True)),
    "whole": (torch.float32, StateDictOptions(full_state_dict=True)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def fresh(dtype, make=sgd, hook=noisy):
    model = fully_shard(Model(dtype))
    optimizer = make(model)
    return model, optimizer, hook(optimizer, model)


def save(kind):
    dtype, options = KINDS[kind]
    model, optimizer, _ = fresh(dtype)
    train(model, optimizer, SAVED)
    state = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer, options=options), strict=True))
    dcp.save(state, checkpoint_id=Path(kind))


def load(kind):
    dtype, options = KINDS[kind]
    model, optimizer, noise = fresh(dtype)
    state = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer, options=options), strict=True))
    dcp.load(state, checkpoint_id=Path(kind))
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=options,
    )
    return model, optimizer, noise


@on_ranks(1, 2, 4)
def resumed():
    """Return for each kind of checkpoint the clock as loaded, then weights and clock after the last update."""
    outcome = {}
    for kind in KINDS:
        if dist.get_world_size() == 2:
            save(kind)
        model, optimizer, noise = load(kind)
        clock = optimizer.param_groups[0].get(CLOCK)
        train(model, optimizer, UPDATES - SAVED, first=SAVED)
        outcome[kind] = clock, weights(model), noise.step
    return outcome


@every_kind
@every_size
def test_resumed_is_uninterrupted(ranks, size, kind):
    expected = weights(alone(dtype=KINDS[kind][0]))
    for outcome in ranks(resumed, size):
        _, mine, step = outcome[kind]
        assert same(mine, expected)
        assert step == UPDATES


@every_kind
@every_size
def test_the_clock_survives_and_stays_an_integer(ranks, size, kind):
    for outcome in ranks(resumed, size):
        clock = outcome[kind][0]
        assert type(clock) is int
        assert clock == SAVED


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.5)


def plain(model):
    return torch.optim.SGD(model.parameters(), lr=0.5)


@on_ranks(1, 2, 4)
def rehearsed():
    """Ask for an optimizer's state, which makes it take a step with gradients and learning rates that are 0.

    Returns what that step left: clock, moments of Adam, weights before and after; then the weights after training.
    """
    outcome = {}
    for hook in (noisy, naive):
        model, optimizer, noise = fresh(torch.float32, adam, hook)
        state = get_optimizer_state_dict(model, optimizer)["state"]
        moments = {name: full(moment["exp_avg"]) for name, moment in state.items()}
        outcome[hook.__name__] = getattr(noise, "step", None), moments

    model, optimizer, noise = fresh(torch.float32, plain)
    train(model, optimizer, 2)
    optimizer.zero_grad()
    before = weights(model)
    get_optimizer_state_dict(model, optimizer)  # SGD has no state: the step is made at every time of asking
    outcome["later"] = noise.step, before, weights(model)
    train(model, optimizer, 2, first=2)
    outcome["trained"] = weights(model)
    return outcome


@every_size
def test_a_rehearsal_step_before_training_changes_nothing(ranks, size):
    for outcome in ranks(rehearsed, size):
        step, moments = outcome["noisy"]
        assert step == 0
        assert all(moment.count_nonzero() == 0 for moment in moments.values())


@every_size
def test_a_rehearsal_step_amid_training_changes_nothing(ranks, size):
    model = Model()
    optimizer = plain(model)
    noisy(optimizer, model)
    train(model, optimizer, 4)
    for outcome in ranks(rehearsed, size):
        step, before, after = outcome["later"]
        assert step == 2
        assert same(before, after)
        assert same(outcome["trained"], weights(model))


@every_size
def test_a_naive_hook_puts_noise_into_the_moments(ranks, size):
    for outcome in ranks(rehearsed, size):
        _, moments = outcome["naive"]
        assert all(moment.count_nonzero() for moment in moments.values())
