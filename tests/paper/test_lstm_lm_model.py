"""The LSTM language model: its arithmetic against torch and finite differences, dropout, windows, sizes."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from gradnoise.errors import DataError
from gradnoise.paper.lstm_lm import Config, LSTMLanguageModel
from gradnoise.paper.lstm_lm.lookup import lookup
from gradnoise.paper.lstm_lm.recurrence import lstm
from gradnoise.paper.lstm_lm.softmax import softmax_loss
from gradnoise.paper.lstm_lm.windows import Columns, streams
from gradnoise.population import PopulationError

V, H, T, B = 11, 3, 4, 2
P = 5


def model(seed=0, init=0.7, **options) -> LSTMLanguageModel:
    torch.manual_seed(seed)
    return LSTMLanguageModel(V, H, init=init, **options).double()


def window(steps=T, seed=1):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(V, (steps + 1, B), generator=g)
    return tokens[:-1], tokens[1:]


def state(layers=2, seed=2):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(layers, B, H, generator=g, dtype=torch.float64) for _ in range(2)]


def loss_of(network, tokens, targets, h, c):
    features, *_ = network(tokens, h, c)
    return network.loss(features, targets)


class Reference(nn.Module):
    """The same network from torch's own parts, with the weights of another."""

    def __init__(self, network: LSTMLanguageModel) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, H, _weight=network.embedding.weight.detach().clone())
        self.lstm = nn.LSTM(H, H, len(network.layers), bias=True, dtype=torch.float64)
        self.softmax = nn.Linear(H, V, dtype=torch.float64)
        with torch.no_grad():
            for k, layer in enumerate(network.layers):
                for mine, theirs in ((layer.input, "ih"), (layer.recurrent, "hh")):
                    getattr(self.lstm, f"weight_{theirs}_l{k}").copy_(mine.weight)
                    bias = getattr(self.lstm, f"bias_{theirs}_l{k}")
                    bias.zero_() if mine.bias is None else bias.copy_(mine.bias)
            self.softmax.load_state_dict(network.softmax.state_dict())

    def forward(self, tokens, targets, h, c):
        x, (h, c) = self.lstm(self.embedding(tokens), (h, c))
        logits = self.softmax(x).flatten(0, 1)
        return nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum"), h, c


# --- arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("biases", [1, 2])
def test_loss_states_and_gradients_are_those_of_torchs_lstm(layers, biases):
    network, (tokens, targets), (h, c) = model(layers=layers, biases=biases), window(), state(layers)
    reference = Reference(network)
    features, h_mine, c_mine = network(tokens, h, c)
    loss = network.loss(features, targets)
    expected, h_theirs, c_theirs = reference(tokens, targets, h, c)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close((h_mine, c_mine), (h_theirs, c_theirs), rtol=1e-13, atol=1e-15)
    loss.backward()
    expected.backward()
    pairs = [(network.embedding.weight, reference.embedding.weight)]
    pairs += [(getattr(network.softmax, n), getattr(reference.softmax, n)) for n in ("weight", "bias")]
    for k, layer in enumerate(network.layers):
        pairs += [(layer.input.weight, getattr(reference.lstm, f"weight_ih_l{k}"))]
        pairs += [(layer.input.bias, getattr(reference.lstm, f"bias_ih_l{k}"))]
        pairs += [(layer.recurrent.weight, getattr(reference.lstm, f"weight_hh_l{k}"))]
        if biases == 2:
            pairs += [(layer.recurrent.bias, getattr(reference.lstm, f"bias_hh_l{k}"))]
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-15)


def test_gradient_against_finite_differences():
    network, (tokens, targets), (h, c) = model(), window(), state()
    gradients = torch.autograd.grad(loss_of(network, tokens, targets, h, c), list(network.parameters()))
    step = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            flat, found = parameter.view(-1), torch.empty_like(gradient).view(-1)
            for i in range(len(flat)):
                before = flat[i].item()
                flat[i] = before + step
                above = loss_of(network, tokens, targets, h, c)
                flat[i] = before - step
                below = loss_of(network, tokens, targets, h, c)
                flat[i] = before
                found[i] = (above - below) / (2 * step)
            difference = (found - gradient.view(-1)).norm() / gradient.norm()
            assert difference < 1e-6


def test_without_gradient_the_states_are_the_same():
    g = torch.Generator().manual_seed(4)
    shapes = ((P, T, B, 4 * H), (P, 4 * H, H), (P, B, H), (P, B, H))
    z, w, h, c = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    kept = vmap(lstm)(z, w, h, c)
    with torch.no_grad():
        torch.testing.assert_close(vmap(lstm)(z, w, h, c), kept, rtol=1e-13, atol=1e-15)


def test_gradients_of_the_states_too():
    """They are not needed in training, where a window's states come in without gradient."""
    w = model().layers[0].recurrent.weight.detach().requires_grad_()
    g = torch.Generator().manual_seed(3)
    z = torch.randn(T, B, 4 * H, generator=g, dtype=torch.float64, requires_grad=True)
    h, c = (x[0].requires_grad_() for x in state())
    assert torch.autograd.gradcheck(lstm, (z, w, h, c))


def test_softmax_loss_and_its_gradient():
    g = torch.Generator().manual_seed(0)
    x, w = torch.randn(6, H, generator=g, dtype=torch.float64), torch.randn(V, H, generator=g, dtype=torch.float64)
    b, y = torch.randn(V, generator=g, dtype=torch.float64), torch.randint(V, (6,), generator=g)
    inputs = [t.requires_grad_() for t in (x, w, b)]
    assert torch.autograd.gradcheck(lambda *p: 0.3 * softmax_loss(*p, y), inputs)
    expected = nn.functional.cross_entropy(x @ w.T + b, y, reduction="sum")
    torch.testing.assert_close(softmax_loss(x, w, b, y), expected, rtol=1e-13, atol=0)


def test_a_hopeless_word_has_a_finite_loss():
    """Its probability is 0 in floating point; the logarithm must not be taken of that."""
    w = torch.tensor([[0.0], [300.0]], requires_grad=True)
    loss = softmax_loss(torch.ones(1, 1), w, torch.zeros(2), torch.tensor([0]))
    assert loss.item() == 300
    loss.backward()
    torch.testing.assert_close(w.grad, torch.tensor([[-1.0], [1.0]]))


def test_lookup_adds_up_words_that_occur_twice():
    table = torch.arange(8.0).view(4, 2).requires_grad_()
    rows = torch.tensor([3, 0, 3])
    found = lookup(table, rows)
    assert torch.equal(found, table[rows])
    found.backward(torch.tensor([[1.0, 2.0], [5.0, 6.0], [10.0, 20.0]]))
    assert table.grad.tolist() == [[5, 6], [0, 0], [0, 0], [11, 22]]


@pytest.mark.parametrize("shared", [True, False])
def test_many_replicas_at_once_are_each_alone(shared):
    networks = [model(seed=p) for p in range(P)]
    batches = [window(seed=1 if shared else p) for p in range(P)]
    states = [state(seed=p) for p in range(P)]
    stacked = {n: torch.stack([dict(m.named_parameters())[n] for m in networks]).detach().requires_grad_()
               for n, _ in networks[0].named_parameters()}  # fmt: skip

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = networks[0]

        def forward(self, *inputs):
            return loss_of(self.inner, *inputs)

    def one(parameters, batch, h, c):
        return functional_call(Loss(), {f"inner.{n}": x for n, x in parameters.items()}, (*batch, h, c))

    batch = batches[0] if shared else tuple(map(torch.stack, zip(*batches, strict=True)))
    h, c = map(torch.stack, zip(*states, strict=True))
    losses = vmap(one, in_dims=(0, None if shared else 0, 0, 0))(stacked, batch, h, c)
    losses.sum().backward()
    for p, network in enumerate(networks):
        alone = loss_of(network, *batches[p], *states[p])
        torch.testing.assert_close(losses[p], alone, rtol=1e-13, atol=0)
        alone.backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(stacked[name].grad[p], parameter.grad, rtol=1e-12, atol=1e-15)


# --- windows and states ---------------------------------------------------------------------------


def test_two_windows_with_the_state_carried_are_one_long_window():
    network, (tokens, targets), (h, c) = model(), window(2 * T), state()
    whole = loss_of(network, tokens, targets, h, c)
    features, h1, c1 = network(tokens[:T], h, c)
    first = network.loss(features, targets[:T])
    second = loss_of(network, tokens[T:], targets[T:], h1.detach(), c1.detach())
    torch.testing.assert_close(first + second, whole, rtol=1e-13, atol=0)
    long = torch.autograd.grad(whole, network.layers[0].recurrent.weight)[0]
    cut = sum(torch.autograd.grad(x, network.layers[0].recurrent.weight)[0] for x in (first, second))
    assert (long - cut).norm() > 1e-3 * long.norm()  # the gradient does not go through the cut


def test_columns_go_on_where_they_were():
    columns = Columns(torch.arange(47), batch_size=4, unroll=3)  # 4 columns of 11, the last 3 words are dropped
    assert columns.windows == 3
    tokens, targets = columns[0]
    assert tokens.tolist() == [[0, 11, 22, 33], [1, 12, 23, 34], [2, 13, 24, 35]]
    assert torch.equal(targets, tokens + 1)
    for i in (1, 2):
        assert torch.equal(columns[i].tokens[0], columns[i - 1].targets[-1])


def test_windows_of_the_treebank_by_its_lengths():
    text = torch.zeros(929_589, dtype=torch.int64)
    assert Columns(text, 20, 20).windows == 2323
    assert Columns(text, 20, 35).windows == 1327


@pytest.mark.parametrize(("length", "fits"), [(8, True), (7, False)])
def test_a_text_that_is_too_short(length, fits):
    text = torch.zeros(length, dtype=torch.int64)
    if fits:
        assert Columns(text, 2, 3).windows == 1
    else:
        with pytest.raises(DataError, match=r"7 words is too short for 2 columns .* 8 are needed"):
            Columns(text, 2, 3)


@pytest.mark.parametrize("unroll", [1, 4, 5, 100])
def test_whole_texts_side_by_side(unroll):
    texts = [torch.arange(23), torch.arange(100, 117)]
    windows = streams(texts, unroll)
    for k, text in enumerate(texts):
        mine = [w for w in windows if w.tokens.shape[1] > k]
        assert torch.equal(torch.cat([w.tokens[:, k] for w in mine]), text[:-1])
        assert torch.equal(torch.cat([w.targets[:, k] for w in mine]), text[1:])
    assert all(len(w.tokens) <= unroll for w in windows)


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_stands_on_vertical_paths_only():
    """At T = 1 and with embeddings of zero, all that reaches the first layer comes from h_0, which is never masked."""
    network = model(dropout=0.5)
    with torch.no_grad():
        network.embedding.weight.zero_()
    (tokens, _), (h, c) = window(1), state()
    seen = []
    for seed in range(20):
        torch.manual_seed(seed)
        _, hidden, cells = network.train()(tokens, h, c)
        seen.append((hidden, cells))
    for hidden, cells in seen:
        assert torch.equal(hidden[0], seen[0][0][0]) and torch.equal(cells[0], seen[0][1][0])
    assert len({tuple(hidden[1].flatten().tolist()) for hidden, _ in seen}) > 10  # the way up to layer 2 is masked
    _, still, _ = network.eval()(tokens, h, c)
    assert torch.equal(still[0], seen[0][0][0])


def test_where_dropout_stands():
    network = model(dropout=0.5)
    places = []
    for k, drop in enumerate(network.drops):
        drop.register_forward_hook(lambda module, inputs, output, k=k: places.append((k, tuple(inputs[0].shape))))
    (tokens, _), (h, c) = window(), state()
    network(tokens, h, c)
    assert places == [(0, (T, B, H)), (1, (T, B, H)), (2, (T, B, H))]  # once each, on all time steps together


def test_dropout_is_off_in_evaluation():
    (tokens, targets), (h, c) = window(), state()
    a, b = model(dropout=0.5).eval(), model().eval()
    b.load_state_dict(a.state_dict())
    assert torch.equal(loss_of(a, tokens, targets, h, c), loss_of(b, tokens, targets, h, c))


# --- sizes and settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "biases", "parameters"),
    [(200, 1, 4_651_600), (200, 2, 4_653_200), (650, 2, 19_780_400), (1500, 2, 66_034_000)],
)
def test_number_of_parameters(units, biases, parameters):
    with torch.device("meta"):
        network = LSTMLanguageModel(10_000, units, biases=biases)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_all_parameters_are_drawn_alike():
    torch.manual_seed(0)
    network = LSTMLanguageModel(500, 40, init=0.1)
    for parameter in network.parameters():
        assert parameter.abs().max() <= 0.1
        assert parameter.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "outside"),
        ({"dropout": -0.1}, "outside"),
        ({"init": 0.0}, "init = 0"),
        ({"biases": 3}, "1 or 2"),
        ({"layers": 0}, "at least 1"),
    ],
)
def test_models_that_are_refused(options, message):
    with pytest.raises(PopulationError, match=message):
        LSTMLanguageModel(V, H, **options)


@pytest.mark.parametrize("options", [{"unroll": 0}, {"batch_size": 0}])
def test_settings_that_are_refused(options):
    with pytest.raises(PopulationError, match="at least 1 is needed"):
        Config(**options)
