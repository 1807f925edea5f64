"""The Neural GPU: its sizes, how far it sees, hand-made weights, and its gradient against definitions."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradnoise.paper.neural_gpu import TASKS, NeuralGPU, operator, steps
from gradnoise.paper.neural_gpu.model import cutoff
from gradnoise.paper.neural_gpu.tasks import ONE, PAD, SYMBOLS, ZERO
from gradnoise.population import PopulationError

B = 5


def network(maps=3, height=2, layers=2, sets=2, seed=0, **options) -> NeuralGPU:
    torch.manual_seed(seed)
    return NeuralGPU(maps, height, layers, sets, **options).double()


def problems(n: int, size: int, name="bmul", seed=0):
    bits = torch.randint(2, (1, B, size), generator=torch.Generator().manual_seed(seed))
    made = TASKS[name].make(torch.tensor([n]), bits)
    return made.tokens[0], made.targets[0]


KEY, RATE = torch.tensor(123_456_789), torch.tensor(0.3, dtype=torch.float64)


def loss(net, tokens, targets, n, rate=RATE, read_dropped=0):
    setting = net.setting._replace(read_dropped=read_dropped)
    return operator.loss(net.flat(), tokens, targets, torch.tensor(n), KEY, rate, setting)


# --- sizes --------------------------------------------------------------------------------------------


def test_number_of_parameters():
    for layers, sets, relaxed in ((1, 1, 15_624), (2, 1, 31_248), (2, 6, 187_488)):
        net = NeuralGPU(layers=layers, sets=sets)
        assert sum(x.numel() for x in net.relaxed()) == relaxed
        assert sum(x.numel() for x in net.parameters()) == relaxed + 3 * 24 + (24 + 1) * 24 + (24 + 1) * SYMBOLS


@pytest.mark.parametrize("n", [3, 41])
def test_shapes(n):
    net = NeuralGPU()
    tokens, _ = problems(n, n)
    assert net(tokens).shape == (B, n, SYMBOLS)
    states = list(net.states(tokens, n))
    assert len(states) == n + 1 and {x.shape for x in states} == {(B, 24, n, 4)}


def test_initial_weights():
    net = NeuralGPU(init=1.5)
    assert net.gates.std().item() == pytest.approx(1.8 * 1.5 / 216**0.5, rel=0.02)
    assert net.candidate.std().item() == pytest.approx(1.8 * 1.5 / 216**0.5, rel=0.02)
    assert (net.gate_bias == 1).all() and not net.candidate_bias.any() and net.embedding.abs().max() <= 1.7
    assert cutoff(torch.tensor(1.0)).item() == pytest.approx(0.777, abs=1e-3)


def test_the_gate_is_cut_off():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    y = cutoff(x)
    torch.testing.assert_close(y, (1.2 * torch.sigmoid(x) - 0.1).clamp(0, 1))
    assert (y[x > 2.4] == 1).all() and (y[x < -2.4] == 0).all() and ((y > 0) & (y < 1))[x.abs() < 2.39].all()


@pytest.mark.parametrize("options", [{"maps": 0}, {"height": 0}, {"layers": 0}, {"sets": 0}, {"kernel": 2}])
def test_sizes_that_are_refused(options):
    with pytest.raises(PopulationError, match="each is at least 1, and the kernel odd"):
        NeuralGPU(**options)


# --- what a network can do ------------------------------------------------------------------------------


@torch.no_grad()
def test_open_gates_hold_the_state_bit_for_bit():
    net = NeuralGPU()
    net.gate_bias[..., net.maps :] = 50
    tokens, _ = problems(41, 41)
    first, *_, last = net.states(tokens, 41)
    assert torch.equal(first, last)
    setting = net.setting
    logits = operator.logits(net.flat(), tokens, setting)
    torch.testing.assert_close(logits, net.read(first), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_hand_made_weights_move_a_mark(layers):
    """Update gates shut, reset gates open, a candidate that copies the cell on the left: one position a layer."""
    net = network(maps=2, height=2, layers=layers, sets=1)
    net.gates.zero_()
    net.gate_bias[..., :2], net.gate_bias[..., 2:] = 50, -50
    net.candidate.zero_()
    net.candidate[..., 0, 0, 0, 1] = 1  # position -1, same row
    net.embedding.zero_()
    net.embedding[ONE - 1, 0] = 50
    net.input.weight.copy_(torch.eye(2))
    net.input.bias.zero_()
    tokens = torch.full((1, 12), ZERO)
    tokens[0, 3] = ONE
    for t, state in enumerate(net.states(tokens, 4)):
        marked = (state[0, 0, :, 0] > 0.3).nonzero().flatten().tolist()
        assert marked == ([3 + t * layers] if 3 + t * layers < 12 else [])


@torch.no_grad()
def test_a_step_sees_four_positions_far():
    """The light cone: two layers reach two positions each, gate and candidate one each."""
    net = network(maps=4, height=3)
    tokens = torch.randint(1, SYMBOLS, (1, 31), generator=torch.Generator().manual_seed(3))
    j = 15
    other = tokens.clone()
    other[0, j] = 1 + tokens[0, j] % 3
    for t, (a, b) in enumerate(zip(net.states(tokens, 3), net.states(other, 3), strict=True)):
        changed = (a != b).any(1).any(-1)[0].nonzero().flatten().tolist()
        assert min(changed) == j - 4 * t and max(changed) == j + 4 * t


@torch.no_grad()
def test_sets_take_turns():
    net = network(sets=3)
    tokens, _ = problems(9, 9)
    same = NeuralGPU(3, 2, 2, 3).double()
    same.load_state_dict(net.state_dict())
    same.gates[:, 2] += 1  # first used at step 2
    for t, (a, b) in enumerate(zip(net.states(tokens, 5), same.states(tokens, 5), strict=True)):
        assert torch.equal(a, b) == (t < 3)


# --- definitions ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_layer_is_that_of_torchs_convolutions():
    net = network(maps=4, height=3, layers=1, sets=1)
    convolve = {}
    for name, weight, bias in (("gates", net.gates, net.gate_bias), ("c", net.candidate, net.candidate_bias)):
        convolve[name] = nn.Conv2d(4, weight.shape[2], 3, padding=1).double()
        convolve[name].weight.copy_(weight[0, 0])
        convolve[name].bias.copy_(bias[0, 0])
    tokens, _ = problems(7, 7)
    s, after = net.states(tokens, 1)
    r, u = cutoff(convolve["gates"](s)).split(4, 1)
    torch.testing.assert_close(after, u * s + (1 - u) * torch.tanh(convolve["c"](r * s)), rtol=1e-12, atol=1e-14)


def by_definition(net, tokens, targets, n, size, read_dropped):
    """Loss and share of wrong sequences in plain torch, every problem padded to `size` positions."""
    masks = operator.masks(KEY, RATE, size + 1, size, B * net.height * net.maps)
    masks = masks.view(size + 1, size, B, net.height, net.maps)
    *_, last = net.states(tokens, size, torch.tensor(n), masks)
    if read_dropped:
        last = last * masks[n].permute(1, 3, 0, 2)
    logits = net.read(last)[:, :n]
    wrong = ((logits.argmax(-1) != targets[:, :n]) & (targets[:, :n] != PAD)).any(-1)
    return cross_entropy(logits.reshape(-1, SYMBOLS), targets[:, :n].reshape(-1)), wrong.double().mean()


@pytest.mark.parametrize("read_dropped", [0, 1])
@pytest.mark.parametrize(("n", "size", "name"), [(7, 7, "bmul"), (5, 11, "badd"), (6, 9, "dup"), (1, 4, "id")])
def test_the_operator_is_the_definition(read_dropped, n, size, name):
    net = network()
    tokens, targets = problems(n, size, name)
    found, wrong = loss(net, tokens, targets, n, read_dropped=read_dropped)
    expected, share = by_definition(net, tokens, targets, n, size, read_dropped)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert wrong == share
    gradients = (torch.autograd.grad(x, list(net.parameters())) for x in (found, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-13)


def test_padding_changes_nothing():
    net = network()
    tokens, targets = problems(7, 15)
    with torch.no_grad():
        *_, alone = net.states(tokens[:, :7], 7)
        *_, padded = net.states(tokens, 15, torch.tensor(7))
    torch.testing.assert_close(padded[:, :, :7], alone, rtol=1e-12, atol=1e-14)
    assert not padded[:, :, 7:].any()
    assert torch.equal(loss(net, tokens, targets, 7)[0], loss(net, tokens[:, :7], targets[:, :7], 7)[0])
    torch.testing.assert_close(net(tokens[:, :7]), net.read(alone), rtol=1e-12, atol=1e-14)


def test_gradient_against_finite_differences():
    net = network(maps=2, height=2, layers=1, sets=2, seed=4)
    tokens, targets = problems(3, 3)
    flat = net.flat().detach().requires_grad_()
    setting = net.setting

    def value(x):
        return operator.loss(x, tokens, targets, torch.tensor(3), KEY, RATE, setting)[0]

    assert torch.autograd.gradcheck(value, (flat,), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("read_dropped", [0, 1])
def test_single_precision_is_near_to_double(read_dropped):
    """At the published size, where a convolution may make more maps than are looked at."""
    net = network(24, 4, sets=6)
    tokens, targets = problems(9, 9)
    expected, _ = by_definition(net, tokens, targets, 9, 9, read_dropped)
    right = torch.cat([x.flatten() for x in torch.autograd.grad(expected, list(net.parameters()))])
    flat, setting = net.flat().detach().float().requires_grad_(), net.setting._replace(read_dropped=read_dropped)
    found, _ = operator.loss(flat, tokens, targets, torch.tensor(9), KEY, RATE.float(), setting)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(found, flat)
    assert (gradient - right).norm() < 1e-4 * right.norm()


@pytest.mark.parametrize("name", ["gates", "gate_bias", "candidate", "input_bias", "output"])
def test_what_is_not_finite_is_told_by_the_loss(name):
    net = network()
    tokens, targets = problems(5, 5)
    flat, s = net.flat().detach(), net.setting
    getattr(steps.Weights.of(flat, s.maps, s.layers, s.sets, s.kernel), name).view(-1)[0] = torch.nan
    found, _ = operator.loss(flat, tokens, targets, torch.tensor(5), KEY, RATE, s)
    assert found.isnan()


def test_replicas_side_by_side_are_replicas_alone():
    """Different lengths, rates and masks; vmap over the operator."""
    nets = [network(seed=p) for p in range(3)]
    lengths, rates = torch.tensor([3, 9, 5]), torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)
    keys = torch.tensor([5, 6, 7])
    made = [problems(n, 11, seed=p) for p, n in enumerate(lengths.tolist())]
    tokens, targets = (torch.stack(x) for x in zip(*made, strict=True))
    flat = torch.stack([net.flat().detach() for net in nets]).requires_grad_()
    setting = nets[0].setting
    together, wrong = torch.vmap(lambda w, *x: operator.loss(w, x[0], x[1], x[2], x[3], x[4], setting))(
        flat, tokens, targets, lengths, keys, rates
    )
    (gradients,) = torch.autograd.grad(together.sum(), flat)
    for p, net in enumerate(nets):
        w = net.flat().detach().requires_grad_()
        alone, share = operator.loss(w, tokens[p], targets[p], lengths[p], keys[p], rates[p], setting)
        assert torch.equal(alone, together[p]) and torch.equal(share, wrong[p])
        assert torch.equal(torch.autograd.grad(alone, w)[0], gradients[p])


# --- dropout and copies ---------------------------------------------------------------------------------


def test_masks_depend_on_neither_how_many_steps_nor_positions_there_are():
    few, many = (operator.masks(KEY, RATE, count, size, 40) for count, size in ((4, 6), (9, 12)))
    assert torch.equal(few, many[:4, :6])
    assert sorted(many.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (many > 0).double().mean().item() == pytest.approx(0.7, abs=0.02)
    rows = many.flatten(0, 1)
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(rows))
    assert not torch.equal(operator.masks(KEY + 1, RATE, 4, 6, 40), few)


def test_dropout_leaves_the_mean_of_what_is_read():
    """Inverted: with gates that hold the state, what comes out is a product of masks with mean 1."""
    net = NeuralGPU(maps=8, height=1, layers=1, sets=1)
    with torch.no_grad():
        net.gate_bias[..., 8:] = 50
    tokens = torch.full((200, 3), ONE)
    masks = operator.masks(KEY, torch.tensor(0.1), 4, 3, 200 * 8).view(4, 3, 200, 1, 8)
    with torch.no_grad():
        first, *_, last = net.states(tokens, 3, masks=masks)
    assert (last.mean(0) / first.mean(0)).mean().item() == pytest.approx(1, abs=0.05)


def test_the_pull_and_its_gradient():
    net = network(sets=3)
    spread = net.spread()
    expected = sum(((x - x.mean(1, keepdim=True)) ** 2).sum() for x in net.relaxed())
    torch.testing.assert_close(spread, expected)
    for gradient, x in zip(torch.autograd.grad(spread, net.relaxed()), net.relaxed(), strict=True):
        torch.testing.assert_close(gradient, 2 * (x - x.mean(1, keepdim=True)).detach(), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        for x in net.relaxed():
            x.copy_(x.mean(1, keepdim=True).expand_as(x))
    assert net.spread() < 1e-25
    assert network(sets=1).spread() == 0


def test_weights_lie_as_the_operator_reads_them():
    net = network(sets=3)
    s = net.setting
    views = steps.Weights.of(net.flat(), s.maps, s.layers, s.sets, s.kernel)._asdict()
    named = dict(net.named_parameters())
    for mine, theirs in (("input", "input.weight"), ("input_bias", "input.bias"), ("output", "output.weight"),
                         ("output_bias", "output.bias")):  # fmt: skip
        named[mine] = named[theirs]
    assert all(torch.equal(x, named[name]) for name, x in views.items())
