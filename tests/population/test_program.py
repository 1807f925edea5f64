"""The step that is recorded once and replayed is the step that is interpreted."""

import pytest
import torch
from support.toys import FEATURES, Net, Regression, assert_close, assert_same, plain, replica, trajectories
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from gradnoise.noise.schedule import Annealed
from gradnoise.population import Population, PopulationError
from gradnoise.population.simplified import simplify

RUNS = (replica(0, lr=0.05), replica(1, lr=0.1, noise=Annealed(0.1)), replica(1, lr=0.02, clip=0.5))


class Filters(nn.Module):
    """Convolution, in-place layers, a buffer that is assigned, and writing into a copy of the input."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv1d(1, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(2 * FEATURES, 1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + len(x)
        x = x * 1.0
        x[:, 0] = 0.0
        return self.out(self.relu(self.filter(x[:, None])).flatten(1)).squeeze(-1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x[:, None] * x[:, :, None]).chunk(3, dim=-1)
        h = torch.softmax(q @ k.transpose(-1, -2) / FEATURES**0.5, dim=-1) @ v
        return self.out(h.mean(1)).squeeze(-1)


def population(build=plain, runs=RUNS, experiment=None, **options) -> Population:
    experiment = experiment or Regression(lambda config: build())
    return Population(experiment, runs, **({"dtype": torch.float64} | options))


@pytest.mark.parametrize("build", [plain, Filters, Attention])
def test_replayed_is_interpreted(build):
    replayed, interpreted = population(build), population(build, trace=False)
    assert_close(trajectories(replayed, 10), trajectories(interpreted, 10))
    for name, x in interpreted.modules.fixed.items():
        assert torch.allclose(replayed.modules.fixed[name], x, rtol=1e-12), name
    replayed.evaluate()  # compares them, too


class Counted(Regression):
    calls = 0

    def loss(self, model, batch, config):
        self.calls += 1
        return super().loss(model, batch, config)


@pytest.mark.filterwarnings("ignore:the code of the loss changes Counted.calls")
def test_the_loss_runs_only_to_be_checked_and_recorded():
    experiment = Counted()
    engine = population(experiment=experiment)
    engine.step()
    recorded = experiment.calls
    trajectories(engine, 5)
    assert experiment.calls == recorded <= 3
    engine.select([0, 2])  # other shapes are recorded anew
    engine.step()
    assert experiment.calls == recorded + 1
    engine.step()
    assert experiment.calls == recorded + 1


@pytest.mark.filterwarnings("ignore:the code of the loss changes Impatient.calls")
def test_a_path_that_changes_during_training_is_found_out():
    class Impatient(Counted):
        def loss(self, model, batch, config):
            return super().loss(model, batch, config) * (1.0 if self.calls < 4 else 2.0)

    engine = population(experiment=Impatient())
    trajectories(engine, 3)
    engine.experiment.calls = 10
    with pytest.raises(PopulationError, match=r"another path through its Python code.*trace=False"):
        engine.evaluate()
    honest = population(experiment=Impatient(), trace=False)
    trajectories(honest, 3)
    assert honest.evaluate().keys() == {"mean", "size"}


def test_state_in_tensors_is_no_such_path():
    class Annealing(Regression):
        def batch(self, seed, t, config):
            return *super().batch(seed, t, config), torch.tensor(0.5**t, dtype=torch.float64)

        def loss(self, model, batch, config):
            return batch[2] * super().loss(model, batch[:2], config)

    replayed, interpreted = (population(experiment=Annealing(), trace=trace) for trace in (True, False))
    assert_close(trajectories(replayed, 4), trajectories(interpreted, 4))
    replayed.evaluate()


def test_batches_of_other_shapes_and_layouts():
    class Varied(Regression):
        def batch(self, seed, t, config):
            x, y = super().batch(seed, t, config)
            x = x.T.contiguous().T if t % 3 == 1 else x
            return (x[:4], y[:4]) if t % 3 == 2 else (x, y)

    runs = RUNS[1:]  # one seed, whose batch is handed on as it is
    replayed, interpreted = (population(Filters, runs, Varied(), trace=trace) for trace in (True, False))
    assert_close(trajectories(replayed, 6), trajectories(interpreted, 6))


def test_recording_does_not_count_as_a_step():
    engine = population(lambda: Net(), dtype=torch.float32)
    engine.step()
    assert engine.modules.fixed["norm.num_batches_tracked"].tolist() == [1, 1, 1]


def test_a_replay_is_deterministic():
    assert_same(*(trajectories(population(dtype=torch.float32), 5) for _ in range(2)))


# Simplifying

times = torch.ops.aten.mul.Scalar


def recorded(function, *arguments) -> fx.GraphModule:
    graph = make_fx(function)(*arguments)
    simplify(graph)
    return graph


def targets(graph: fx.GraphModule) -> list[str]:
    return [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]


def test_what_changes_nothing_is_dropped():
    x = torch.randn(2, 3)
    graph = recorded(lambda x: times(x.detach().expand(2, 3).view(2, 3), 1).exp(), x)
    assert targets(graph) == ["aten.exp.default"] and torch.equal(graph(x), x.exp())


class Recurrent(nn.Module):
    """Uses its weights at three steps, one of them through a view that is written into."""

    def __init__(self, size: int = 40) -> None:
        super().__init__()
        self.within, self.of_input = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x):
        state = torch.zeros_like(x[:, 0])
        for part in x.unbind(1):
            state = torch.tanh(self.within(state) + self.of_input(part))
        return state


def gradients_of(losses, *weights):
    """Return a function of weights [P, ...] that makes the gradients of summed losses."""

    def made(*given):
        given = [x.detach().requires_grad_() for x in given]
        return torch.autograd.grad(losses(*given), given)

    return made, weights


def summed(graph: fx.GraphModule) -> int:
    return sum(name in ("aten.add.Tensor", "aten.add_.Tensor") for name in targets(graph))


def test_a_weight_that_is_used_at_several_steps_gets_its_gradient_by_one_product():
    torch.manual_seed(0)
    net = Recurrent()
    names, x = list(dict(net.named_parameters())), torch.randn(4, 3, 40)
    stacked = [torch.stack([p.detach() * k for k in (1.0, 0.5)]) for p in net.parameters()]

    def losses(*given):
        each = torch.vmap(
            lambda *w: torch.func.functional_call(net, dict(zip(names, w, strict=True)), x).square().sum()
        )
        return each(*given).sum()

    made, weights = gradients_of(losses, *stacked)
    graph = recorded(made, *weights)
    products = [n for n in graph.graph.nodes if n.op == "call_function" and n.target is torch.ops.aten.bmm.default]
    large = [n for n in products if n.args[1].target is torch.ops.aten.cat.default]
    assert len(large) == 2 and summed(graph) < summed(make_fx(made)(*weights))
    for mine, theirs in zip(graph(*weights), made(*weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_sum_of_products_and_something_else():
    a, b, c, d, e = (torch.randn(2, *s, dtype=torch.float64) for s in ((3, 20), (3, 20), (4, 20), (4, 20), (20, 20)))

    def total(a, b, c, d, e):
        return torch.bmm(a.mT, b) + e + torch.bmm(c.mT, d) + torch.bmm(b.mT, a).mT

    graph = recorded(total, a, b, c, d, e)
    assert targets(graph).count("aten.bmm.default") == 1
    torch.testing.assert_close(graph(a, b, c, d, e), total(a, b, c, d, e))


def test_rows_that_are_written_into_later_are_not_laid_together():
    def total(a, b, c):
        first = a * 2
        product = torch.bmm(first.mT, b)
        first.view(-1)[:4].fill_(7.0)
        return product + torch.bmm(c.mT, b) + torch.bmm(first.mT, c)

    a, b, c = (torch.randn(2, 3, 20, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(recorded(total, a, b, c)(a, b, c), total(a, b, c), rtol=1e-12, atol=1e-12)


def test_few_rows_are_laid_together_and_many_are_not():
    def total(a, b):
        return torch.bmm(a.mT, b) + torch.bmm(b.mT, a)

    for rows, count in ((3, 1), (30, 2)):
        a, b = (torch.randn(2, rows, 20, dtype=torch.float64) for _ in range(2))
        graph = recorded(total, a, b)
        assert targets(graph).count("aten.bmm.default") == count
        torch.testing.assert_close(graph(a, b), total(a, b))


def test_what_changes_the_dtype_or_shape_stays():
    n = torch.arange(6)
    graph = recorded(lambda n: times(n, 1.0).view(2, 3) / 4, n)
    assert torch.equal(graph(n), n.float().view(2, 3) / 4)
    assert recorded(lambda n: times(n, 1.0), n)(n).dtype == torch.float32


def test_a_copy_that_is_written_into_stays_a_copy():
    def function(x: Tensor) -> Tensor:
        y = times(x, 1.0)
        y.zero_()
        return x + y

    x = torch.ones(3)
    graph = recorded(function, x)
    assert graph(x).tolist() == [1.0, 1.0, 1.0] and x.tolist() == [1.0, 1.0, 1.0]


def test_weight_gradients_come_in_the_layout_of_the_weights():
    def gradient(x: Tensor, d: Tensor) -> Tensor:
        return torch.bmm(x.transpose(1, 2), d).transpose(1, 2)

    x, d = torch.randn(3, 5, 4), torch.randn(3, 5, 2)
    graph = recorded(gradient, x, d)
    assert graph(x, d).is_contiguous() and torch.allclose(graph(x, d), gradient(x, d), atol=1e-6)


def test_a_product_with_other_uses_stays():
    def function(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        product = torch.bmm(x.transpose(1, 2), d)
        return product.transpose(1, 2), product.sum()

    x, d = torch.randn(3, 5, 4), torch.randn(3, 5, 2)
    for mine, theirs in zip(recorded(function, x, d)(x, d), function(x, d), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.slow
def test_compiled_is_interpreted():
    compiled, interpreted = population(compile=True), population(trace=False)
    assert_close(trajectories(compiled, 5), trajectories(interpreted, 5))
