"""Parameter groups with eta and gamma of their own."""

import io

import pytest
import torch
from support.loop import SEED, flat, noise_of

from gradnoise import Annealed, Fixed, attach


def optimizer_of(*options):
    """Return an optimizer with one group per set of options; its parameter is 0, and so is its gradient."""
    parameters = flat(*[(5,)] * len(options))
    groups = [{"params": [p], **o} for p, o in zip(parameters, options, strict=True)]
    return parameters, torch.optim.SGD(groups, lr=1.0)


def test_each_group_follows_its_own_eta_and_gamma():
    options = {}, {"noise_eta": 0.25}, {"noise_gamma": 0.0}, {"noise_eta": 4.0, "noise_gamma": 2.0}, {"noise_eta": 0.0}
    parameters, optimizer = optimizer_of(*options)
    noise = attach(optimizer, Annealed(1.0, gamma=1.0), seed=SEED)
    for t in range(3):
        for p in parameters:
            p.grad.zero_()
        optimizer.step()
        for i, (eta, gamma) in enumerate([(1.0, 1.0), (0.25, 1.0), (1.0, 0.0), (4.0, 2.0), (0.0, 1.0)]):
            deviation = (eta / (1 + t) ** gamma) ** 0.5
            torch.testing.assert_close(parameters[i].grad, noise_of(f"{i}.0", t, deviation, (5,)))
            assert torch.equal(noise.replay(f"{i}.0", t), parameters[i].grad)


def test_eta_0_turns_a_group_off_bit_for_bit():
    (a, b), optimizer = optimizer_of({"noise_eta": 0.0}, {})
    a.grad.neg_()
    attach(optimizer, Annealed(1.0), seed=SEED)
    optimizer.step()
    assert torch.signbit(a.grad).all() and b.grad.count_nonzero() == 5


def test_options_survive_the_state_dict():
    _, optimizer = optimizer_of({"noise_eta": 0.0}, {"noise_gamma": 2.0})
    attach(optimizer, Annealed(1.0), seed=SEED)
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    (a, b), optimizer = optimizer_of({}, {})
    noise = attach(optimizer, Annealed(1.0), seed=SEED)
    says = "group 0 has noise_eta=0.0 instead of no option; group 1 has noise_gamma=2.0 instead of no option; set the"
    with pytest.warns(UserWarning, match=says):
        optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    optimizer.step()
    assert a.grad.count_nonzero() == 0
    assert torch.equal(b.grad, noise_of("1.0", 1, (1 / 2**2.0) ** 0.5, (5,))) and noise.step == 2


def test_an_option_may_change_during_training():
    (p,), optimizer = optimizer_of({})
    attach(optimizer, Annealed(1.0), seed=SEED)
    optimizer.step()
    optimizer.param_groups[0]["noise_eta"] = 0.0
    p.grad.zero_()
    optimizer.step()
    assert p.grad.count_nonzero() == 0


def test_a_default_of_the_optimizer_holds_for_all_groups():
    """Expect what holds for every option of torch's optimizers."""
    a, b = flat((5,), (5,))
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "noise_eta": 1.0}], lr=1.0)
    optimizer.defaults["noise_eta"] = 0.0
    optimizer.add_param_group({"params": flat((5,))})
    attach(optimizer, Annealed(4.0), seed=SEED)
    optimizer.step()
    assert torch.equal(a.grad, noise_of("0.0", 0, 2.0, (5,))) and torch.equal(b.grad, noise_of("1.0", 0, 1.0, (5,)))
    assert optimizer.param_groups[2]["params"][0].grad.count_nonzero() == 0


@pytest.mark.parametrize("option", ["noise_eta", "noise_gamma"])
def test_options_need_an_annealed_schedule(option):
    _, optimizer = optimizer_of({}, {option: 0.5})
    with pytest.raises(ValueError) as error:
        attach(optimizer, Fixed(0.1), seed=SEED)
    assert str(error.value) == (
        f"a parameter group has the option {option!r}, which replaces a number of an Annealed schedule, but the"
        " schedule is Fixed(sigma=0.1); attach an Annealed one or remove the option"
    )


@pytest.mark.parametrize("option, name", [("noise_eta", "eta"), ("noise_gamma", "gamma")])
def test_a_negative_option_is_refused(option, name):
    _, optimizer = optimizer_of({option: -0.5})
    with pytest.raises(ValueError) as error:
        attach(optimizer, Annealed(0.1), seed=SEED)
    assert str(error.value) == f"{name} must be a finite number >= 0, got -0.5"


def test_fixed_noise_takes_a_sigma_of_a_group():
    (a, b, c), optimizer = optimizer_of({}, {"noise_sigma": 0.0}, {"noise_sigma": 2.0})
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert torch.equal(a.grad, noise_of("0.0", 0, 1.0, (5,))) and torch.equal(c.grad, noise_of("2.0", 0, 2.0, (5,)))
    assert b.grad.count_nonzero() == 0


UNKNOWN = (
    "a parameter group has the option {!r}, which is none of noise_eta, noise_gamma, noise_rho, noise_sigma; the"
    " nearest is {!r}; rename or remove it"
)


@pytest.mark.parametrize(
    "option, nearest", [("noise_etta", "noise_eta"), ("noise_std", "noise_eta"), ("noise_gama", "noise_gamma")]
)
def test_an_option_that_nothing_reads_is_refused(option, nearest):
    says = UNKNOWN.format(option, nearest)
    _, optimizer = optimizer_of({}, {option: 0.0})
    with pytest.raises(ValueError) as error:
        attach(optimizer, Annealed(0.1), seed=SEED)
    assert str(error.value) == says
    _, optimizer = optimizer_of({})
    noise = attach(optimizer, Annealed(0.1), seed=SEED)
    optimizer.step()
    optimizer.add_param_group({"params": flat((5,)), option: 0.0})
    with pytest.raises(ValueError) as error:
        optimizer.step()
    assert str(error.value) == says and noise.step == 1


def test_an_option_of_another_kind_of_schedule_is_refused_when_it_comes():
    _, optimizer = optimizer_of({})
    attach(optimizer, Annealed(0.1), seed=SEED)
    optimizer.step()
    optimizer.param_groups[0]["noise_sigma"] = 0.0
    with pytest.raises(ValueError, match="the option 'noise_sigma', which replaces a number of a Fixed schedule"):
        optimizer.step()


def test_options_of_the_optimizer_itself_and_of_others_are_left_alone():
    class Dithering(torch.optim.SGD):
        def __init__(self, params, lr):
            super().__init__(params, lr=lr)
            self.defaults["noise_level"] = 0.5
            for group in self.param_groups:
                group.setdefault("noise_level", 0.5)

    (a,) = flat((5,))
    optimizer = Dithering([{"params": [a], "lr_scale": 0.5, "name": "body", "initial_noise_eta": 1.0}], lr=1.0)
    attach(optimizer, Annealed(1.0), seed=SEED)
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    optimizer.step()
    assert torch.equal(a.grad, noise_of("0.0", 0, 1.0, (5,)))
