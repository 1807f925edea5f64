"""What parameter groups keep for the noise is neither lost nor taken over by another run without a word."""

import copy
import gc
import io

import pytest
import torch
from support.loop import SEED, flat, noise_of

from gradnoise import Annealed, Fixed, Relative, attach

SHAPE = (5,)


def grouped(*options):
    parameters = flat(*[SHAPE] * len(options))
    groups = [{"params": [p], **o} for p, o in zip(parameters, options, strict=True)]
    return parameters, torch.optim.SGD(groups, lr=1.0, momentum=0.9)


def stepped(optimizer, updates=1, gradient=0.0):
    for _ in range(updates):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.full_like(p, gradient)
        optimizer.step()
    return [p.grad for group in optimizer.param_groups for p in group["params"]]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


# --- options of groups ----------------------------------------------------------------------------------


def test_a_checkpoint_without_noise_leaves_the_options_as_they_are():
    _, plain = grouped({}, {})
    stepped(plain)
    _, optimizer = grouped({}, {"noise_eta": 0.0})
    noise = attach(optimizer, Annealed(1.0), seed=SEED)
    optimizer.load_state_dict(through_a_file(plain.state_dict()))
    body, head = stepped(optimizer)
    assert torch.equal(body, noise_of("0.0", 0, 1.0, SHAPE)) and not head.any()
    assert not noise.replay("1.0", 0).any()


def test_a_checkpoint_with_another_option_is_said():
    _, other = grouped({"noise_eta": 0.0})
    attach(other, Annealed(1.0), seed=SEED)
    stepped(other)
    _, optimizer = grouped({"noise_eta": 0.25})
    noise = attach(optimizer, Annealed(1.0), seed=SEED)
    assert noise.sigma == 0.5
    with pytest.warns(UserWarning, match="group 0 has noise_eta=0.0 instead of noise_eta=0.25; set the options of"):
        optimizer.load_state_dict(through_a_file(other.state_dict()))
    assert noise.sigma == 0.0 and not stepped(optimizer)[0].any()


@pytest.mark.parametrize("detached", [True, False])
def test_the_same_options_and_their_absence_are_no_doubt(detached):
    """A round trip, options that say what the schedule says, and a handle that has let go."""
    _, optimizer = grouped({}, {"noise_eta": 0.0, "noise_gamma": 1.0}, {"lr": 0.1, "name": "head"})
    noise = attach(optimizer, Annealed(1.0), seed=SEED)
    stepped(optimizer, 2)
    state = through_a_file(optimizer.state_dict())
    state["param_groups"][0]["noise_eta"] = 1.0
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    if detached:
        noise.detach()
        state["param_groups"][1]["noise_eta"] = 3.0
    optimizer.load_state_dict(state)
    assert noise.step == 2
    stepped(optimizer)


def test_options_are_restored_without_warnings_too():
    _, plain = grouped({})
    _, optimizer = grouped({"noise_eta": 0.0})
    attach(optimizer, Annealed(1.0), seed=SEED, warn=False)
    optimizer.load_state_dict(plain.state_dict())
    assert not stepped(optimizer)[0].any()


# --- sigma ----------------------------------------------------------------------------------------------


def test_sigma_is_that_of_groups_without_options_or_of_the_first():
    _, optimizer = grouped({"noise_eta": 0.25}, {})
    assert attach(optimizer, Annealed(1.0), seed=SEED).sigma == 1.0
    _, optimizer = grouped({"noise_eta": 0.25}, {"noise_eta": 4.0})
    assert attach(optimizer, Annealed(1.0), seed=SEED).sigma == 0.5


@pytest.mark.parametrize("schedule", [Annealed(1.0, until=0.5), Fixed(1.0, until=2), Relative(0.1, until=2)])
def test_sigma_is_0_when_noise_has_ended(schedule):
    _, optimizer = grouped({})
    noise = attach(optimizer, schedule, seed=SEED, warn=False)
    stepped(optimizer, gradient=1.0)
    assert noise.sigma > 0
    stepped(optimizer, gradient=100.0)
    stepped(optimizer, gradient=100.0)
    assert noise.sigma == 0 and (stepped(optimizer, gradient=100.0)[0] == 100).all()


def test_sigma_is_0_when_it_ended_in_all_groups_only():
    (a, b), optimizer = grouped({}, {})
    noise = attach(optimizer, Fixed(1.0, until=0.5), seed=SEED, warn=False)
    a.grad, b.grad = torch.full(SHAPE, 100.0), torch.zeros(SHAPE)
    optimizer.step()
    assert [group.ended for group in noise.diagnostics()] == [1, None] and noise.sigma == 1.0
    b.grad = torch.full(SHAPE, 100.0)
    optimizer.step()
    assert [group.ended for group in noise.diagnostics()] == [1, 2] and noise.sigma == 0.0


# --- the end of other noise -----------------------------------------------------------------------------

WEAK, STRONG = Annealed(1e-6, until=0.5), Annealed(1.0, until=0.01)
OTHER = "group 0 holds the end of other noise, Annealed.eta=1e-06, gamma=0.55, until=0.5., seed 3, after update 0; the"


def ended():
    _, optimizer = grouped({})
    noise = attach(optimizer, WEAK, seed=SEED)
    stepped(optimizer, 2, gradient=1.0)
    assert noise.sigma == 0.0
    return optimizer, noise


@pytest.mark.parametrize("schedule, seed", [(STRONG, SEED), (WEAK, SEED + 1)])
@pytest.mark.parametrize("way", ["attach again", "attach, then load", "load, then attach"])
def test_the_end_of_other_noise_does_not_count(schedule, seed, way):
    optimizer, noise = ended()
    state = through_a_file(optimizer.state_dict())
    if way == "attach again":
        noise.detach()
    else:
        _, optimizer = grouped({})
    if way == "load, then attach":
        optimizer.load_state_dict(state)
    if way == "attach, then load":
        noise = attach(optimizer, schedule, seed=seed)
        optimizer.load_state_dict(state)
        with pytest.warns(UserWarning, match=OTHER):
            assert noise.sigma > 0
    else:
        with pytest.warns(UserWarning, match=OTHER):
            noise = attach(optimizer, schedule, seed=seed)
        assert noise.sigma > 0
    assert (stepped(optimizer, gradient=0.5)[0] != 0.5).any() and noise.step == 3


@pytest.mark.parametrize("way", ["attach again", "attach, then load", "load, then attach", "state of the handle"])
def test_the_end_of_the_same_noise_counts(way):
    optimizer, noise = ended()
    state, own = through_a_file(optimizer.state_dict()), through_a_file(noise.state_dict())
    noise.detach()
    if way != "attach again":
        _, optimizer = grouped({})
    if way == "load, then attach":
        optimizer.load_state_dict(state)
    noise = attach(optimizer, Annealed(1e-6, until=0.5), seed=SEED)
    if way == "attach, then load":
        optimizer.load_state_dict(state)
    if way == "state of the handle":
        noise.load_state_dict(own)
    assert noise.step == 2 and noise.sigma == 0.0
    assert (stepped(optimizer, gradient=0.5)[0] == 0.5).all()


def test_an_end_that_does_not_say_of_what_counts():
    """As states of earlier versions hold it."""
    optimizer, noise = ended()
    state, own = optimizer.state_dict(), noise.state_dict()
    del state["param_groups"][0]["gradnoise_ended_of"], own["ended_of"]
    for load in (lambda o, n: o.load_state_dict(state), lambda o, n: n.load_state_dict(own)):
        _, optimizer = grouped({})
        noise = attach(optimizer, WEAK, seed=SEED)
        load(optimizer, noise)
        assert noise.sigma == 0.0


def test_the_handle_s_state_of_other_noise():
    _, noise = ended()
    _, optimizer = grouped({})
    other = attach(optimizer, STRONG, seed=SEED)
    other.load_state_dict(noise.state_dict())
    with pytest.warns(UserWarning, match=OTHER):
        assert other.sigma > 0


def test_the_handle_s_state_of_other_groups_is_refused():
    _, noise = ended()
    _, optimizer = grouped({}, {})
    other = attach(optimizer, WEAK, seed=SEED)
    with pytest.raises(ValueError, match="ends of 1 parameter groups and this optimizer has 2 groups"):
        other.load_state_dict(noise.state_dict())
    assert other.step == 0 and other.sigma > 0


def test_a_function_with_an_end_of_its_own_is_the_same_in_every_process():
    class Mine:
        until = 0.5

        def __call__(self, t):
            return 1e-6

    texts = set()
    for _ in range(2):
        _, optimizer = grouped({})
        texts.add(attach(optimizer, Mine(), seed=SEED).state_dict()["ended_of"])
    (text,) = texts
    assert text.endswith("Mine(until=0.5), seed 3") and "0x" not in text


# --- groups that two optimizers share -------------------------------------------------------------------

SHARED = "made of the parameter groups of another one with noise, and takes over its clock: t = {}{}; make the groups"
BOTH = ", which now counts the updates of both"


def test_a_list_of_groups_that_is_used_for_run_after_run():
    groups = [{"params": flat(SHAPE)}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    stepped(optimizer, 5)
    del optimizer
    gc.collect()
    second = torch.optim.SGD(groups, lr=1.0)
    with pytest.warns(UserWarning, match=SHARED.format(5, "")):
        attach(second, Fixed(1.0), seed=SEED)
    assert "gradnoise_left" not in second.state_dict()["param_groups"][0]


@pytest.mark.parametrize("detached", [True, False])
def test_an_optimizer_that_is_made_of_anothers_groups(detached):
    _, first = grouped({})
    noise = attach(first, Fixed(1.0), seed=SEED)
    stepped(first, 5)
    if detached:
        noise.detach()
    second = torch.optim.SGD(first.param_groups, lr=1.0)
    with pytest.warns(UserWarning, match=SHARED.format(5, "" if detached else BOTH)):
        attach(second, Fixed(1.0), seed=SEED)


def test_groups_with_a_clock_of_their_own_are_no_doubt():
    """Resumed plain SGD, a copy, the same optimizer again, groups without a count, and new ones for each run."""
    parameters = flat(SHAPE)
    groups = [{"params": parameters}]
    for _ in range(2):
        attach(torch.optim.SGD(groups, lr=1.0), Fixed(1.0), seed=SEED).detach()
    kept = []
    for _ in range(2):
        optimizer = torch.optim.SGD([{"params": parameters}], lr=1.0)
        kept.append(attach(optimizer, Fixed(1.0), seed=SEED))
        stepped(optimizer, 2)
        kept[-1].detach()
        kept.append(attach(optimizer, Fixed(1.0), seed=SEED))
        assert kept[-1].step == 2
        resumed = torch.optim.SGD([{"params": parameters}], lr=1.0)
        resumed.load_state_dict(optimizer.state_dict())
        twin = copy.deepcopy(optimizer)
        for o in (resumed, twin):
            assert attach(o, Fixed(1.0), seed=SEED).step == 2
        resumed.load_state_dict(optimizer.state_dict())
        assert attach(copy.copy(twin), Fixed(1.0), seed=SEED, warn=False).step == 2
