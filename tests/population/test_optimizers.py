"""Every optimizer is torch.optim's, row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import Regression, replica
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from gradnoise.noise.attachment import attach
from gradnoise.noise.schedule import Annealed
from gradnoise.population import (
    L2,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    NAdam,
    Optimizer,
    Population,
    PopulationError,
    RMSProp,
)
from gradnoise.population.adam import _by_operations, _root, adam, correction
from gradnoise.population.randomness import seeded
from gradnoise.study.canonical import canonical, restore

#: Ours, and the class and arguments of torch.optim that make the same update.
TABLE = [
    (SGD(), torch.optim.SGD, {}),
    (SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (SGD(momentum=0.5, nesterov=True), torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
    (AdaGrad(), torch.optim.Adagrad, {}),
    (AdaGrad(eps=1e-3, initial=0.2), torch.optim.Adagrad, {"eps": 1e-3, "initial_accumulator_value": 0.2}),
    (RMSProp(), torch.optim.RMSprop, {}),
    (RMSProp(alpha=0.9, eps=1e-3), torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-3}),
    (RMSProp(momentum=0.8), torch.optim.RMSprop, {"momentum": 0.8}),
    (Adam(), torch.optim.Adam, {}),
    (Adam(beta1=0.5, beta2=0.9, eps=1e-2), torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-2}),
    (Adam(beta1=0.0, beta2=0.0), torch.optim.Adam, {"betas": (0.0, 0.0)}),
    (AdamW(), torch.optim.AdamW, {}),
    (AdamW(0.5, 0.9, 1e-2, 0.3), torch.optim.AdamW, {"betas": (0.5, 0.9), "eps": 1e-2, "weight_decay": 0.3}),
    (AdamW(weight_decay=0.0), torch.optim.Adam, {}),
    (NAdam(), torch.optim.NAdam, {}),
    (NAdam(0.5, 0.9, 1e-2, 0.1), torch.optim.NAdam, {"betas": (0.5, 0.9), "eps": 1e-2, "momentum_decay": 0.1}),
    (L2(SGD(), 0.1), torch.optim.SGD, {"weight_decay": 0.1}),
    (L2(SGD(0.9, True), 0.01), torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (L2(AdaGrad(), 0.1), torch.optim.Adagrad, {"weight_decay": 0.1}),
    (L2(RMSProp(momentum=0.8), 0.1), torch.optim.RMSprop, {"momentum": 0.8, "weight_decay": 0.1}),
    (L2(Adam(), 0.1), torch.optim.Adam, {"weight_decay": 0.1}),
    (L2(NAdam(), 0.1), torch.optim.NAdam, {"weight_decay": 0.1}),
]
table = pytest.mark.parametrize(("mine", "theirs", "arguments"), TABLE, ids=[repr(row[0]) for row in TABLE])

RATES = [1e-3, 0.01, 0.1, 0.5, 2.0]
N, STEPS = 7, 50


def gradients(seed: int = 0) -> Tensor:
    """[T, P, N], of sizes from 1e-4 to 100, with exact zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    size = 10 ** (6 * torch.rand(STEPS, len(RATES), N, generator=generator, dtype=torch.float64) - 4)
    g = size * torch.randn(STEPS, len(RATES), N, generator=generator, dtype=torch.float64)
    return g * (torch.rand(STEPS, len(RATES), N, generator=generator) > 0.1)


def run(optimizer: Optimizer, g: Tensor, rates: list[float]) -> Tensor:
    """theta [T, P, N] under given gradients."""
    theta = torch.linspace(-1, 1, g[0].numel(), dtype=g.dtype).view_as(g[0])
    state = optimizer.init(theta)
    lr = torch.tensor(rates, dtype=g.dtype)[:, None]
    path = []
    for t, gradient in enumerate(g):
        optimizer.update(theta, gradient.clone(), state, lr, torch.tensor(t))
        path.append(theta.clone())
    return torch.stack(path)


def run_torch(kind, arguments, g: Tensor, rates: list[float]) -> Tensor:
    start = torch.linspace(-1, 1, g[0].numel(), dtype=g.dtype).view_as(g[0])
    path = torch.empty_like(g)
    for p, lr in enumerate(rates):
        theta = start[p].clone().requires_grad_()
        optimizer = kind([theta], lr=lr, **arguments)
        for t in range(len(g)):
            theta.grad = g[t, p].clone()
            step(optimizer)
            path[t, p] = theta.detach()
    return path


def step(optimizer: torch.optim.Optimizer) -> None:
    """Make a step in which NAdam's own product of momenta is float64 too; torch makes it of the default dtype."""
    torch.set_default_dtype(torch.float64)
    try:
        optimizer.step()
    finally:
        torch.set_default_dtype(torch.float32)


@table
def test_equals_torch_on_any_gradients(mine, theirs, arguments):
    g = gradients()
    expected = run_torch(theirs, arguments, g, RATES)
    assert torch.allclose(run(mine, g, RATES), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    rates=st.one_of(st.lists(st.floats(1e-6, 10), min_size=k, max_size=k) for k in (1, 3)),
    eps=st.floats(1e-12, 1),
    first=st.floats(0, 0.999),
    second=st.floats(0, 0.9999),
    decay=st.floats(0, 0.09),
    seed=st.integers(0, 2**32),
)
def test_equals_torch_for_any_settings(rates, eps, first, second, decay, seed):
    g = gradients(seed)[:, : len(rates)]
    betas = {"betas": (first, second), "eps": eps}
    pairs = [
        (SGD(momentum=first), torch.optim.SGD, {"momentum": first}),
        (L2(SGD(), decay), torch.optim.SGD, {"weight_decay": decay}),
        (AdaGrad(eps=eps), torch.optim.Adagrad, {"eps": eps}),
        (RMSProp(second, eps, first), torch.optim.RMSprop, {"alpha": second, "eps": eps, "momentum": first}),
        (Adam(first, second, eps), torch.optim.Adam, betas),
        (AdamW(first, second, eps, decay), torch.optim.AdamW, betas | {"weight_decay": decay}),
        (NAdam(first, second, eps, decay), torch.optim.NAdam, betas | {"momentum_decay": decay}),
    ]
    for mine, theirs, arguments in pairs:
        found, expected = run(mine, g, rates), run_torch(theirs, arguments, g, rates)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9), mine


@table
def test_rows_are_independent(mine, theirs, arguments):
    g = gradients()
    together = run(mine, g, RATES)
    broken = g.clone()
    broken[3:, 2] = torch.nan
    others = [0, 1, 3, 4]
    assert torch.equal(run(mine, broken, RATES)[:, others], together[:, others])


@table
def test_whole_updates_equal_a_plain_loop(mine, theirs, arguments):
    """Gradient, clip, noise, update: a population against a module with `attach` and torch.optim."""
    experiment = Regression()
    runs = [
        replica(0, lr=0.01, optimizer=mine),
        replica(1, lr=0.1, clip=0.3, noise=Annealed(0.1), optimizer=mine),
        replica(2, lr=0.03, noise=Annealed(1.0, gamma=0.0), optimizer=mine),
        replica(2, lr=0.003, clip=0.1, study_seed=9, optimizer=mine),
    ]
    population = Population(experiment, runs, dtype=torch.float64, trace=False)
    for _ in range(STEPS):
        population.step()
    for theta, run in zip(population.modules.theta, runs, strict=True):
        with seeded(run.seed_for("init")):
            model = experiment.model(experiment.Config()).double()
        optimizer = theirs(model.parameters(), lr=run.training.lr, **arguments)
        if run.training.noise:
            names = model.named_parameters()
            attach(optimizer, run.training.noise, seed=run.seed_for("noise"), named_parameters=names)
        for t in range(STEPS):
            optimizer.zero_grad()
            batch = experiment.batch(run.seed_for("batches"), t, population.config)
            experiment.loss(model, batch, population.config).backward()
            if run.training.clip:
                clip(model, run.training.clip)
            step(optimizer)
        expected = nn.utils.parameters_to_vector(model.parameters()).detach()
        assert torch.allclose(theta, expected, rtol=1e-12, atol=1e-12), run


def clip(model: nn.Module, threshold: float) -> None:
    """torch's clip_grad_norm_ divides by the norm + 1e-6; this is the formula of the paper."""
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    for p in model.parameters():
        p.grad.mul_(min(1.0, threshold / norm))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.9999])
def test_bias_corrections_have_the_bits_of_python_numbers(beta):
    """Results before t was a tensor came from Python's powers."""
    for t in [*range(3000), *range(3000, 20_001, 17)]:
        found = correction(beta, torch.tensor(t))
        assert found.dtype == torch.float64
        assert found.item() == 1 - beta ** (t + 1), t
        assert _root(found).item() == (1 - beta ** (t + 1)) ** 0.5, t


@pytest.fixture
def by_operations(monkeypatch):
    """Have Adam's rule done by torch's operations, as on a device."""
    monkeypatch.setattr("gradnoise.population.adam.kernel", lambda *_: None)


@pytest.mark.usefixtures("by_operations")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_has_the_bits_of_its_formula_in_python_numbers(dtype):
    g = gradients().to(dtype).repeat(15, 1, 1)
    theta = torch.linspace(-1, 1, g[0].numel(), dtype=dtype).view_as(g[0])
    m, v, path = torch.zeros_like(theta), torch.zeros_like(theta), []
    lr = torch.tensor(RATES, dtype=dtype)[:, None]
    for t, x in enumerate(g):
        m.lerp_(x, 1 - 0.9)
        v.mul_(0.999).addcmul_(x, x, value=1 - 0.999)
        root = v.sqrt().div_((1 - 0.999 ** (t + 1)) ** 0.5).add_(1e-8)
        theta.sub_(m.div(root).mul_(lr / (1 - 0.9 ** (t + 1))))
        path.append(theta.clone())
    assert torch.equal(run(Adam(), g, RATES), torch.stack(path))


def moments(rows: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(rows * size)
    return [torch.randn(rows, size, dtype=dtype) for _ in range(3)] + [torch.rand(rows, size, dtype=dtype)]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 5),
    size=st.integers(1, 70),
    t=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.9999)),
)
def test_adam_in_one_pass_is_adam_by_operations(rows, size, t, dtype, betas):
    """To rounding; and each row, alone or among others and whatever lies between them, bit for bit."""
    theta, g, m, v = moments(rows, size, dtype)
    lr, eps, now = torch.linspace(1e-3, 0.1, rows, dtype=dtype)[:, None], 1e-8, torch.tensor(t)
    found, expected = ([x.clone() for x in (theta, g, m, v)] for _ in range(2))
    adam(*found, lr, now, *betas, eps)
    rate, root = lr / correction(betas[0], now).to(dtype), _root(correction(betas[1], now)).to(dtype)
    _by_operations(*expected, rate, root, *betas, eps)
    for mine, theirs in zip((found[0], *found[2:]), (expected[0], *expected[2:]), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=20 * torch.finfo(dtype).eps, atol=20 * torch.finfo(dtype).eps)
    apart = torch.full((rows, size + 7), 5.0, dtype=dtype)
    apart[:, 3 : 3 + size] = theta
    adam(apart[:, 3 : 3 + size], g, m.clone(), v.clone(), lr, now, *betas, eps)
    assert torch.equal(apart[:, 3 : 3 + size], found[0])
    assert (apart[:, :3] == 5).all() and (apart[:, 3 + size :] == 5).all()
    for p in range(rows):
        alone = [x[p : p + 1].clone() for x in (theta, g, m, v)]
        adam(*alone, lr[p : p + 1], now, *betas, eps)
        assert all(torch.equal(x[0], y[p]) for x, y in zip(alone, found, strict=True))


def test_adam_on_several_threads_has_the_bits_of_one():
    given, results, before = moments(3, 70_001, torch.float32), [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found = [x.clone() for x in given]
            versions = [x._version for x in found]
            adam(*found, torch.tensor([[0.1], [0.0], [1e-3]]), torch.tensor(3), 0.9, 0.999, 1e-8)
            assert [x._version > old for x, old in zip(found, versions, strict=True)] == [True, False, True, True]
            results.append(found)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
    assert torch.equal(results[0][0][1], given[0][1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adam_in_sixteen_bits_is_done_by_operations(dtype):
    theta, g, m, v = moments(2, 5, dtype)
    before = theta.clone()
    adam(theta, g, m, v, torch.tensor([[0.1], [0.0]], dtype=dtype), torch.tensor(3), 0.9, 0.999, 1e-4)
    assert not torch.equal(theta[0], before[0]) and torch.equal(theta[1], before[1])


@table
@pytest.mark.usefixtures("by_operations")
def test_an_update_can_be_recorded_and_replayed(mine, theirs, arguments):
    """Recorded at one t and replayed at others, as a CUDA graph is; state stays at its addresses."""
    g, lr = gradients(), torch.tensor(RATES, dtype=torch.float64)[:, None]
    theta = torch.linspace(-1, 1, g[0].numel(), dtype=g.dtype).view_as(g[0])
    state, t = mine.init(theta), torch.zeros((), dtype=torch.int64)
    places = {name: x.data_ptr() for name, x in state.items()}

    def update(theta, g, state, lr, t):
        mine.update(theta, g, state, lr, t)

    copies = {name: x.clone() for name, x in state.items()}
    recorded = make_fx(update, tracing_mode="fake")(theta.clone(), g[0].clone(), copies, lr, t)
    for now, expected in enumerate(run(mine, g, RATES)):
        recorded(theta, g[now].clone(), state, lr, t.fill_(now))
        assert torch.equal(theta, expected), now
    assert {name: x.data_ptr() for name, x in state.items()} == places


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@table
def test_a_cuda_graph_replays_updates(mine, theirs, arguments):
    g = gradients().cuda()
    lr = torch.tensor(RATES, dtype=torch.float64, device="cuda")[:, None]
    theta, t = torch.randn_like(g[0]), torch.zeros((), dtype=torch.int64, device="cuda")
    state, buffer = mine.init(theta), torch.zeros_like(theta)
    eager, eager_state = theta.clone(), mine.init(theta)
    mine.update(theta.clone(), buffer, mine.init(theta), lr, t)  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mine.update(theta, buffer, state, lr, t)
        t += 1
    for now, x in enumerate(g):
        buffer.copy_(x)
        graph.replay()
        mine.update(eager, x.clone(), eager_state, lr, torch.tensor(now, device="cuda"))
        assert torch.equal(theta, eager), now


@table
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_that_is_held_back_keeps_its_theta(mine, theirs, arguments, dtype):
    """Rate 0 and a gradient of zeros, at the start and with a state behind it."""
    g = gradients().to(dtype)
    theta = torch.linspace(-1, 1, g[0].numel(), dtype=dtype).view_as(g[0])
    state, lr = mine.init(theta), torch.tensor(RATES, dtype=dtype)[:, None]
    for t, x in enumerate(g):
        held = [0, 3] if t in (0, 7, 8, 9) else []
        x[held], rates, before = 0, lr.clone(), theta.clone()
        rates[held] = 0
        mine.update(theta, x.clone(), state, rates, torch.tensor(t))
        assert torch.equal(theta[held], before[held])
        assert not torch.equal(theta[1], before[1])


def test_state_is_as_large_as_it_must_be():
    theta = torch.zeros(3, 4)
    optimizers = [SGD(), SGD(0.9), AdaGrad(), RMSProp(), RMSProp(momentum=0.9), Adam(), AdamW(), L2(SGD(), 0.1)]
    assert [len(optimizer.init(theta)) for optimizer in optimizers] == [0, 1, 1, 1, 2, 2, 2, 0]
    assert {name: tuple(x.shape) for name, x in NAdam().init(theta).items()} == {
        "m": (3, 4),
        "v": (3, 4),
        "product": (3, 1),
    }


def test_weight_decay_of_adamw_does_not_reach_the_moments():
    theta, lr = torch.ones(1, 2), torch.full((1, 1), 0.5)
    for optimizer, moved in ((AdamW(weight_decay=0.1), False), (L2(Adam(), 0.1), True)):
        state = optimizer.init(theta)
        optimizer.update(theta.clone(), torch.zeros(1, 2), state, lr, torch.tensor(0))
        assert bool(state["m"].any()) == moved


def test_an_optimizer_of_ones_own():
    class SignSGD:
        def init(self, theta):
            return {}

        def update(self, theta, g, state, lr, t):
            theta.sub_(lr * g.sign())

    population = Population(Regression(), [replica(0, lr=0.25, optimizer=SignSGD())], trace=False)
    before = population.modules.theta.clone()
    population.step()
    assert torch.allclose((population.modules.theta - before).abs(), torch.tensor(0.25))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum=1.0), r"momentum = 1.0 is outside \[0, 1\)"),
        (lambda: SGD(momentum=-0.1), "momentum = -0.1"),
        (lambda: SGD(nesterov=True), "nesterov needs momentum > 0"),
        (lambda: RMSProp(alpha=1.0), "alpha = 1.0"),
        (lambda: RMSProp(momentum=float("nan")), "momentum = nan"),
        (lambda: Adam(beta1=-1), "beta1 = -1"),
        (lambda: Adam(beta2=1.0), "beta2 = 1.0"),
        (lambda: Adam(eps=-1e-8), "eps = -1e-08"),
        (lambda: AdaGrad(initial=-1.0), "initial = -1.0"),
        (lambda: RMSProp(eps=float("inf")), "eps = inf"),
        (lambda: AdamW(weight_decay=-0.1), r"weight_decay = -0.1 is outside \[0, inf\)"),
        (lambda: AdamW(beta1=1.0), "beta1 = 1.0"),
        (lambda: NAdam(beta2=-0.1), "beta2 = -0.1"),
        (lambda: NAdam(momentum_decay=float("nan")), "momentum_decay = nan"),
        (lambda: L2(SGD(), -1.0), "weight_decay = -1.0"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("optimizer", [row[0] for row in TABLE], ids=repr)
def test_settings_can_be_read_back(optimizer):
    assert restore(canonical(optimizer)) == optimizer


@pytest.mark.parametrize(
    ("optimizer", "text"),
    [
        (SGD(), 'SGD","momentum":0.0,"nesterov":false}'),
        (AdaGrad(), 'AdaGrad","eps":1e-10,"initial":0.0}'),
        (RMSProp(), 'RMSProp","alpha":0.99,"eps":1e-08,"momentum":0.0}'),
        (Adam(), 'Adam","beta1":0.9,"beta2":0.999,"eps":1e-08}'),
        (AdamW(), 'AdamW","beta1":0.9,"beta2":0.999,"eps":1e-08,"weight_decay":0.01}'),
        (NAdam(), 'NAdam","beta1":0.9,"beta2":0.999,"eps":1e-08,"momentum_decay":0.004}'),
    ],
)
def test_frozen_text(optimizer, text):
    """Part of the ids of trials: a new field or default would make finished studies start again."""
    assert canonical(optimizer) == '{"":"gradnoise.population.optimizers:' + text
    assert canonical(L2(optimizer, 0.1)) == (
        '{"":"gradnoise.population.optimizers:L2","optimizer":' + canonical(optimizer) + ',"weight_decay":0.1}'
    )


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_learning_rates_out_of_range(lr):
    with pytest.raises(PopulationError, match="a learning rate is a finite number > 0"):
        replica(0, lr=lr)
