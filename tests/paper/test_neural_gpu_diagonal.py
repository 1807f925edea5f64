"""The diagonal Neural GPU: what moves, its gradient against definitions, and the operator for all lengths at once."""

import pytest
import torch
from torch import nn

from gradnoise.paper.neural_gpu import DiagonalNeuralGPU
from gradnoise.paper.neural_gpu.diagonal import operator, steps
from gradnoise.paper.neural_gpu.diagonal.course import filled, laid
from gradnoise.paper.neural_gpu.diagonal.experiment import defined
from gradnoise.paper.neural_gpu.diagonal.model import hard_sigmoid, shifted
from gradnoise.paper.neural_gpu.diagonal.steps import Strip
from gradnoise.paper.neural_gpu.tasks import ONE, PAD, SYMBOLS, TASKS, ZERO
from gradnoise.population import PopulationError

B, LENGTHS = 4, (5, 9, 3)
KEY, RATE = torch.tensor(123_456_789), torch.tensor(0.3, dtype=torch.float64)


def network(maps=5, seed=0, init=2.0) -> DiagonalNeuralGPU:
    torch.manual_seed(seed)
    return DiagonalNeuralGPU(maps, init).double()


def made(lengths=LENGTHS, shorter=0, rate=RATE, seed=0) -> dict[str, torch.Tensor]:
    """A strip of problems, the first sample of every bin shorter by `shorter`."""
    strip = Strip(lengths)
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (len(lengths) * B, 1, strip.steps), generator=generator)
    length = torch.tensor(strip.lengths).repeat_interleave(B)
    length[::B] = (length[::B] - shorter).clamp(min=3)
    problems = TASKS["bmul"].make(length, bits)
    shape = (1, len(lengths), B, strip.steps)
    tokens, targets = (x.view(shape) for x in (problems.tokens, filled(problems.targets, problems.length)))
    return {"tokens": laid(tokens, strip)[0], "targets": laid(targets, strip)[0], "key": KEY, "rate": rate}


def run(net, one, lengths=LENGTHS, weight=0.7):
    return loss(net.flat(), one, torch.tensor(weight, dtype=torch.float64), lengths, net.maps)


def loss(flat, one, weight, lengths, maps):
    return operator.loss(flat, one["tokens"], one["targets"], one["key"], one["rate"], weight, lengths, maps)


# --- sizes ----------------------------------------------------------------------------------------------


def test_number_of_parameters_and_shapes():
    net = DiagonalNeuralGPU(48)
    convolutions = 3 * (3 * 48 * 48 + 48)
    assert sum(x.numel() for x in net.parameters()) == convolutions + (SYMBOLS + 1) * 48 + 3 * (48 + 1)
    tokens = torch.ones(2, 7, dtype=torch.int64)
    assert net(tokens).shape == (2, 7, 3) and len(list(net.states(tokens, 7))) == 8


def test_initial_weights():
    net = DiagonalNeuralGPU(48, init=1.5)
    bound = 1.5 * (6 / (3 * 96)) ** 0.5
    for weight in (net.gates, net.candidate):
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert net.gate_bias.unique(return_counts=True)[0].tolist() == pytest.approx([0.5, 0.7])
    with pytest.raises(PopulationError, match="at least 3"):
        DiagonalNeuralGPU(2)


def test_weights_lie_as_the_operator_reads_them():
    net = network()
    views = steps.Weights.of(net.flat(), net.maps)._asdict()
    assert all(torch.equal(x, dict(net.named_parameters())[name]) for name, x in views.items())


# --- what a network can do ------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", [3, 5, 6])
def test_a_third_of_the_maps_moves_each_way(maps):
    k = maps // 3
    s = torch.arange(1.0, 1 + maps * 4).view(1, maps, 4)
    found = shifted(s)
    assert torch.equal(found[:, : maps - 2 * k], s[:, : maps - 2 * k])
    left, right = slice(maps - 2 * k, maps - k), slice(maps - k, maps)
    assert torch.equal(found[:, left, 1:], s[:, left, :-1]) and not found[:, left, 0].any()
    assert torch.equal(found[:, right, :-1], s[:, right, 1:]) and not found[:, right, -1].any()
    strip = s.permute(2, 0, 1).contiguous()
    assert torch.equal(steps.shift(strip, torch.empty_like(strip)), found.permute(2, 0, 1))


@torch.no_grad()
def test_open_update_gates_move_what_was_written():
    """Maps that stay hold it for all steps; those that move carry it one position a step, and over the end."""
    net = network(maps=3)
    net.gates.zero_()
    net.gate_bias.fill_(50)
    tokens = torch.tensor([[ZERO, ONE, ZERO, ZERO, ONE]])
    first, *others = net.states(tokens, 5)
    for t, state in enumerate(others, 1):
        assert torch.equal(state[0, 0], first[0, 0])
        assert torch.equal(state[0, 1, t:], first[0, 1, : 5 - t]) and not state[0, 1, :t].any()
        assert torch.equal(state[0, 2, : 5 - t], first[0, 2, t:]) and not state[0, 2, 5 - t :].any()
    torch.testing.assert_close(operator.logits(net.flat(), tokens, 3), net.read(others[-1]), rtol=1e-12, atol=1e-14)


@torch.no_grad()
def test_hand_made_weights_move_a_mark():
    """Update gates shut, reset gates open, a candidate that copies the cell on the left: one position a step."""
    net = network(maps=3)
    net.gates.zero_()
    net.gate_bias.copy_(torch.tensor([50.0] * 3 + [-50.0] * 3))
    net.candidate.zero_()
    net.candidate[0, 0, 0] = 1
    net.candidate_bias.zero_()
    net.input.zero_()
    net.input_bias.zero_()
    net.input[ONE, 0] = 7  # cut to 1
    tokens = torch.full((1, 9), ZERO)
    tokens[0, 2] = ONE
    for t, state in enumerate(net.states(tokens, 9)):
        assert state[0, 0].nonzero().flatten().tolist() == ([2 + t] if 2 + t < 9 else [])
        assert state.max() <= 1


@torch.no_grad()
def test_a_step_sees_two_positions_far():
    net = network(maps=6, init=1.0)
    tokens = torch.randint(1, SYMBOLS, (1, 21), generator=torch.Generator().manual_seed(3))
    other = tokens.clone()
    other[0, 10] = 1 + tokens[0, 10] % 3
    for t, (a, b) in enumerate(zip(net.states(tokens, 4), net.states(other, 4), strict=True)):
        changed = (a != b).any(1)[0].nonzero().flatten().tolist()
        assert min(changed) == 10 - 2 * t and max(changed) == 10 + 2 * t


@torch.no_grad()
def test_a_step_is_that_of_torchs_convolutions():
    net = network()
    gates, candidate = nn.Conv1d(5, 10, 3, padding=1).double(), nn.Conv1d(5, 5, 3, padding=1).double()
    for mine, weight, bias in ((gates, net.gates, net.gate_bias), (candidate, net.candidate, net.candidate_bias)):
        mine.load_state_dict({"weight": weight, "bias": bias})
    s, after = net.states(torch.tensor([[1, 2, 3, 2, 1]]), 1)
    r, u = hard_sigmoid(gates(s)).split(5, 1)
    expected = u * shifted(s) + (1 - u) * candidate(r * s).clamp(-1, 1)
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-14)


# --- definitions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shorter", [0, 2])
@pytest.mark.parametrize(("rate", "weight"), [(0.3, 0.7), (0.0, 0.0), (0.0, 0.7), (0.5, 0.0)])
def test_the_operator_is_the_definition(shorter, rate, weight):
    net = network()
    one = made(shorter=shorter, rate=torch.tensor(rate, dtype=torch.float64))
    found = run(net, one, weight=weight)
    expected = defined(net, one, torch.tensor(weight, dtype=torch.float64), LENGTHS)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    gradients = (torch.autograd.grad(x[0], list(net.parameters())) for x in (found, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-13)
        assert mine.abs().max() > 0


def test_gradient_against_finite_differences():
    net, one = network(maps=3, seed=4, init=1.0), made((3, 5))
    flat = net.flat().detach().requires_grad_()
    weight = torch.tensor(0.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, one, weight, (3, 5), 3)[0], (flat,), eps=1e-6, atol=1e-7)


def test_bins_do_not_see_one_another():
    """The loss of several lengths is the mean of theirs alone, whatever the order."""
    net, none = network(), torch.zeros((), dtype=torch.float64)
    one = made(rate=none)
    alone = []
    for start, n in Strip(LENGTHS).bins:
        part = {name: one[name][start : start + n + 1] for name in ("tokens", "targets")}
        alone.append(torch.stack(run(net, part | {"key": KEY, "rate": none}, (n,))))
    torch.testing.assert_close(torch.stack(run(net, one)), torch.stack(alone).mean(0), rtol=1e-12, atol=1e-14)
    assert torch.equal(run(net, one)[0], run(net, one, tuple(reversed(LENGTHS)))[0])


@torch.no_grad()
def test_what_stands_behind_a_problem_stays_empty():
    net = network()
    tokens = torch.tensor([[ONE, ZERO, SYMBOLS - 1, ONE, ONE]])
    padded = torch.nn.functional.pad(tokens, (0, 4))
    inside = torch.arange(9)[None] < 5
    for alone, state in zip(net.states(tokens, 9), net.states(padded, 9, inside), strict=True):
        torch.testing.assert_close(state[..., :5], alone, rtol=1e-12, atol=1e-14)
        assert not state[..., 5:].any()


def test_replicas_side_by_side_are_replicas_alone():
    nets, ones = [network(seed=p) for p in range(3)], [made(seed=p, shorter=p) for p in range(3)]
    rates = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)
    weights = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64)
    keys = torch.tensor([5, 6, 7])
    flat = torch.stack([net.flat().detach() for net in nets]).requires_grad_()
    tokens, targets = (torch.stack([one[name] for one in ones]) for name in ("tokens", "targets"))
    several = {"tokens": tokens, "targets": targets, "key": keys, "rate": rates}
    together = torch.vmap(lambda x, one, weight: loss(x, one, weight, LENGTHS, 5))(flat, several, weights)
    (gradients,) = torch.autograd.grad(together[0].sum(), flat)
    for p in range(3):
        w = flat[p].detach().requires_grad_()
        alone = loss(w, {name: x[p] for name, x in several.items()}, weights[p], LENGTHS, 5)
        assert all(torch.equal(x, y[p]) for x, y in zip(alone, together, strict=True))
        assert torch.equal(torch.autograd.grad(alone[0], w)[0], gradients[p])


def test_masks_of_dropout():
    counts = [10, 10, 6]
    masks = operator.masks(KEY, RATE, counts, 40)
    assert sorted(masks.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (masks > 0).double().mean().item() == pytest.approx(0.7, abs=0.03)
    assert torch.equal(operator.masks(KEY, RATE, [12, 12], 40)[12:22], masks[10:20])  # whatever stands beside it
    assert len({tuple(row.tolist()) for row in masks}) == sum(counts)


def test_strips():
    strip = Strip((3, 9, 5))
    assert strip.bins == [(0, 9), (10, 5), (16, 3)] and strip.size == 20
    assert strip.widths == [20] * 3 + [16] * 2 + [10] * 4
    one = made()
    assert (one["targets"][[9, 15, 19]] == PAD).all() and (one["tokens"][[9, 15, 19]] == PAD).all()
    assert (one["targets"][:9] != PAD).all()  # zeros stand behind a product
