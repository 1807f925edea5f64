"""Warnings come for each optimizer, not once for each process, and name a line of the user's."""

import warnings

import pytest
import torch
from support.loop import SEED, flat
from torch import nn

from gradnoise import Annealed, Fixed, attach


class Clipper(torch.optim.SGD):
    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.max_grad_norm = 1.0


class Forgetful(torch.optim.SGD):
    def state_dict(self):
        return {}


def clips_by_an_option():
    attach(Clipper(flat((9,))), Annealed(0.01), seed=SEED)


def does_not_save_the_clock():
    attach(Forgetful(flat((9,)), lr=0.1), Annealed(0.01), seed=SEED)


def has_no_gradient():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(9))], lr=0.1)
    attach(optimizer, Annealed(0.01), seed=SEED)
    for _ in range(3):
        optimizer.step()


def has_names_of_another_optimizer():
    optimizers = [torch.optim.SGD(flat((9,)), lr=0.1) for _ in range(2)]
    noises = [attach(optimizer, Fixed(1e-9), seed=SEED) for optimizer in optimizers]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.param_groups[0]["params"][0].grad.zero_()
            optimizer.step()
    for noise in noises:
        noise.detach()


def is_loud():
    (p,) = flat((9,))
    p.grad += 1
    optimizer = torch.optim.SGD([p], lr=0.1)
    attach(optimizer, Fixed(1e3), seed=SEED)
    optimizer.step()


def is_not_called():
    p = nn.Parameter(torch.ones(9))
    attach(torch.optim.SGD([p], lr=0.1), Fixed(1e-9), seed=SEED)
    for _ in range(6):
        p.square().sum().backward()
        p.data.sub_(p.grad, alpha=0.01)


@pytest.mark.parametrize(
    ("fault", "message", "times"),
    [
        (clips_by_an_option, "it clips within its step", 1),
        (does_not_save_the_clock, "does not keep the clock", 1),
        (has_no_gradient, "found no gradient", 1),
        (has_names_of_another_optimizer, "another optimizer that is used in turn", 2),
        (is_loud, "the noise of update 0", 1),
        (is_not_called, "was not called", 1),
    ],
)
def test_each_optimizer_is_warned_of_at_a_line_of_the_users(fault, message, times):
    for _ in range(2):  # equal warnings of one line would be shown once
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            fault()
        assert [message in str(one.message) for one in said] == [True] * times
        assert all(one.filename == __file__ and one.category is UserWarning for one in said)
        lines = range(fault.__code__.co_firstlineno, fault.__code__.co_firstlineno + 10)
        assert all(one.lineno in lines for one in said)


def test_filters_of_the_users_count():
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("ignore", message=".* clips within its step", module="test_warning|tests.noise")
        clips_by_an_option()
    assert not said
