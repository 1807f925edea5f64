"""What cannot be right is refused, in one sentence that says what to do."""

import math

import pytest
import torch
from support.loop import SEED, flat
from torch import nn

from gradnoise import Annealed, Fixed, add_gradient_noise_, attach


def sgd(*shapes):
    return torch.optim.SGD(flat(*shapes), lr=1.0)


def message(error, action, *arguments, **options):
    with pytest.raises(error) as caught:
        action(*arguments, **options)
    return str(caught.value)


# --- schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.01, math.nan, math.inf])
@pytest.mark.parametrize(
    "make, name", [(Annealed, "eta"), (lambda v: Annealed(0.01, gamma=v), "gamma"), (Fixed, "sigma")]
)
def test_a_setting_that_is_no_number_from_0_on(make, name, value):
    assert message(ValueError, make, value) == f"{name} must be a finite number >= 0, got {value}"


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, None, "high"])
def test_a_schedule_that_returns_no_variance(value):
    says = f"the schedule must return a variance, one finite number >= 0, but at t = {{}} it returned {value!r}"
    optimizer = sgd((3,))
    assert message(ValueError, attach, optimizer, lambda t: value, seed=SEED) == says.format(0)
    noise = attach(optimizer, lambda t: value if t == 1 else 1.0, seed=SEED)
    optimizer.step()
    before = optimizer.param_groups[0]["params"][0].clone()
    assert message(ValueError, optimizer.step) == says.format(1)
    assert noise.step == 1 and torch.equal(optimizer.param_groups[0]["params"][0], before)


def test_a_number_for_a_schedule():
    assert message(ValueError, attach, sgd((3,)), 0.01, seed=SEED) == (
        "schedule must be Relative(0.1) or a callable t -> variance such as Annealed(eta=0.01), got 0.01"
    )


# --- optimizers ---------------------------------------------------------------------------------------


def test_attaching_twice():
    optimizer = sgd((3,))
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    says = "this optimizer has noise attached already; call detach() on its handle first"
    assert message(ValueError, attach, optimizer, Fixed(1.0), seed=SEED) == says
    noise.detach()
    attach(optimizer, Fixed(1.0), seed=SEED)


def test_attaching_to_a_wrapper_of_an_optimizer_with_noise():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    optimizer = sgd((3,))
    attach(optimizer, Fixed(1.0), seed=SEED)
    assert "noise attached already" in message(ValueError, attach, Wrapper(optimizer), Fixed(1.0), seed=SEED)


def test_a_wrapper_without_an_inner_optimizer():
    class Empty(torch.optim.Optimizer):
        def __init__(self):
            pass

    for wrapper, name in ((Empty(), "Empty"), (nn.Linear(2, 2), "Linear"), (None, "NoneType")):
        assert message(ValueError, attach, wrapper, Fixed(1.0), seed=SEED) == (
            "noise attaches to a torch.optim.Optimizer, or to a wrapper with one as its attribute `optimizer`, got"
            f" {name}; pass the torch optimizer itself"
        )


def test_an_optimizer_without_parameters():
    optimizer = sgd((3,))
    optimizer.param_groups[0]["params"].clear()
    says = "this optimizer has no parameters to add noise to; give it some by add_param_group() first"
    assert message(ValueError, attach, optimizer, Fixed(1.0), seed=SEED) == says
    optimizer.param_groups.clear()
    assert message(ValueError, attach, optimizer, Fixed(1.0), seed=SEED) == says


def test_what_the_stateless_function_refuses_as_attach_does():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    options = {"t": 0, "seed": SEED}
    assert message(ValueError, add_gradient_noise_, model.named_parameters(), "x", **options).startswith(
        "schedule must be Relative(0.1) or a callable t -> variance"
    )
    pairs = model.named_parameters()
    add_gradient_noise_(pairs, Fixed(1.0), **options)
    assert message(ValueError, add_gradient_noise_, pairs, Fixed(1.0), t=1, seed=SEED) == (
        "named_parameters has no parameter; a generator such as model.named_parameters() can be read once, so call it"
        " for every update"
    )
    for p in model.parameters():
        p.grad.zero_()
    model[0].weight.requires_grad_(False)
    model[2].bias.grad = model[0].bias.grad[:2]
    assert message(ValueError, add_gradient_noise_, model.named_parameters(), Fixed(1.0), **options).startswith(
        "parameters '0.bias' and '2.bias' share one gradient tensor"
    )
    assert not any(p.grad.any() for p in model.parameters())
    model[2].bias.grad = None
    add_gradient_noise_(model.named_parameters(), Fixed(1.0), **options)
    assert not model[0].weight.grad.any() and model[0].bias.grad.all() and model[2].weight.grad.all()


# --- names --------------------------------------------------------------------------------------------


PAIRS = "named_parameters must be (name, parameter) pairs, as model.named_parameters() gives them, got "


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda model: model.named_parameters, "a method; call it"),
        (lambda model: dict(model.named_parameters()), "a dict; pass its items()"),
        (lambda model: enumerate(model.parameters()), "a pair of an int and a Parameter"),
        (lambda model: model.parameters(), "a Parameter among them"),
        (lambda model: [name for name, _ in model.named_parameters()], "a str among them"),
        (lambda model: [("w", 3.0)], "a pair of a str and a float"),
        (lambda model: model, "a Linear"),
        (lambda model: "weight", "a str"),
    ],
)
def test_what_are_no_names(given, says):
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = given(model)
    assert message(ValueError, attach, optimizer, Fixed(1.0), seed=SEED, named_parameters=names) == PAIRS + says
    assert message(ValueError, add_gradient_noise_, given(model), Fixed(1.0), t=0, seed=SEED) == PAIRS + says


def test_a_parameter_without_a_name():
    assert message(ValueError, attach, sgd((3,)), Fixed(1.0), seed=SEED, named_parameters=[]) == (
        "parameter 0.0 (group.index) of shape [3] is in the optimizer but not in named_parameters; pass the names of"
        " all its parameters"
    )


def test_a_parameter_without_a_name_that_joins_later():
    a, b = flat((3,), (4,))
    optimizer = torch.optim.SGD([a], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("a", a)])
    optimizer.add_param_group({"params": [b]})
    assert message(ValueError, optimizer.step).startswith("parameter 1.0 (group.index) of shape [4] is in the")


def test_a_name_for_two_parameters():
    optimizer = sgd((3,), (3,))
    names = [("w", p) for p in optimizer.param_groups[0]["params"]]
    says = (
        "named_parameters gives the name 'w' to two parameters, whose noise would be equal; give each a name of its own"
    )
    assert message(ValueError, attach, optimizer, Fixed(1.0), seed=SEED, named_parameters=names) == says
    assert message(ValueError, add_gradient_noise_, names, Fixed(1.0), t=0, seed=SEED) == says


def test_names_that_differ_only_by_what_wrappers_add():
    """Pass the names of a model together with those of its compiled copy."""
    a, b = flat((3,), (3,))
    names = [("_orig_mod.w", a), ("w", b)]
    assert "gives the name 'w' to two parameters" in message(
        ValueError, attach, torch.optim.SGD([a, b], lr=1.0), Fixed(1.0), seed=SEED, named_parameters=names
    )


def test_replaying_an_unknown_name():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters())
    says = "no parameter with noise is named '2.wieght'; the nearest is '2.weight'"
    assert message(ValueError, noise.replay, "2.wieght", 0) == says
    assert message(ValueError, noise.replay, "2.weight", -1) == "t must be an integer >= 0, got -1"


# --- other arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, says",
    [
        ({"seed": 0.5}, "seed must be an integer, got 0.5"),
        ({"rows": "some"}, "rows must be 'present' or 'all', got 'some'"),
        ({"where": "bias"}, "where must be a function of a parameter's name that returns True or False, got 'bias'"),
        (
            {"where": lambda name: name == "bias"},
            "`where` is given names of parameters, and this optimizer has none for its parameters; pass"
            " named_parameters=model.named_parameters()",
        ),
        ({"anti_pgd": "no"}, "anti_pgd must be True or False, got 'no'"),
        ({"warn": 0}, "warn must be True or False, got 0"),
    ],
)
def test_unusable_arguments(options, says):
    assert message(ValueError, attach, sgd((3,)), Fixed(1.0), **({"seed": SEED} | options)) == says


def test_a_filter_that_selects_nothing():
    (p,) = flat((3,))
    options = {"named_parameters": [("weight", p)], "where": lambda name: name == "bias"}
    assert message(ValueError, attach, torch.optim.SGD([p], lr=1.0), Fixed(1.0), seed=SEED, **options) == (
        "`where` selects no parameter of this optimizer; it is called with names such as 'weight'"
    )


def test_what_was_refused_leaves_no_trace():
    (p,) = flat((3,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    before = dict(optimizer.param_groups[0])
    mistakes = [
        {"schedule": 0.01},
        {"schedule": lambda t: -1.0},
        {"seed": 0.5},
        {"named_parameters": []},
        {"rows": "some"},
        {"where": lambda name: False},
    ]
    for options in mistakes:
        message(ValueError, attach, optimizer, **({"schedule": Fixed(1.0), "seed": SEED} | options))
    optimizer.step()
    assert optimizer.param_groups[0] == before and p.grad.count_nonzero() == 0
    attach(optimizer, Fixed(1.0), seed=SEED)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"t": -1}, "t must be an integer >= 0, got -1"),
        ({"t": 1.5}, "t must be an integer >= 0, got 1.5"),
        ({"seed": None}, "seed must be an integer, got None"),
        ({"rows": "some"}, "rows must be 'present' or 'all', got 'some'"),
    ],
)
def test_unusable_arguments_of_the_stateless_function(options, says):
    (p,) = flat((3,))
    options = {"t": 0, "seed": SEED} | options
    assert message(ValueError, add_gradient_noise_, [("w", p)], Annealed(1.0), **options) == says
    assert p.grad.count_nonzero() == 0


# --- states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, says",
    [
        ({"seed": 4}, "seed 4, here it is 3; its steps cannot be continued: attach with seed=4"),
        ({"version": 9}, "version 9, here it is 1; its steps cannot be continued"),
    ],
)
def test_a_state_of_other_noise(change, says):
    noise = attach(sgd((3,)), Fixed(1.0), seed=3)
    state = {"version": 1, "seed": 3, "t": 7} | change
    assert message(ValueError, noise.load_state_dict, state) == f"the state is of noise with {says}"
    assert noise.step == 0


def test_a_state_of_something_else():
    noise = attach(sgd((3,)), Fixed(1.0), seed=SEED)
    says = "this is no state of gradient noise: it has no t, version; pass what state_dict() of a handle returned"
    assert message(ValueError, noise.load_state_dict, {"seed": SEED}) == says


# --- gradients ----------------------------------------------------------------------------------------


class Quantized(torch.Tensor):
    pass


def test_a_tensor_subclass_that_noise_is_not_defined_for():
    p = nn.Parameter(torch.zeros(3).as_subclass(Quantized))
    p.grad = torch.zeros(3).as_subclass(Quantized)
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("w", p)])
    assert message(NotImplementedError, optimizer.step) == (
        "the gradient of 'w' is a Quantized, a kind of tensor that noise is not defined for; leave this parameter out"
        " with `where`"
    )
    assert noise.step == 0


def test_fsdp1():
    (p,) = flat((3,))
    p._fsdp_flattened = True
    optimizer = torch.optim.SGD([p], lr=1.0)
    assert message(NotImplementedError, attach, optimizer, Fixed(1.0), seed=SEED) == (
        "parameter '0.0' belongs to FullyShardedDataParallel (FSDP1), whose shards do not tell their place in the"
        " parameter; use torch.distributed.fsdp.fully_shard (FSDP2)"
    )


def test_a_refused_gradient_leaves_the_others_clean():
    good, bad = flat((3,), (3,))
    bad.grad = torch.zeros(3).as_subclass(Quantized)
    optimizer = torch.optim.SGD([good, bad], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    message(NotImplementedError, optimizer.step)
    assert good.grad.count_nonzero() == 0
