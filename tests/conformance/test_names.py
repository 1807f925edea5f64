"""Noise is a function of seed, name, t and place: it does not matter who else is there, nor what is wrapped around."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.loop import SEED, flat, gradients, make_model, noise_of, same, train, values
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from gradnoise import Annealed, Fixed, add_gradient_noise_, attach

SHAPES = {"a": (4, 3), "b": (7,), "c": (2, 2), "d": ()}


def noises(names, frozen=(), seed=SEED):
    """Return what one step adds to each of these parameters."""
    parameters = dict(zip(names, flat(*(SHAPES[n] for n in names)), strict=True))
    for name in frozen:
        parameters[name].grad = None
    optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
    attach(optimizer, Fixed(1.0), seed=seed, named_parameters=parameters.items())
    optimizer.step()
    return {name: p.grad for name, p in parameters.items() if name not in frozen}


# --- a function of the name alone ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*found no gradient")
@given(st.permutations("abcd"), st.integers(1, 4), st.sets(st.sampled_from("abcd")))
def test_adding_freezing_or_reordering_leaves_the_others_noise(order, count, frozen):
    names = order[:count]
    for name, noise in noises(names, frozen & set(names)).items():
        assert torch.equal(noise, noise_of(name, 0, 1.0, SHAPES[name]))


def test_moving_to_another_group_leaves_the_noise():
    a, b = flat((5,), (5,))
    optimizer = torch.optim.SGD([{"params": [b]}, {"params": [a], "lr": 0.1}], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("a", a), ("b", b)])
    optimizer.step()
    assert torch.equal(a.grad, noise_of("a", 0, 1.0, (5,))) and torch.equal(b.grad, noise_of("b", 0, 1.0, (5,)))


def test_without_names_parameters_go_by_group_and_index():
    a, b, c = flat((5,), (5,), (5,))
    optimizer = torch.optim.SGD([{"params": [a, b]}, {"params": [c]}], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    for name, p in (("0.0", a), ("0.1", b), ("1.0", c)):
        assert torch.equal(p.grad, noise_of(name, 0, 1.0, (5,)))


def shifted(optimizer, new):
    listed = optimizer.param_groups[0]["params"]
    del listed[0]
    listed.append(new)


def put_first(optimizer, new):
    optimizer.param_groups[0]["params"].insert(0, new)


def group_removed(optimizer, new):
    del optimizer.param_groups[0]
    optimizer.add_param_group({"params": [new]})


def taken_to_another_group(optimizer, new):
    first, second = optimizer.param_groups
    second["params"].append(first["params"].pop(0))
    first["params"].append(new)


@pytest.mark.parametrize("change", [shifted, put_first, group_removed, taken_to_another_group])
def test_parameters_that_moved_and_new_ones_at_their_places_get_different_noise(change):
    a, b, c, new = flat((5,), (5,), (5,), (5,))
    optimizer = torch.optim.SGD([{"params": [a, b]}, {"params": [c]}], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    change(optimizer, new)
    now = [(f"{g}.{i}", p) for g, group in enumerate(optimizer.param_groups) for i, p in enumerate(group["params"])]
    for t in (1, 2):
        for _, p in now:
            p.grad.zero_()
        optimizer.step()
        for place, p in now:
            assert torch.equal(p.grad, noise_of(place, t, 1.0, (5,)))
            assert torch.equal(p.grad, noise.replay(place, t))
    assert len(noise.keys) == len(now)


def test_a_change_of_order_alone_leaves_the_noise():
    a, b = flat((5,), (5,))
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.param_groups[0]["params"].reverse()
    optimizer.step()
    assert torch.equal(a.grad, noise_of("0.0", 0, 1.0, (5,))) and torch.equal(b.grad, noise_of("0.1", 0, 1.0, (5,)))


def test_no_two_parameters_steps_or_seeds_share_numbers():
    """Compare 25,200 draws of 128 bits, four normals in a row each: no two are equal by chance."""
    (p,) = flat((400,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    updates = (0, 1, 2, 3, 4, 5, 255, 256, 2**16, 2**31, 2**32, 2**40)
    draws = []
    for seed in range(3):
        for name in ("0.weight", "0.bias", "1.weight", "weight", "weight.0", "layers.0/weight", ""):
            noise = attach(optimizer, Fixed(1.0), seed=seed, named_parameters=[(name, p)])
            draws += [noise.replay(name, t).view(-1, 4) for t in updates]
            noise.detach()
    rows = torch.cat(draws)
    assert len(rows) == 3 * 7 * 12 * 100 and len(rows.unique(dim=0)) == len(rows)
    assert len(rows.sort(dim=1).values.unique(dim=0)) == len(rows)  # nor in another order


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_the_number_of_threads_does_not_matter(dtype, restore_threads):
    drawn = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        (p,) = flat((1000, 333), dtype=dtype)
        optimizer = torch.optim.SGD([p], lr=1.0)
        attach(optimizer, Fixed(1.0), seed=SEED)
        optimizer.step()
        drawn.append(p.grad)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


# --- wrappers ------------------------------------------------------------------------------------------


class Prefixed(nn.Module):
    """Names as DistributedDataParallel ("module.") and Opacus ("_module.") give them."""

    def __init__(self, prefix, inner):
        super().__init__()
        self.add_module(prefix, inner)
        self.inner = [inner]

    def forward(self, x):
        return self.inner[0](x)


def with_checkpoints(model):
    return nn.Sequential(*map(checkpoint_wrapper, model))


WRAPPERS = {
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "torch.compile of parts": lambda model: nn.Sequential(*(torch.compile(m, backend="eager") for m in model)),
    "DataParallel": nn.DataParallel,
    "Opacus": lambda model: Prefixed("_module", model),
    "FSDP1's name": lambda model: Prefixed("_fsdp_wrapped_module", model),
    "activation checkpoints": with_checkpoints,
    "DDP of torch.compile": lambda model: Prefixed("module", torch.compile(model, backend="eager")),
    "torch.compile of DDP of checkpoints": lambda model: torch.compile(
        Prefixed("module", with_checkpoints(model)), backend="eager"
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_gets_the_noise_of_the_bare_one(wrap):
    bare, model = make_model(), make_model()
    wrapped = wrap(model)
    assert [n for n, _ in wrapped.named_parameters()] != [n for n, _ in bare.named_parameters()]
    for m, names in ((bare, bare.named_parameters()), (model, wrapped.named_parameters())):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
        attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=names)
        train(m, optimizer, 2)
    assert same(values(model), values(bare))


def test_a_module_that_is_called_module_keeps_its_name():
    a, b = flat((5,), (5,))
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("module.w", a), ("head.w", b)])
    optimizer.step()
    assert torch.equal(a.grad, noise_of("module.w", 0, 1.0, (5,)))


def of_wrapped_and_other(wrapped):
    """Names of a model and of a criterion outside of it, whose one weight is trained with it."""
    criterion = nn.Linear(2, 1, bias=False)
    names = [*wrapped.named_parameters(), ("criterion.weight", criterion.weight)]
    return torch.optim.SGD([p for _, p in names], lr=0.1), {"named_parameters": names, "seed": SEED}


@pytest.mark.parametrize("wrap, prefix", [(nn.DataParallel, "module"), (lambda m: Prefixed("_module", m), "_module")])
def test_names_of_a_wrapped_model_beside_others(wrap, prefix):
    wrapped = wrap(make_model())
    optimizer, options = of_wrapped_and_other(wrapped)
    says = (
        f"wrapped model are given, as '{prefix}.0.weight', beside others, as 'criterion.weight': '{prefix}.' is taken"
    )
    with pytest.warns(UserWarning, match=says):
        attach(optimizer, Fixed(1.0), **options).detach()
    attach(optimizer, Fixed(1.0), warn=False, **options)


@pytest.mark.filterwarnings("error")
def test_a_part_that_is_called_module_beside_others_is_no_doubt():
    other = nn.DataParallel(make_model())
    optimizer, options = of_wrapped_and_other(Prefixed("module", make_model()))
    attach(optimizer, Fixed(1.0), **options)
    optimizer, options = of_wrapped_and_other(other.module)
    attach(optimizer, Fixed(1.0), **options)


# --- the filter ----------------------------------------------------------------------------------------


def test_where_chooses_by_name():
    ours, bare = make_model(), make_model()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    asked = []
    options = {"where": lambda name: asked.append(name) or name.endswith("weight")}
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=ours.named_parameters(), **options)
    assert asked == [name for name, _ in ours.named_parameters()]
    train(ours, optimizer, 1)
    train(bare, torch.optim.SGD(bare.parameters(), lr=0.1), 1)
    clean = gradients(bare)
    for name, g in gradients(ours).items():
        noise = noise_of(name, 0, 1.0, g.shape) if name.endswith("weight") else 0
        assert torch.equal(g, clean[name] + noise)


def test_where_sees_the_name_without_wrappers():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    asked = []
    pairs = [(f"module._orig_mod.{name}", p) for name, p in model.named_parameters()]
    attach(
        optimizer, Fixed(1.0), seed=SEED, named_parameters=pairs, where=lambda name: asked.append(name) or "0" in name
    )
    assert asked == ["0.weight", "0.bias", "2.weight", "2.bias"]


OWN_NAMES = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6), reason="optimizers take names from torch 2.6 on"
)


@OWN_NAMES
def test_where_takes_the_names_that_an_optimizer_was_made_with():
    """What it chooses has the noise that it has without a filter."""
    model = make_model()
    groups = [{"params": [(f"module.{n}", p) for n, p in model[i].named_parameters(f"{i}")]} for i in (0, 2)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    asked = []
    attach(optimizer, Fixed(1.0), seed=SEED, where=lambda name: asked.append(name) or name.endswith("weight"))
    assert asked == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for i, place in ((0, "0.0"), (2, "1.0")):
        assert torch.equal(model[i].weight.grad, noise_of(place, 0, 1.0, model[i].weight.shape))
        assert not model[i].bias.grad.any()


@OWN_NAMES
def test_where_takes_the_names_of_groups_that_are_added():
    a, b, c = flat((5,), (5,), (5,))
    optimizer = torch.optim.SGD([("a", a), ("b.bias", b)], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, where=lambda name: not name.endswith("bias"))
    optimizer.add_param_group({"params": [("c.bias", c)]})
    optimizer.step()
    assert a.grad.all() and not b.grad.any() and not c.grad.any()


def test_a_filter_that_selects_everything():
    """As one with a misspelt name does; where parameters of other optimizers are filtered out it is no doubt."""
    model = make_model()
    names = {"where": lambda name: "bais" not in name}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="`where` selects each of 4 parameters, the first is '0.weight'"):
        attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters(), **names).detach()
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters(), warn=False, **names)
    names = {"where": lambda name: "bias" not in name}
    matrices = torch.optim.SGD([model[0].weight, model[2].weight], lr=0.1)
    attach(matrices, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters(), **names)


# --- the function below --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Annealed(0.3), Fixed(0.5), Annealed(0.0)])
def test_the_stateless_function_adds_what_attach_adds(schedule):
    ours, by_hand = make_model(), make_model()
    optimizer, plain = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (ours, by_hand))
    attach(optimizer, schedule, seed=SEED, named_parameters=ours.named_parameters())
    train(ours, optimizer, 3)
    clock = itertools.count()

    def add(*_):
        add_gradient_noise_(by_hand.named_parameters(), schedule, t=next(clock), seed=SEED)

    plain.register_step_pre_hook(add)
    train(by_hand, plain, 3)
    assert same(values(ours), values(by_hand))


def test_the_stateless_function_skips_what_has_no_gradient():
    model = make_model()
    with pytest.warns(UserWarning, match="no parameter has a gradient, so no noise was added") as caught:
        add_gradient_noise_(model.named_parameters(), Fixed(1.0), t=0, seed=SEED)
    assert caught[0].filename == __file__ and all(p.grad is None for p in model.parameters())
    model[2].weight.grad = torch.zeros(2, 5)
    add_gradient_noise_(torch.compile(model, backend="eager").named_parameters(), Fixed(1.0), t=7, seed=SEED)
    assert torch.equal(model[2].weight.grad, noise_of("2.weight", 7, 1.0, (2, 5)))
