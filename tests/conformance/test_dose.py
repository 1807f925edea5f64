"""The dose: noise in proportion to the gradient, noise that ends, and what is said of too much of it."""

import copy
import itertools
import math
import warnings

import pytest
import torch
from support.loop import SEED, closure_for, flat, gradients, make_model, noise_of, same, train, values
from torch import nn

from gradnoise import Annealed, Fixed, Relative, add_gradient_noise_, attach
from gradnoise.noise.until import ENDED


def norm(tensors):
    return math.sqrt(sum(x.abs().double().square().sum().item() for x in tensors))


def ones(*shapes, value=1.0, dtype=torch.float32):
    """Parameters that are 0 with gradients of one value, and their SGD."""
    parameters = flat(*shapes, dtype=dtype)
    for p in parameters:
        p.grad.fill_(value)
    return parameters, torch.optim.SGD(parameters, lr=1.0)


# --- relative to the gradient -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_noise_is_rho_times_the_gradient_and_decays(dtype):
    (a, b), optimizer = ones((30, 40), (17,), value=0.5, dtype=dtype)
    noise = attach(optimizer, Relative(0.3, gamma=1.0), seed=SEED)
    n = 30 * 40 + 17
    for t in range(3):
        for p in (a, b):
            p.grad.fill_(0.5)
        sigma = 0.3 / math.sqrt(1 + t) / math.sqrt(n) * float(torch.tensor(0.5 * math.sqrt(n), dtype=torch.float32))
        optimizer.step()
        assert noise.sigma == pytest.approx(sigma, rel=1e-6)
        for p, name in ((a, "0.0"), (b, "0.1")):
            expected = noise_of(name, t, noise.sigma, p.shape, dtype)
            assert torch.equal(p.grad, (torch.full_like(p, 0.5).to(expected.dtype) + expected).to(dtype))
    assert norm([noise.replay(x, 2, sigma=noise.sigma) for x in ("0.0", "0.1")]) == pytest.approx(
        0.3 / math.sqrt(3) * 0.5 * math.sqrt(n), rel=0.05
    )


def test_it_follows_the_gradient_whatever_its_size():
    """The very same numbers, scaled: the ratio is what rho says on gradients of any size and networks of any width."""
    ratios = []
    for shape, value in (((100,), 1e-3), ((100_000,), 1e-3), ((100,), 1e3)):
        (p,), optimizer = ones(shape, value=value)
        noise = attach(optimizer, Relative(0.1), seed=SEED)
        ratios.append(noise.diagnostics()[0].ratio)
        optimizer.step()
        assert norm([p.grad - value]) == pytest.approx(0.1 * value * math.sqrt(p.numel()), rel=0.2)
    assert ratios == pytest.approx([0.1] * 3, rel=0.2) and ratios[0] == pytest.approx(ratios[2], rel=1e-6)


def test_each_parameter_group_has_its_own_norm_and_may_have_its_own_rho():
    a, b = flat((400,), (400,))
    a.grad.fill_(1.0), b.grad.fill_(100.0)
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "noise_rho": 0.5}], lr=1.0)
    noise = attach(optimizer, Relative(0.1), seed=SEED)
    told = noise.diagnostics()
    assert [d.sigma for d in told] == pytest.approx([0.1, 50.0], rel=1e-6)
    optimizer.step()
    assert [norm([a.grad - 1]), norm([b.grad - 100])] == pytest.approx([d.noise_norm for d in told], rel=1e-5)


def test_noise_that_ends_as_it_begins_is_said():
    for options, said in (({}, 1), ({"noise_rho": 0.3}, 0)):
        (p,) = flat((5,))
        optimizer = torch.optim.SGD([{"params": [p], **options}], lr=1.0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            attach(optimizer, Relative(0.1, until=0.2), seed=SEED)
        assert len(caught) == said and all(
            "the first update gets noise, and no other" in str(w.message) for w in caught
        )


@pytest.mark.parametrize("value", [1e-60, 1e-30, 1e100])
def test_the_norm_of_a_float64_gradient_has_the_range_of_float64(value):
    (p,), optimizer = ones((400,), value=value, dtype=torch.float64)
    noise = attach(optimizer, Relative(0.1), seed=SEED)
    optimizer.step()
    assert noise.sigma == pytest.approx(0.1 * value, rel=1e-6)
    assert torch.equal(p.grad, value + noise_of("0.0", 0, noise.sigma, p.shape, torch.float64))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_gradient_with_an_element_that_is_no_number_gets_no_relative_noise(value):
    """The others would all become infinite."""
    (p,), optimizer = ones((50,))
    p.grad[7] = value
    before = p.grad.clone()
    noise = attach(optimizer, Relative(0.1), seed=SEED)
    optimizer.step()
    assert torch.equal(p.grad.nan_to_num(nan=5.0), before.nan_to_num(nan=5.0)) and noise.sigma == 0.0


def test_rho_of_zero_and_gradients_of_zero_change_no_bit():
    for schedule, value in ((Relative(0.0), 0.3), (Relative(0.5), 0.0)):
        (p,), optimizer = ones((50,), value=value)
        attach(optimizer, schedule, seed=SEED)
        before = p.grad.clone()
        optimizer.step()
        assert torch.equal(p.grad, before)


def test_relative_to_the_clip_it_is_there_where_the_gradient_is_zero():
    (p,), optimizer = ones((2500,), value=0.0)
    noise = attach(optimizer, Relative(0.1, to="clip", clip=2.0), seed=SEED)
    assert noise.diagnostics()[0].sigma == pytest.approx(0.1 * 2 / 50)
    optimizer.step()
    assert torch.allclose(p.grad, noise_of("0.0", 0, 0.1 * 2 / 50, (2500,)), rtol=1e-6)


def test_the_gradient_is_measured_after_the_clip():
    (p,), optimizer = ones((100,), value=1000.0)
    attach(optimizer, Relative(1.0), seed=SEED)
    nn.utils.clip_grad_norm_([p], 1.0)
    clipped = p.grad.clone()
    optimizer.step()
    assert 0.5 < norm([p.grad - clipped]) < 2


def test_a_loss_scale_changes_nothing():
    grads = []
    for scale in (1.0, 1024.0):
        (p,), _ = ones((1000,), value=0.25 * scale)
        optimizer = torch.optim.SGD([p], lr=1.0, fused=True)
        if scale > 1:
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        noise = attach(optimizer, Relative(0.1), seed=SEED)
        optimizer.step()
        grads.append(p.detach().clone())
        assert noise.sigma == pytest.approx(0.1 * 0.25, rel=1e-6)
    assert torch.equal(*grads)


def test_sparse_and_complex_gradients_count_what_gets_noise():
    table = nn.Embedding(50, 4, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=1.0)
    noise = attach(optimizer, Relative(0.5), seed=SEED)
    table(torch.tensor([3, 3, 7])).sum().backward()
    size = math.sqrt(4 * (2**2 + 1))
    assert noise.diagnostics()[0].sigma == pytest.approx(0.5 * size / math.sqrt(8), rel=1e-6)
    optimizer.step()
    assert table.weight.grad.coalesce().values().shape == (2, 4)
    (p,), optimizer = ones((900,), value=3 + 4j, dtype=torch.complex64)
    noise = attach(optimizer, Relative(0.5), seed=SEED)
    assert noise.diagnostics()[0].sigma == pytest.approx(2.5, rel=1e-6)
    optimizer.step()
    assert norm([p.grad - (3 + 4j)]) == pytest.approx(0.5 * 5 * 30, rel=0.1)


def test_backends_agree_bit_for_bit(monkeypatch):
    from gradnoise.noise.gaussian import api, backends, reference

    results = []
    for slow in (False, True):
        if slow:
            monkeypatch.setattr(api, "backend_of", lambda x: reference)
            assert backends.backend_of is not api.backend_of
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        attach(optimizer, Relative(0.37), seed=SEED)
        train(model, optimizer, 3)
        results.append(values(model))
    assert same(*results)


def test_the_function_without_state_adds_the_same():
    one, other = make_model(), make_model()
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    attach(optimizer, Relative(0.3), seed=SEED, named_parameters=one.named_parameters())
    for model in (one, other):
        closure_for(model, optimizer)() if model is one else closure_for(other, torch.optim.SGD(other.parameters()))()
    optimizer.step()
    add_gradient_noise_(other.named_parameters(), Relative(0.3), t=0, seed=SEED)
    assert same(gradients(one), gradients(other))


def test_resumed_equals_uninterrupted():
    def run(stops):
        model = make_model()
        state = None
        for first, last in itertools.pairwise(stops):
            optimizer = torch.optim.Adam(model.parameters())
            if state is not None:
                optimizer.load_state_dict(state)
            attach(optimizer, Relative(0.5, until=0.3), seed=SEED)
            train(model, optimizer, last - first, first)
            state = copy.deepcopy(optimizer.state_dict())
        return values(model)

    assert same(run([0, 12]), run([0, 5, 12]))


def test_what_cannot_be_told_without_the_gradient():
    (_,), optimizer = ones((5,))
    noise = attach(optimizer, Relative(0.1), seed=SEED)
    assert math.isnan(noise.sigma)
    with pytest.raises(ValueError, match=r"follows from the gradient of update 0, which is gone; pass the sigma"):
        noise.replay("0.0", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": -1}, "rho must be a finite number >= 0, got -1"),
        ({"rho": 0.1, "to": "weights"}, "to must be 'gradient' or 'clip', got 'weights'"),
        ({"rho": 0.1, "clip": 1.0}, "add to='clip' or leave clip out"),
        (
            {"rho": 0.1, "to": "clip"},
            "clip must be a finite number >= 0, got None; give the threshold of your",
        ),
        ({"rho": 0.1, "to": "clip", "clip": 0.0}, "clip must be > 0, got 0"),
        ({"rho": 0.1, "until": 1.5}, r"until must be an integer >= 0.* or a float in \(0, 1\].*, got 1.5"),
        ({"rho": 0.1, "until": True}, "until must be an integer"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        Relative(**arguments)


def test_an_option_that_the_schedule_does_not_have():
    (p,) = flat((5,))
    for schedule, option in ((Relative(0.1), "noise_eta"), (Annealed(0.1), "noise_rho")):
        optimizer = torch.optim.SGD([{"params": [p], option: 0.5}], lr=1.0)
        with pytest.raises(ValueError, match=f"the option '{option}', which replaces a number of an? "):
            attach(optimizer, schedule, seed=SEED)


# --- where noise ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Annealed(0.5, until=2), Fixed(0.5, until=2), Relative(0.5, until=2)])
def test_noise_ends_at_an_update(schedule):
    (p,), optimizer = ones((40,))
    noise = attach(optimizer, schedule, seed=SEED)
    for t in range(4):
        p.grad.fill_(1.0)
        assert noise.diagnostics()[0].ended == (2 if t >= 2 else None)
        optimizer.step()
        assert bool((p.grad != 1).any()) == (t < 2)
    assert noise.step == 4


@pytest.mark.parametrize("schedule", [Annealed(1e-2, gamma=2.0, until=0.019), Relative(0.1, gamma=2.0, until=0.019)])
def test_noise_ends_after_the_first_update_in_which_it_is_under_a_share_of_the_gradient(schedule):
    """sigma_t is 0.1 / (1 + t) and the gradient 1 everywhere: under 1.9 % from t = 5 on, which is told at t = 6."""
    (p,), optimizer = ones((40,))
    noise = attach(optimizer, schedule, seed=SEED)
    for t in range(9):
        p.grad.fill_(1.0)
        assert noise.diagnostics()[0].ended == (6 if t >= 6 else None)
        optimizer.step()
        assert bool((p.grad != 1).any()) == (t < 6), t


def test_an_end_is_for_good_and_in_the_checkpoint():
    (_,), optimizer = ones((40,), value=100.0)
    noise = attach(optimizer, Fixed(1.0, until=0.1), seed=SEED)
    assert optimizer.param_groups[0][ENDED] == -1
    optimizer.step()
    state, own = optimizer.state_dict(), noise.state_dict()
    assert state["param_groups"][0][ENDED] == 1 and own["ended"] == [1]
    (q,), other = ones((40,), value=1e-3)
    fresh = attach(other, Fixed(1.0, until=0.1), seed=SEED, warn=False)
    other.load_state_dict(state)
    other.step()
    assert torch.equal(q.grad, torch.full((40,), 1e-3)) and fresh.diagnostics()[0].ended == 1
    (q,), third = ones((40,), value=1e-3)
    last = attach(third, Fixed(1.0, until=0.1), seed=SEED)
    last.load_state_dict(own)
    third.step()
    assert torch.equal(q.grad, torch.full((40,), 1e-3)) and last.step == 2
    assert not last.replay("0.0", 1).any() and last.replay("0.0", 0).any()


def test_an_overflow_does_not_end_the_noise():
    (p,), _ = ones((40,), value=torch.inf)
    optimizer = torch.optim.SGD([p], lr=1.0, fused=True)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(1.0)
    noise = attach(optimizer, Fixed(1.0, until=0.1), seed=SEED)
    optimizer.step()
    assert noise.step == 0 and noise.state_dict()["ended"] == [-1]


def test_an_end_by_share_needs_a_memory():
    (p,), _ = ones((40,))
    with pytest.raises(ValueError, match="ends at a share of the gradient: use attach"):
        add_gradient_noise_([("p", p)], Annealed(0.1, until=0.1), t=0, seed=0)


def test_schedules_read_as_they_did():
    assert repr(Annealed(0.01)) == "Annealed(eta=0.01, gamma=0.55)"
    assert repr(Fixed(0.1, until=5)) == "Fixed(sigma=0.1, until=5)"
    assert repr(Relative(0.1)) == "Relative(rho=0.1, gamma=0.55, to='gradient', clip=None)"


# --- anticorrelated noise ---------------------------------------------------------------------------------


def test_anti_pgd_takes_away_the_noise_of_the_update_before():
    """The sum of all noise so far is that of the last update."""
    (p,), optimizer = ones((40,), value=0.0, dtype=torch.float64)
    noise = attach(optimizer, Annealed(0.3), seed=SEED, anti_pgd=True)
    total = torch.zeros_like(p)
    for t in range(5):
        p.grad.zero_()
        told = noise.diagnostics()[0]
        optimizer.step()
        total += p.grad
        assert told.noise_norm == pytest.approx(norm([p.grad]))
        assert torch.allclose(noise.replay("0.0", t), p.grad.detach(), atol=1e-12)
        last = noise_of("0.0", t, math.sqrt(Annealed(0.3)(t)), p.shape, torch.float64)
        assert torch.allclose(total, last, atol=1e-12)


def test_anti_pgd_of_relative_noise():
    (p,), optimizer = ones((40,), dtype=torch.float64)
    noise = attach(optimizer, Relative(0.3, gamma=0.0), seed=SEED, anti_pgd=True)
    for t in range(3):
        p.grad.fill_(2.0)
        optimizer.step()
        expected = noise_of("0.0", t, 0.6, p.shape, p.dtype)
        if t:
            expected = expected - noise_of("0.0", t - 1, 0.6, p.shape, p.dtype)
        assert torch.allclose(p.grad - 2.0, expected, rtol=1e-5)
        assert torch.allclose(noise.replay("0.0", t, sigma=noise.sigma), expected, rtol=1e-5)


# --- what is said -----------------------------------------------------------------------------------------


def test_the_message_gives_both_norms_the_rho_and_what_to_do():
    (_,), optimizer = ones((10_000,), value=1e-3)
    attach(optimizer, Annealed(0.01), seed=SEED)
    with pytest.warns(UserWarning) as caught:
        optimizer.step()
    (text,) = [str(w.message) for w in caught]
    for part in ("a norm of 10", "the gradient one of 0.1", "(rho = 100)", "here 10,000", "Relative(0.1)",
                 "an eta that is 1e+06 times smaller", "gradnoise.find", "warn=False"):  # fmt: skip
        assert part in text


@pytest.mark.filterwarnings("error")
def test_noise_that_grows_too_large_later_is_said_later_and_once():
    (p,), optimizer = ones((10_000,), value=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    said = []
    for t in range(40):
        p.grad.fill_(1.0 if t < 10 else 0.01)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer.step()
        said += [t] * len(caught)
    assert said == [16]
