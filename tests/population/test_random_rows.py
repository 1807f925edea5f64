"""Random numbers that a model or loss draws belong to a replica, and follow their laws."""

import math

import pytest
import torch
from scipy import stats
from support.toys import FEATURES, Regression, assert_close, parameters_of, replica, trajectories
from torch import nn
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from gradnoise.population import Population, PopulationError
from gradnoise.population.random_rows import NoRowsError, RandomRows

P, N = 3, 4000
KEYS, T = torch.tensor([11, -22, 33]), torch.tensor(5)
QUERY = nn.MultiheadAttention(6, 2, dropout=0.5, batch_first=True)


def draw(function, *given, keys=KEYS, t=T):
    with RandomRows(keys, t):
        return vmap(function, randomness="different")(*given)


LAWS = {
    "rand": (lambda x: torch.rand(N), stats.uniform()),
    "rand_like": (torch.rand_like, stats.uniform()),
    "uniform_": (lambda x: torch.empty_like(x).uniform_(2.0, 5.0), stats.uniform(2, 3)),
    "uniform_ of defaults": (lambda x: torch.empty_like(x).uniform_(), stats.uniform()),
    "randn": (lambda x: torch.randn(N), stats.norm()),
    "randn_like": (torch.randn_like, stats.norm()),
    "normal_": (lambda x: torch.empty_like(x).normal_(1.0, 2.0), stats.norm(1, 2)),
    "normal_ of defaults": (lambda x: torch.empty_like(x).normal_(), stats.norm()),
    "normal around": (lambda x: torch.normal(0 * x, 2.0), stats.norm(0, 2)),
    "normal of size": (lambda x: torch.normal(1.0, 2.0, (N,)), stats.norm(1, 2)),
    "exponential_": (lambda x: torch.empty_like(x).exponential_(2.0), stats.expon(scale=0.5)),
    "gumbel": (lambda x: -torch.empty_like(x).exponential_().log(), stats.gumbel_r()),
}


@pytest.mark.parametrize("name", LAWS)
def test_continuous_laws(name):
    function, law = LAWS[name]
    drawn = draw(function, torch.zeros(P, N))
    for row in drawn:  # three rows of twelve laws: a false alarm once in 3,000 seeds
        assert stats.kstest(row.numpy(), law.cdf).pvalue > 1e-5
    assert abs(torch.corrcoef(drawn)[0, 1]) < 0.07


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (lambda x: torch.randint(0, 4, (N,)), {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}),
        (lambda x: torch.randint(2, 4, (N,)), {2: 0.5, 3: 0.5}),
        (lambda x: torch.randint_like(x, 2), {0: 0.5, 1: 0.5}),
        (lambda x: torch.randint_like(x, 1, 3), {1: 0.5, 2: 0.5}),
        (lambda x: torch.bernoulli(x + 0.3), {0: 0.7, 1: 0.3}),
        (lambda x: torch.bernoulli(x, 0.2), {0: 0.8, 1: 0.2}),
        (lambda x: torch.empty_like(x).bernoulli_(), {0: 0.5, 1: 0.5}),
        (lambda x: torch.empty_like(x).bernoulli_(0.1), {0: 0.9, 1: 0.1}),
        (lambda x: torch.empty_like(x).bernoulli_(x + 0.1), {0: 0.9, 1: 0.1}),
        (lambda x: F.dropout(x + 1, 0.75), {0: 0.75, 4: 0.25}),
        (lambda x: torch.native_dropout(x + 1, 0.75, True)[0], {0: 0.75, 4: 0.25}),
        (lambda x: torch.native_dropout(x + 1, 0.75, False)[0], {1: 1.0}),
    ],
)
def test_discrete_laws(function, values):
    for row in draw(function, torch.zeros(P, N)):
        assert set(row.unique().tolist()) == set(values)
        for value, share in values.items():  # five standard deviations
            assert abs((row == value).double().mean() - share) <= 5 * math.sqrt(share * (1 - share) / N)


@pytest.mark.parametrize(
    "function",
    [
        *(function for function, _ in LAWS.values()),
        lambda x: F.dropout1d(x.view(-1, 2, 2), 0.5),
        lambda x: F.gumbel_softmax(x.view(-1, 4)),
        lambda x: QUERY(x[:24].view(1, 4, 6), x[:24].view(1, 4, 6), x[:24].view(1, 4, 6))[0],
        lambda x: F.scaled_dot_product_attention(*(x[:24].view(1, 4, 6),) * 3, dropout_p=0.5),
        lambda x: torch.rand(3, dtype=torch.float16),
        lambda x: (torch.rand(2), torch.rand(2))[1],
    ],
)
def test_rows_are_those_of_their_key_and_update(function):
    x = torch.linspace(-1, 1, P * 40).view(P, 40)
    drawn = draw(function, x)
    assert torch.allclose(draw(function, x[1:2], keys=KEYS[1:2])[0], drawn[1])  # alone
    assert torch.allclose(draw(function, x.flip(0), keys=KEYS.flip(0)).flip(0), drawn)  # in another order
    assert not torch.equal(draw(function, x, t=T + 1), drawn)
    with RandomRows(KEYS[2:], T, alone=True):  # in a loop
        assert torch.allclose(function(x[2]), drawn[2])
    recorded = make_fx(lambda x, keys, t: draw(function, x, keys=keys, t=t))(x, KEYS, T)
    assert torch.allclose(recorded(x, KEYS, T), drawn) and not torch.equal(recorded(x, KEYS, T + 1), drawn)
    assert (drawn < 1).any() if drawn.dtype == torch.float16 else True


def test_what_has_no_rows_is_left_to_a_loop():
    with pytest.raises(NoRowsError, match="poisson draws random numbers that vmap has no row for"):
        draw(torch.poisson, torch.ones(P, 4))


class Shuffled(Regression):
    """`randperm` has no rows of replicas: a loop runs it."""

    def loss(self, model, batch, config):
        x, y = batch
        return ((model(x) - y) ** 2)[torch.randperm(len(y))[:3]].mean()


class Augmented(Regression):
    def loss(self, model, batch, config):
        x, y = batch
        flip = torch.where(torch.rand(len(y)) < 0.5, 1.0, -1.0).to(x.dtype)
        return ((model(x * flip[:, None] + 0.1 * torch.randn_like(x)) - y) ** 2).mean()


@pytest.mark.parametrize("kind", [Augmented, Shuffled])
@pytest.mark.parametrize("trace", [True, False])
def test_a_random_loss_trains_a_replica_as_if_it_were_alone(kind, trace):
    runs = [replica(0, lr=0.05), replica(1, lr=0.1), replica(0, lr=0.02, study_seed=3)]
    together = trajectories(Population(kind(), runs, dtype=torch.float64, trace=trace), 5)
    for i, run in enumerate(runs):
        alone = trajectories(Population(kind(), [run], dtype=torch.float64, trace=trace), 5)
        assert_close({i: together[i]}, {i: alone[0]})
    other = trajectories(Population(kind(), runs, dtype=torch.float64, trace=not trace), 5)
    assert_close(together, other)


def test_the_reason_of_a_loop_names_operation_and_line():
    engine = Population(Shuffled(), [replica(0), replica(1)])
    engine.step()
    reason = engine.modules.loop_reasons["loss"]
    assert (
        "randperm draws random numbers" in reason and "(test_random_rows.py, line " in reason and "in loss)" in reason
    )


def test_a_resumed_run_draws_what_an_undisturbed_one_does():
    runs = [replica(0, lr=0.05), replica(1, lr=0.1)]
    whole, first, second = (Population(Augmented(), runs) for _ in range(3))
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step()
    assert all(torch.equal(parameters_of(whole)[i], x) for i, x in parameters_of(second).items())


def test_a_generator_of_ones_own_is_refused():
    class Own(Regression):
        generator = torch.Generator()

        def loss(self, model, batch, config):
            return super().loss(model, batch, config) + torch.rand(FEATURES, generator=self.generator).sum()

    message = r"rand draws from a generator of its own \(test_random_rows.py, line \d+, in loss\)"
    with pytest.raises(PopulationError, match=message):
        Population(Own(), [replica(0), replica(1)]).step()
