"""Anticorrelated noise takes away what was added, no more and no less, whatever happens between two updates."""

import contextlib
import copy
import io
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from support.loop import SEED, closure_for, flat, make_model, noise_of, same, train, values
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from gradnoise import Annealed, Fixed, Relative, attach
from gradnoise.noise.anticorrelated import Added
from gradnoise.noise.dosing import Group, doses
from gradnoise.noise.gradients import Stream
from gradnoise.noise.steps.clock import CLOCK

SHAPE = (40,)
REAL = torch.float64


def sgd(count=1):
    parameters = flat(*[SHAPE] * count, dtype=REAL)
    return parameters, torch.optim.SGD(parameters, lr=1.0)


def set_gradients(parameters, gradients):
    for p, value in zip(parameters, gradients, strict=True):
        p.grad = None if value is None else torch.full_like(p, value)


def update(p, optimizer, gradient=0.0):
    """Return what an update adds to the gradient of a parameter."""
    p.grad = torch.full_like(p, gradient)
    optimizer.step()
    return p.grad - gradient


def z(t, sigma=1.0, name="0.0", seed=SEED):
    return noise_of(name, t, sigma, SHAPE, REAL, seed)


# --- the sum of all noise is that of the last update ------------------------------------------------------

SCHEDULES = {
    "fixed": Fixed(0.5), "annealed": Annealed(0.3), "relative": Relative(0.3), "ends": Annealed(0.3, until=4),
    "ends at a share": Fixed(1.0, until=0.5), "relative, ends": Relative(0.3, until=3),
    "relative to the clip": Relative(0.3, to="clip", clip=1.0),
}  # fmt: skip
SIZES = st.sampled_from([None, 0.1, 2.0, 20.0])
UPDATES = st.lists(st.tuples(st.booleans(), SIZES, SIZES).filter(lambda x: x[1:] != (None, None)), max_size=9)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@given(UPDATES)
def test_the_sum_of_all_noise_is_that_of_the_last_update(schedule, updates):
    """Gradients come and go and change their size, noise is paused, and ends."""
    parameters, optimizer = sgd(2)
    noise = attach(optimizer, schedule, seed=SEED, anti_pgd=True, warn=False)
    total, expected = ([torch.zeros(SHAPE, dtype=REAL) for _ in range(2)] for _ in range(2))
    for t, (paused, *gradients) in enumerate(updates):
        set_gradients(parameters, gradients)
        sigma = noise.diagnostics()[0].sigma
        names = {i: f"0.{i}" for i, value in enumerate(gradients) if value is not None}
        coming = {i: noise.replay(name, t, sigma=sigma) for i, name in names.items()}
        with noise.paused() if paused else contextlib.nullcontext():
            optimizer.step()
        for i, name in names.items():
            added = parameters[i].grad - gradients[i]
            if paused:
                assert not added.any()
                continue
            assert torch.allclose(added, coming[i], atol=1e-9)
            assert torch.equal(noise.replay(name, t, sigma=sigma), coming[i])
            total[i] += added
            expected[i] = z(t, sigma, name)
        assert all(torch.allclose(x, y, atol=1e-8) for x, y in zip(total, expected, strict=True))
    assert noise.step == len(updates)


def test_a_gradient_at_every_other_update():
    parameters, optimizer = sgd(2)
    attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    for t in range(5):
        set_gradients(parameters, (0.0, None if t % 2 else 0.0))
        optimizer.step()
    assert torch.allclose(-parameters[1], z(4, name="0.1")) and torch.allclose(-parameters[0], z(4))


def test_a_closure_that_is_called_several_times():
    model, kept = make_model(), []
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)
    noise = attach(optimizer, Fixed(0.1), seed=SEED, named_parameters=model.named_parameters(), anti_pgd=True)

    def closure():
        loss = closure_for(model, optimizer)()
        kept.append(model[0].bias.grad.clone())
        return loss

    for t in range(2):
        kept.clear()
        optimizer.step(closure)
        assert len(kept) > 1 and torch.allclose(model[0].bias.grad, kept[-1] + noise.replay("0.bias", t), atol=1e-5)


def test_a_step_that_raised_and_one_that_overflowed_added_nothing():
    (p,), optimizer = sgd()
    noise = attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    update(p, optimizer)
    handle = optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        update(p, optimizer)
    handle.remove()
    assert torch.allclose(update(p, optimizer), z(1) - z(0)) and noise.step == 2

    q = nn.Parameter(torch.zeros(SHAPE))
    fused = torch.optim.SGD([q], lr=1.0, fused=True)
    fused.grad_scale, fused.found_inf = torch.tensor(1.0), torch.tensor(0.0)
    noise = attach(fused, Relative(0.5), seed=SEED, anti_pgd=True)
    update(q, fused, 2.0)
    fused.found_inf.fill_(1.0)
    update(q, fused, 100.0)
    fused.found_inf.fill_(0.0)
    before = q.detach().clone()
    update(q, fused, 2.0)
    assert noise.step == 2
    assert torch.allclose(before - q - 2.0, noise.replay("0.0", 1, sigma=noise.sigma), atol=1e-4)
    assert torch.allclose(4.0 + q, -noise_of("0.0", 1, noise.sigma, SHAPE), atol=1e-4)


@pytest.mark.parametrize("skipped", [False, True])
def test_an_update_of_which_the_device_tells_later_whether_it_was_made(skipped):
    (p,), optimizer = sgd()
    stream, group = Stream.of(p, "0.0", SEED), optimizer.param_groups[0]
    group[CLOCK] = 0
    added = Added(optimizer)
    groups = [Group(0, Fixed(0.5), [stream], [p.grad])]
    for t, overflow in ((0, None), (1, SimpleNamespace(is_cuda=True))):
        added.doses(groups, t, "present", None, doses(groups, t, "present"))
        added.made(overflow)
        group[CLOCK] = t + 1
    if skipped:
        group[CLOCK] = 1
    assert added.left(2 - skipped) == {stream.key: (0 if skipped else 1, 0.5)}


def test_the_loss_scale_may_change_between_two_updates():
    q = nn.Parameter(torch.zeros(SHAPE))
    fused = torch.optim.SGD([q], lr=1.0, fused=True)
    fused.found_inf = torch.tensor(0.0)
    noise = attach(fused, Relative(0.5, gamma=0.0), seed=SEED, anti_pgd=True)
    for scale in (8.0, 2.0, 1024.0):
        fused.grad_scale = torch.tensor(scale)
        update(q, fused, 3.0 * scale)
    assert noise.sigma == pytest.approx(1.5)
    assert torch.allclose(9.0 + q, -noise_of("0.0", 2, 1.5, SHAPE), atol=1e-3)


# --- what others added, or nobody -------------------------------------------------------------------------


def test_noise_that_was_never_added_is_not_taken_away():
    (p,), optimizer = sgd()
    optimizer.param_groups[0][CLOCK] = 5  # as in the checkpoint of a run without it
    noise = attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    assert torch.allclose(update(p, optimizer), z(5))
    assert torch.allclose(update(p, optimizer), z(6) - z(5))
    noise.detach()
    noise = attach(optimizer, Fixed(1.0), seed=SEED + 1, anti_pgd=True)
    assert torch.allclose(update(p, optimizer), z(7, seed=SEED + 1))
    noise.detach()
    attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    assert torch.allclose(update(p, optimizer), z(8) - z(6))


def test_a_parameter_that_took_the_place_of_another_one_has_nothing_to_give_back():
    (p, _), optimizer = sgd(2)
    attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    optimizer.step()
    (new,) = flat((7,), dtype=REAL)
    optimizer.param_groups[0]["params"][1] = new
    p.grad.zero_()
    optimizer.step()
    assert torch.allclose(p.grad, z(1) - z(0)) and torch.allclose(new.grad, noise_of("0.1", 1, 1.0, (7,), REAL))


def test_the_rows_of_a_sparse_gradient_are_others_every_time():
    for rows in ("present", "all"):
        layer = nn.Embedding(4, 3, sparse=True)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        noise = attach(optimizer, Fixed(1.0), seed=SEED, rows=rows, anti_pgd=True, warn=False)
        start = layer.weight.detach().clone()
        layer(torch.tensor([1])).sum().backward()
        if rows == "present":
            with pytest.raises(NotImplementedError, match=r"sparse gradient of '0\.0' has other rows; attach with"):
                optimizer.step()
            assert noise.step == 0 and torch.equal(layer.weight, start)
            continue
        optimizer.step()
        optimizer.zero_grad()
        layer(torch.tensor([2])).sum().backward()
        optimizer.step()
        start[1:3] -= 1.0
        assert torch.allclose(start - layer.weight, noise_of("0.0", 1, 1.0, (4, 3)), atol=1e-6)


# --- checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Annealed(0.01), Relative(0.3)], ids=["annealed", "relative"])
@pytest.mark.parametrize("on", ["gradients", "weights"])
@pytest.mark.parametrize("through", ["optimizer", "handle"])
def test_what_was_added_goes_through_checkpoints(schedule, on, through):
    if on == "weights" and isinstance(schedule, Relative):
        schedule = Fixed(0.01)

    def run(stops):
        model, saved = make_model(), None
        for first, last in stops:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            noise = attach(optimizer, schedule, seed=SEED, anti_pgd=True, on=on)
            if saved is not None:
                (optimizer if through == "optimizer" else noise).load_state_dict(
                    torch.load(io.BytesIO(saved), weights_only=True)
                )
            train(model, optimizer, last - first, first)
            file = io.BytesIO()
            torch.save((optimizer if through == "optimizer" else noise).state_dict(), file)
            saved = file.getvalue()
        return values(model)

    assert same(run([(0, 6)]), run([(0, 1), (1, 3), (3, 6)]))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("flatten", [False, True])
def test_what_was_added_goes_through_distributed_checkpoints(flatten, tmp_path):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)

    def fresh():
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        attach(optimizer, Relative(0.3), seed=SEED, anti_pgd=True)
        return model, optimizer

    model, optimizer = fresh()
    train(model, optimizer, 3)
    names = "model_state_dict", "optim_state_dict"
    states = dict(zip(names, get_state_dict(model, optimizer, options=options), strict=True))
    dcp.save(states, checkpoint_id=tmp_path, no_dist=True)
    train(model, optimizer, 3, 3)
    other, optimizer = fresh()
    states = dict(zip(names, get_state_dict(other, optimizer, options=options), strict=True))
    dcp.load(states, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(other, optimizer, **states, options=options)
    train(other, optimizer, 3, 3)
    assert same(values(model), values(other))


def test_a_copy_of_an_optimizer_knows_what_was_added():
    (p,), optimizer = sgd()
    attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    update(p, optimizer)
    optimizer.state_dict()
    update(p, optimizer)
    p, optimizer = copy.deepcopy((p, optimizer))
    attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    assert torch.allclose(update(p, optimizer), z(2) - z(1))


def test_a_state_dict_that_is_kept_stays_what_it_was():
    (p,), optimizer = sgd()
    attach(optimizer, Fixed(1.0), seed=SEED, anti_pgd=True)
    update(p, optimizer)
    kept = optimizer.state_dict()
    for _ in range(3):
        update(p, optimizer)
    optimizer.load_state_dict(kept)
    assert torch.allclose(update(p, optimizer), z(1) - z(0))


def test_updates_of_which_nothing_is_known_any_more():
    (p,), optimizer = sgd()
    noise = attach(optimizer, Annealed(0.3), seed=SEED, anti_pgd=True)
    added = [update(p, optimizer) for _ in range(4)]
    assert all(torch.allclose(noise.replay("0.0", t), x) for t, x in enumerate(added))
    noise.detach()
    noise = attach(optimizer, Relative(0.3), seed=SEED, anti_pgd=True)
    with pytest.raises(ValueError, match=r"for the last update and the coming one \(t = 4\) alone, got t = 2"):
        noise.replay("0.0", 2, sigma=0.1)
