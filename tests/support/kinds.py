"""Ten kinds of model as people write them, each so small that it trains in a blink."""

import math
from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from gradnoise.population import Experiment, Goal, Minibatches

GENERATOR = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


class Kind(Experiment):
    """What the ten share: examples in memory, and the mean of the loss on some of them as a metric."""

    data_set: tuple[torch.Tensor, ...]
    size = 8

    def batch(self, seed, t, config):
        return Minibatches(self.data_set, self.size)(seed, t)

    def held_out(self, config):
        return tuple(x[:16] for x in self.data_set)

    def evaluate(self, model, held_out, config):
        return {"error": self.loss(model, held_out, config)}

    def diverged_metrics(self):
        return {"error": 1e3}


class Residual(Kind):
    """A residual network with BatchNorm, on pictures that are flipped at random."""

    name = "residual"
    data_set = (numbers(40, 1, 6, 6), torch.arange(40) % 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norms, self.last = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2)), nn.Linear(4, 3)

        def forward(self, x):
            x = torch.tanh(self.norms[0](self.first(x)))
            return self.last((x + torch.tanh(self.norms[1](self.inner(x)))).mean((2, 3)))

    def model(self, config):
        return self.Net()

    def loss(self, model, batch, config):
        x, y = batch
        if model.training:
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(-1))
        return F.cross_entropy(model(x), y)


class Gpt(Kind):
    """A transformer that predicts the next letter, with dropout in its attention and tied weights."""

    name = "gpt"
    data_set = (torch.randint(0, 7, (40, 6), generator=GENERATOR),)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.letters, self.places = nn.Embedding(7, 8), nn.Parameter(torch.randn(5, 8) / 3)
            self.qkv, self.out, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, x):
            h = self.letters(x) + self.places
            q, k, v = self.qkv(self.norm(h)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            p = 0.2 if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
            return (h + self.out(mixed.transpose(1, 2).flatten(2))) @ self.letters.weight.T

    def model(self, config):
        return self.Net()

    def loss(self, model, batch, config):
        (words,) = batch
        return F.cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())


class Recurrent(Kind):
    """An LSTM with dropout between its layers, and a GRU behind it."""

    name = "recurrent"
    data_set = (numbers(40, 5, 3), numbers(40))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.3, batch_first=True)
            self.gru, self.last = nn.GRU(4, 4, batch_first=True), nn.Linear(4, 1)

        def forward(self, x):
            return self.last(self.gru(self.lstm(x)[0])[0][:, -1]).squeeze(-1)

    def model(self, config):
        return self.Net()

    def loss(self, model, batch, config):
        x, y = batch
        return F.mse_loss(model(x), y)


class Vae(Kind):
    """A variational autoencoder; its loss warms nothing up and draws with `randn_like`."""

    name = "vae"
    data_set = (numbers(40, 6),)

    def model(self, config):
        return nn.ModuleDict({"encoder": nn.Linear(6, 4), "decoder": nn.Linear(2, 6)})

    def loss(self, model, batch, config):
        (x,) = batch
        mean, log_var = model["encoder"](x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(-1)
        return (((model["decoder"](z) - x) ** 2).sum(-1) + divergence).mean()


class Diffusion(Kind):
    """A denoiser at random levels of noise."""

    name = "diffusion"
    data_set = (numbers(40, 3),)

    def model(self, config):
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    def loss(self, model, batch, config):
        (x,) = batch
        level = torch.randint(1, 11, (len(x), 1)).to(x.dtype) / 10
        noise = torch.randn_like(x)
        seen = (1 - level).sqrt() * x + level.sqrt() * noise
        return F.mse_loss(model(torch.cat([seen, level], 1)), noise)


class Graph(Kind):
    """Two rounds of messages over the edges of one graph; minibatches are nodes whose label is known."""

    name = "graph"
    size = 6
    nodes, edges = numbers(20, 4), torch.randint(0, 20, (2, 50), generator=GENERATOR)
    data_set = (torch.arange(20), torch.arange(20) % 2)

    class Net(nn.Module):
        def __init__(self, nodes, edges) -> None:
            super().__init__()
            self.register_buffer("nodes", nodes)
            self.register_buffer("edges", edges)
            self.layers, self.last = nn.ModuleList(nn.Linear(4, 4) for _ in range(2)), nn.Linear(4, 2)

        def forward(self, chosen):
            h, (source, target) = self.nodes, self.edges
            for layer in self.layers:
                h = torch.tanh(torch.zeros_like(h).index_add(0, target, layer(h)[source]) + h)
            return self.last(h)[chosen]

    def model(self, config):
        return self.Net(self.nodes, self.edges)

    def loss(self, model, batch, config):
        nodes, labels = batch
        return F.cross_entropy(model(nodes), labels)


class LowEnough(Goal):
    """Stop a run whose error on held-out data has become small."""

    def reached(self, metrics):
        return metrics["error"] < 1.0


class EarlyStopping(Kind):
    """A regression that ends when its held-out error is low."""

    name = "early-stopping"
    data_set = (numbers(40, 4), numbers(40))
    goal = LowEnough()

    def model(self, config):
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))

    def loss(self, model, batch, config):
        x, y = batch
        return F.mse_loss(model(x), y)


class Gan(Kind):
    """Generator and discriminator, updated together: each loss sees the other network without its gradient."""

    name = "gan"
    data_set = (numbers(40, 2) + 2,)

    def model(self, config):
        return nn.ModuleDict({"g": nn.Linear(3, 2), "d": nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))})

    def loss(self, model, batch, config):
        (real,) = batch
        fake, d = model["g"](torch.randn(len(real), 3).to(real.dtype)), model["d"]
        of_d = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        fixed = {name: p.detach() for name, p in d.named_parameters()}
        return of_d + F.softplus(-functional_call(d, fixed, (fake,))).mean()

    def evaluate(self, model, held_out, config):
        fake = model["g"](torch.randn(64, 3).to(held_out[0].dtype))
        return {"error": (fake.mean(0) - held_out[0].mean(0)).square().sum()}


class Reinforce(Kind):
    """A policy gradient: actions are sampled, rewards weight their log-probabilities."""

    name = "reinforce"
    data_set = (numbers(40, 3),)

    def model(self, config):
        return nn.Linear(3, 4)

    def loss(self, model, batch, config):
        (states,) = batch
        policy = torch.distributions.Categorical(logits=model(states), validate_args=False)
        actions = policy.sample()
        rewards = (actions == (states[:, 0] > 0).long()).to(states.dtype)
        return -(policy.log_prob(actions) * (rewards - 0.25)).mean()

    def evaluate(self, model, held_out, config):
        (states,) = held_out
        return {"error": (model(states).argmax(-1) != (states[:, 0] > 0).long()).double().mean()}


class Halting(Kind):
    """A network that thinks until its state has settled: how often is decided by the data."""

    name = "halting"
    data_set = (numbers(40, 3), numbers(40))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.last = nn.Linear(3, 3), nn.Linear(3, 1)

        def forward(self, x):
            h, rounds = torch.zeros_like(x), 0
            while rounds < 5:
                after = torch.tanh(self.step(h) + x)
                settled = bool((after - h).abs().max() < 0.4)
                h, rounds = after, rounds + 1
                if settled:
                    break
            return self.last(h).squeeze(-1)

    def model(self, config):
        return self.Net()

    def loss(self, model, batch, config):
        x, y = batch
        return F.mse_loss(model(x), y)


class Tabular(Kind):
    """Columns of numbers and of categories; the metric is scikit-learn's, a plain number."""

    name = "tabular"
    data_set = (numbers(40, 3), torch.randint(0, 5, (40, 2), generator=GENERATOR), (torch.arange(40) % 2).double())

    @dataclass(frozen=True)
    class Config:
        width: int = 6

    class Net(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.columns = nn.ModuleList(nn.Embedding(5, 2) for _ in range(2))
            self.body = nn.Sequential(nn.Linear(7, width), nn.ReLU(), nn.Linear(width, 1))

        def forward(self, x, categories):
            known = [column(categories[:, i]) for i, column in enumerate(self.columns)]
            return self.body(torch.cat([x, *known], 1)).squeeze(-1)

    def model(self, config):
        return self.Net(config.width)

    def loss(self, model, batch, config):
        x, categories, y = batch
        return F.binary_cross_entropy_with_logits(model(x, categories), y)

    def evaluate(self, model, held_out, config):
        x, categories, y = held_out
        return {"error": 1 - roc_auc_score(y.numpy(), model(x, categories).numpy())}


class Physics(Kind):
    """A network that solves u' = -u with u(0) = 1: its loss has the derivative by the input."""

    name = "physics"
    data_set = (torch.linspace(0, 1, 40, dtype=torch.float64)[:, None],)

    def model(self, config):
        return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, model, batch, config):
        (x,) = batch
        u, slope = model(x), vmap(grad(lambda at: model(at[None]).sum()))(x)
        return ((slope + u) ** 2).mean() + (model(torch.zeros_like(x[:1])) - 1).square().sum()

    def evaluate(self, model, held_out, config):
        (x,) = held_out
        return {"error": (model(x) - torch.exp(-x)).abs().mean() / math.e}


#: How the loss runs: "vmap", or part of the reason for a loop.
KINDS = {
    Residual: "vmap",
    Gpt: "vmap",
    Recurrent: "aten::lstm",
    Vae: "vmap",
    Diffusion: "vmap",
    Graph: "vmap",
    EarlyStopping: "vmap",
    Gan: "vmap",
    Reinforce: "multinomial draws random numbers",
    Halting: "data-dependent",
    Tabular: "vmap",
    Physics: "vmap",
}
