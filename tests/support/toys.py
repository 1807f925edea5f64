"""Small experiments and helpers that the tests of the population engine share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.population import Experiment, Population, Replica, Training, derive_seed

FEATURES, BATCH = 4, 6
TRAINING = frozenset(f.name for f in fields(Training))


def replica(seed: int, *, config: Any = None, study_seed: int = 0, **training: Any) -> Replica:
    """Return a replica with some of the engine's settings."""
    return Replica(seed, Training(**training), config, study_seed)


def changed(run: Replica, **settings: Any) -> Replica:
    """Return a replica with other values of its own fields or of its training's."""
    training = {name: value for name, value in settings.items() if name in TRAINING}
    own = {name: value for name, value in settings.items() if name not in TRAINING}
    return replace(run, training=replace(run.training, **training), **own)


def all_with(runs: Sequence[Replica], **settings: Any) -> list[Replica]:
    """Return the same replicas, each with these settings."""
    return [changed(run, **settings) for run in runs]


class Net(nn.Module):
    """A bit of everything that a replica owns: weights, dropout masks, running statistics."""

    def __init__(self, gain: float = 1.0, width: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, width)
        self.drop = nn.Dropout(0.2)
        # no bias: before a BatchNorm its gradient would be rounding errors
        self.second = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 1)
        with torch.no_grad():
            self.first.weight.mul_(gain)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.first(x)))
        return self.last(torch.tanh(self.norm(self.second(h)))).squeeze(-1)


def plain(width: int = 5) -> nn.Module:
    """A model without buffers and dropout."""
    return nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, 1), nn.Flatten(0))


@dataclass(frozen=True)
class Config:
    """Settings of `Regression`: what its models may be built from."""

    gain: float = 1.0
    width: int = 5


@dataclass
class Regression(Experiment):
    """Mean squared error of any model on a smooth function.

    `build` gets the configuration; `poison` maps a trial seed to the update at which its inputs become nan.
    """

    build: Callable[[Config], nn.Module] = lambda config: plain()
    poison: Mapping[int, int] = field(default_factory=dict)
    shape: tuple[int, ...] = (BATCH, FEATURES)
    name: str = "regression"
    Config: ClassVar[type] = Config
    replica_keys: ClassVar[frozenset[str]] = frozenset({"gain"})

    def model(self, config: Config) -> nn.Module:
        return self.build(config)

    def batch(self, seed: int, t: int, config: Config) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(seed, t, "example"))
        x = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        y = torch.sin(x.sum(-1)) + x[..., 0]
        for trial, step in self.poison.items():
            if t == step and seed == Replica(trial).seed_for("batches"):
                x = x * torch.nan
        return x, y

    def loss(self, model: Callable[[Tensor], Tensor], batch: Any, config: Config) -> Tensor:
        x, y = batch
        return ((model(x) - y) ** 2).mean()

    def held_out(self, config: Config) -> Tensor:
        return torch.linspace(-1, 1, math.prod(self.shape), dtype=torch.float64).view(self.shape)

    def evaluate(self, model: Callable[[Tensor], Tensor], held_out: Tensor, config: Config) -> dict[str, Tensor]:
        y = model(held_out)
        return {"mean": y.mean(), "size": y.square().mean()}


def net_experiment(**options: Any) -> Regression:
    return Regression(lambda config: Net(config.gain), **options)


#: Seven runs that differ in everything that may differ; 0 and 1, 2 and 3 are pairs.
MIXED = (
    replica(0, lr=0.05),
    replica(0, lr=0.05, noise=Annealed(0.01)),
    replica(1, lr=0.02, noise=Annealed(0.3, 0.55), clip=0.5),
    replica(1, lr=0.02, clip=0.5),
    replica(2, lr=0.1, noise=Fixed(0.05), dropout=0.5, config=Config(gain=3.0)),
    replica(3, lr=0.01, clip=2.0, dropout=0.0, config=Config(gain=0.1)),
    replica(0, lr=0.03, noise=Annealed(1.0), study_seed=5),
)


def parameters_of(population: Population) -> dict[int, Tensor]:
    """Replica -> its parameters [N], copied."""
    return dict(zip(population.alive, population.modules.theta.clone(), strict=True))


def trajectories(population: Population, steps: int) -> dict[int, Tensor]:
    """Replica -> its parameters after each of the next updates, [T, N]; shorter for those that end."""
    points: dict[int, list[Tensor]] = {i: [] for i in population.alive}
    for _ in range(steps):
        population.step()
        population.settle()
        for i, theta in parameters_of(population).items():
            points[i].append(theta)
    return {i: torch.stack(path) for i, path in points.items() if path}


def assert_same(a: Mapping[int, Tensor], b: Mapping[int, Tensor]) -> None:
    """Bit for bit."""
    assert a.keys() == b.keys()
    for i in a:
        assert torch.equal(a[i], b[i]), f"replica {i} differs by {(a[i] - b[i]).abs().max()}"


def assert_close(a: Mapping[int, Tensor], b: Mapping[int, Tensor], tolerance: float = 1e-12) -> None:
    """Equal but for rounding in float64, relative to the largest parameter."""
    assert a.keys() == b.keys()
    for i in a:
        assert a[i].dtype == torch.float64 and a[i].shape == b[i].shape
        assert (a[i] - b[i]).abs().max() <= tolerance * b[i].abs().max().clamp(min=1), f"replica {i}"


def only(replicas: Sequence[Replica], chosen: Sequence[int]) -> list[Replica]:
    return [replicas[i] for i in chosen]
