"""Ordinary modules as rows of a population: what vmap runs, what a loop runs and why, and what is refused."""

import copy
from collections.abc import Callable

import pytest
import torch
from support.toys import BATCH, FEATURES, Config, Regression, assert_close, plain, replica, trajectories
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gradnoise.population import Population, PopulationError, Replica
from gradnoise.population.randomness import seeded
from gradnoise.population.stacked import StackedModules

RUNS = (replica(0, lr=0.05), replica(1, lr=0.1), replica(2, lr=0.02))
SEQUENCE = (BATCH, 3, FEATURES)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module] = nn.LSTM, **options: float) -> None:
        super().__init__()
        self.cell = kind(FEATURES, 3, batch_first=True, **options)
        self.out = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x)[0]).squeeze(-1)


class Written(nn.Module):
    """A recurrence in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.out = nn.Linear(FEATURES, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = x.new_zeros(len(x), 3), []
        for step in self.inner(x).unbind(1):
            h = torch.tanh(step + self.outer(h))
            outputs.append(self.out(h).squeeze(-1))
        return torch.stack(outputs, 1)


class Branch(nn.Module):
    """Which layers it passes depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.leaf = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.trunk(x)
        return (self.leaf(y) if y[0, 0].item() > 0 else y).sum(-1)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(torch.tanh(self.encode(x))).sum(-1)


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Linear(FEATURES, FEATURES).requires_grad_(False)
        self.out = nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fixed(x))).squeeze(-1)


class Counter(nn.Module):
    """Keeps a running mean by assignment and a count in place; ordinary code does either."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(FEATURES, 1)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            self.count += 1
        return self.scale * self.out(x - self.mean).squeeze(-1)


def batch_norm(**options: float | None) -> nn.Module:
    norm = nn.BatchNorm1d(5, **options)
    return nn.Sequential(nn.Linear(FEATURES, 5, bias=False), norm, nn.Linear(5, 1), nn.Flatten(0))


def convolution() -> nn.Module:
    filters = nn.Sequential(nn.Unflatten(1, (1, FEATURES)), nn.Conv1d(1, 2, 3, padding=1), nn.ReLU())
    return nn.Sequential(filters, nn.Flatten(), nn.Linear(2 * FEATURES, 1), nn.Flatten(0))


def spectral() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(FEATURES, 1)), nn.Flatten(0))


class Graph(nn.Module):
    """Multiplies by a sparse matrix that is neither parameter nor buffer."""

    def __init__(self, layout: torch.layout) -> None:
        super().__init__()
        self.out = nn.Linear(FEATURES, 1)
        self.neighbours = torch.eye(FEATURES, dtype=torch.float64).roll(1, 0).to_sparse(layout=layout)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.sparse.mm(self.neighbours, x.T).T).squeeze(-1)


VMAPPED = {
    "linear": (plain, (BATCH, FEATURES)),
    "convolution": (convolution, (BATCH, FEATURES)),
    "tied": (Tied, (BATCH, FEATURES)),
    "frozen": (Frozen, (BATCH, FEATURES)),
    "buffers": (Counter, (BATCH, FEATURES)),
    "batch norm": (batch_norm, (BATCH, FEATURES)),
    "recurrence": (Written, SEQUENCE),
}
LOOPED = {
    "lstm": (Recurrent, SEQUENCE),
    "gru": (lambda: Recurrent(nn.GRU), SEQUENCE),
    "branch": (Branch, (BATCH, FEATURES)),
    "batch norm, cumulative": (lambda: batch_norm(momentum=None), (BATCH, FEATURES)),
    "spectral norm": (spectral, (BATCH, FEATURES)),
}


def population(build: Callable[[], nn.Module], shape=(BATCH, FEATURES), runs=RUNS, **options) -> Population:
    options = {"trace": False, "dtype": torch.float64} | options
    return Population(Regression(lambda config: build(), shape=shape), runs, **options)


def train_alone(run: Replica, experiment: Regression, steps: int) -> nn.Module:
    """The same run as anybody would write it."""
    config = Config()
    with seeded(run.seed_for("init")):
        model = experiment.model(config).double()
    lr = run.training.rate(0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    for t in range(steps):
        optimizer.zero_grad()
        experiment.loss(model, experiment.batch(run.seed_for("batches"), t, config), config).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(("build", "shape"), [*VMAPPED.values(), *LOOPED.values()], ids=[*VMAPPED, *LOOPED])
def test_any_model_trains_as_it_does_alone(build, shape):
    engine = population(build, shape)
    for _ in range(12):
        engine.step()
    metrics = engine.evaluate()
    experiment, config = engine.experiment, Config()
    for p, run in enumerate(RUNS):
        model = train_alone(run, experiment, 12)
        saved = model.state_dict()
        for name, value in engine.modules.named_rows(p):
            assert value.dtype == saved[name].dtype
            assert torch.allclose(value, saved[name], rtol=1e-12, atol=1e-12), name
        with torch.no_grad():
            for name, value in experiment.evaluate(model.eval(), experiment.held_out(config), config).items():
                assert metrics[name][p].item() == pytest.approx(value.item(), rel=1e-10)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore::gradnoise.population.fallbacks.SlowOperation")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_a_sparse_constant_trains_recorded_or_not(layout):
    recorded, interpreted = (population(lambda: Graph(layout), trace=trace) for trace in (True, False))
    assert_close(trajectories(recorded, 3), trajectories(interpreted, 3))
    reason = recorded.modules.loop_reasons.get("loss", "")
    assert ("sparse tensor has no strides" in reason) == (layout != torch.sparse_coo)


@pytest.mark.parametrize("name", VMAPPED)
def test_what_vmap_runs(name):
    build, shape = VMAPPED[name]
    engine = population(build, shape)
    engine.step()
    engine.evaluate()
    assert engine.modules.loop_reasons == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lstm", "aten::lstm"),
        ("gru", "aten::gru"),
        ("branch", ".item()"),
        ("batch norm, cumulative", ".item()"),
        ("spectral norm", "aten::div.out"),
    ],
)
def test_what_a_loop_runs_and_why(name, reason):
    build, shape = LOOPED[name]
    engine = population(build, shape, trace=True)
    engine.step()
    assert engine.modules.loop_reasons.keys() == {"loss"} and reason in engine.modules.loop_reasons["loss"]
    engine.evaluate()
    assert ("evaluate" in engine.modules.loop_reasons) == (name in ("lstm", "gru", "branch"))


def test_alone_and_together_take_the_same_branches():
    # A replica alone may leave a layer unused, which is no mistake where the path depends on the data.
    together = trajectories(population(Branch), 12)
    alone = {i: trajectories(population(Branch, runs=[run]), 12)[0] for i, run in enumerate(RUNS)}
    assert_close(alone, together)


def test_rows_and_names():
    engine = population(Tied)
    rows = engine.modules
    assert rows.names == ["encode.weight", "encode.bias", "decode.bias"] and rows.theta.shape == (3, 24)
    assert rows.offsets == [0, 16, 20, 24] and len(rows) == 3
    views = rows.views(rows.theta)
    assert [v.shape for v in views] == [(3, 4, 4), (3, 4), (3, 4)]
    views[1][2, 3] = 7.0
    assert rows.theta[2, 19] == 7.0


def test_a_row_loads_into_the_users_module():
    engine = population(batch_norm)
    for _ in range(3):
        engine.step()
    model = batch_norm().double()
    model.load_state_dict(dict(engine.modules.named_rows(1)))
    assert model[1].num_batches_tracked == 3


def test_buffers_belong_to_a_replica_and_are_untouched_by_evaluation():
    engine = population(batch_norm, trace=True)
    for _ in range(2):
        engine.step()
    before = copy.deepcopy(engine.modules.fixed)
    assert not torch.equal(before["1.running_mean"][0], before["1.running_mean"][1])
    assert before["1.num_batches_tracked"].tolist() == [2, 2, 2]
    engine.evaluate()
    for name, x in engine.modules.fixed.items():
        assert torch.equal(x, before[name]), name


def test_frozen_parameters_stay_and_get_no_noise():
    engine = population(Frozen)
    before = engine.modules.fixed["fixed.weight"].clone()
    engine.step()
    assert engine.modules.names == ["out.weight", "out.bias"]
    assert torch.equal(engine.modules.fixed["fixed.weight"], before)


def test_replicas_of_one_seed_share_a_batch_with_the_same_result():
    pair = [replica(0, lr=0.05), replica(0, lr=0.1)]
    shared = trajectories(population(plain, runs=pair), 6)
    mixed = trajectories(population(plain, runs=[*pair, replica(1, lr=0.1)]), 6)
    assert_close(shared, {i: mixed[i] for i in shared})


def test_batches_may_be_nested():
    class Nested(Regression):
        def batch(self, seed, t, config):
            x, y = super().batch(seed, t, config)
            return {"x": x, "rest": [(y, torch.tensor(t))]}

        def loss(self, model, batch, config):
            ((y, t),) = batch["rest"]
            assert not t.is_floating_point()
            return super().loss(model, (batch["x"], y), config) + 0 * t

    runs = [replica(0, lr=0.1), replica(1, lr=0.1)]
    a, b = (Population(kind(), runs, trace=False, dtype=torch.float64) for kind in (Nested, Regression))
    assert_close(trajectories(a, 3), trajectories(b, 3))


# What is refused


class Noisy(nn.Module):
    """Draws in its forward pass, where vmap finds it or, after .item(), where only the loop can."""

    def __init__(self, looped: bool) -> None:
        super().__init__()
        self.linear, self.looped = nn.Linear(FEATURES, 1), looped

    def forward(self, x: Tensor) -> Tensor:
        if self.looped:
            x.sum().item()
        return self.linear(x + torch.randn_like(x)).squeeze(-1)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: Noisy(looped=False), (BATCH, FEATURES)),
        (lambda: Noisy(looped=True), (BATCH, FEATURES)),
        (lambda: Recurrent(num_layers=2, dropout=0.5), SEQUENCE),
    ],
    ids=["vmap", "loop", "dropout inside nn.LSTM"],
)
def test_random_numbers_in_the_forward_pass_are_the_replicas_own(build, shape):
    together, reversed_, alone = (
        Population(Regression(lambda config: build(), shape=shape), runs, dtype=torch.float64)
        for runs in (RUNS, RUNS[::-1], RUNS[1:2])
    )
    state = torch.get_rng_state()
    for engine in (together, reversed_, alone):
        for _ in range(3):
            engine.step()
        engine.evaluate()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(together.modules.theta, reversed_.modules.theta.flip(0), rtol=1e-12, atol=1e-14)
    assert torch.allclose(together.modules.theta[1], alone.modules.theta[0], rtol=1e-12, atol=1e-14)


def test_random_numbers_in_the_evaluation_are_the_same_every_time():
    class Sampled(Regression):
        def evaluate(self, model, held_out, config):
            return {"mean": model(torch.randn(2, FEATURES).to(held_out.dtype)).mean()}

    engine, alone = Population(Sampled(), RUNS), Population(Sampled(), RUNS[1:2])
    first, again = engine.evaluate()["mean"], engine.evaluate()["mean"]
    assert torch.equal(first, again) and "evaluate" not in engine.modules.loop_reasons
    assert torch.allclose(first[1], alone.evaluate()["mean"][0])


def test_a_parameter_without_a_part_in_the_loss():
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(FEATURES, 1), nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x).squeeze(-1)

    with pytest.raises(PopulationError, match=r"'spare.weight' has no part in the loss; freeze it"):
        population(Spare).step()


def test_a_loss_that_is_no_scalar():
    class PerExample(Regression):
        def loss(self, model, batch, config):
            return (model(batch[0]) - batch[1]) ** 2

    with pytest.raises(PopulationError, match=r"regression.loss returned shape \(6,\); a loss is a scalar"):
        Population(PerExample(), RUNS, trace=False).step()


def test_shapes_that_differ():
    class Widths(Regression):
        replica_keys = frozenset({"width"})

    experiment = Widths(lambda config: plain(config.width))
    runs = [replica(0, lr=0.1, config=Config(width=w)) for w in (5, 5, 6)]
    with pytest.raises(PopulationError, match=r"replica 2 has other .* than replica 0 \(at '0\.bias'\)"):
        Population(experiment, runs)


def test_a_mistake_in_the_model_is_shown_as_it_is():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        population(lambda: nn.Linear(FEATURES + 1, 1)).step()


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_is_no_limit_of_vmap(error, trace):
    """A loop over replicas would hide it, and be slow for ever."""

    class Large(Regression):
        calls = 0

        def loss(self, model, batch, config):
            self.calls += 1
            raise error

        def evaluate(self, model, held_out, config):
            raise error

    engine = Population(Large(), RUNS, trace=trace)
    for work in (engine.step, engine.evaluate):
        with pytest.raises(type(error), match="allocate"):
            work()
    assert engine.modules.loop_reasons == {} and engine.experiment.calls == 1 and engine.t == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Identity(), "no trainable parameters"),
        (lambda: plain().requires_grad_(False), "no trainable parameters"),
        (lambda: print, "regression.model returned builtin_function_or_method, not an nn.Module"),
    ],
)
def test_no_model(build, message):
    with pytest.raises(PopulationError, match=message):
        population(build)


def test_no_replicas():
    with pytest.raises(PopulationError, match="needs at least one replica"):
        Population(Regression(), [])


def test_a_noise_that_is_no_schedule():
    with pytest.raises(PopulationError, match=r"noise = 0\.01: a schedule is a callable such as"):
        replica(0, lr=0.1, noise=0.01)  # type: ignore[arg-type]


def test_modules_that_took_other_types():
    modules = [plain(), plain().half()]
    rows = StackedModules(modules, dtype=torch.float64, device=torch.device("cpu"))
    assert rows.theta.dtype == torch.float64 and torch.isfinite(rows.theta).all()
