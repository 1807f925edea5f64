"""The deep MLP of section 4.1: its initialisations, its first steps, and what the engine makes of it.

With MNIST at hand (GRADNOISE_DATA or the cache) the figures are MNIST's; else the embedded digits stand in.
"""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from gradnoise.data import ImageData, load_images
from gradnoise.noise.attachment import attach
from gradnoise.noise.schedule import Annealed
from gradnoise.paper.deep_mlp.experiment import DeepMLPExperiment
from gradnoise.paper.deep_mlp.model import DeepMLP, weight_sd
from gradnoise.population import Population, Replica, Training, check_experiment, checkpoint, derive_seed
from gradnoise.population.randomness import seeded

INITS = ("simple", "sussillo", "he", "zero")
NOISE = Annealed(0.01, gamma=0.55)
Config = DeepMLPExperiment.Config


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_images("auto", download=False)


@pytest.fixture(scope="module")
def experiment(data) -> DeepMLPExperiment:
    return DeepMLPExperiment(data)


def run(seed: int = 0, *, lr: float = 0.1, noise=None, clip=None, init: str = "simple", **config) -> Replica:
    return Replica(seed, Training(lr=lr, noise=noise, clip=clip), Config(init=init, **config))


def trained(experiment, replicas, steps: int, **options) -> Population:
    population = Population(experiment, replicas, **({"trace": False} | options))
    for _ in range(steps):
        population.step()
    population.settle()
    return population


def weights(population: Population) -> list[Tensor]:
    """Weight matrices [P, out, in]."""
    return [v for v in population.modules.views(population.modules.theta) if v.dim() == 3]


def biases(population: Population) -> list[Tensor]:
    return [v for v in population.modules.views(population.modules.theta) if v.dim() == 2]


# The network


@pytest.mark.parametrize(("depth", "count"), [(20, 88_210), (5, 49_960)])
def test_parameter_counts(depth, count):
    model = DeepMLP(depth=depth)
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == depth
    assert model(torch.zeros(3, 784)).shape == (3, 10)


def test_dropout_follows_every_hidden_layer():
    layers = [type(m) for m in DeepMLP(depth=3, dropout=0.5).layers]
    assert layers == [nn.Linear, nn.ReLU, nn.Dropout] * 3 + [nn.Linear]
    assert not any(isinstance(m, nn.Dropout) for m in DeepMLP(depth=3).modules())


def test_initial_deviations_by_the_formulas():
    # Sussillo & Abbott: g = sqrt(2) exp(1.2 / (max(n, 6) - 2.4)).
    assert weight_sd("sussillo", 784) == pytest.approx(0.050585, rel=1e-5)
    assert weight_sd("sussillo", 50) == pytest.approx(0.205106, rel=1e-5)
    assert weight_sd("he", 784) == pytest.approx(0.050508, rel=1e-5) and weight_sd("he", 50) == 0.2
    assert weight_sd("sussillo", 50) / weight_sd("he", 50) == pytest.approx(1.02553, rel=1e-5)
    assert weight_sd("sussillo", 784) / weight_sd("he", 784) == pytest.approx(1.00154, rel=1e-5)
    assert {weight_sd("simple", n) for n in (10, 50, 784)} == {0.1}


@pytest.mark.parametrize("init", INITS)
def test_initial_deviations_as_drawn(experiment, init):
    # 140,000 and 120,000 weights: the sd of a sample sd is 0.2% of it.
    population = Population(experiment, [run(seed, init=init) for seed in range(3)])
    first, *square, _ = weights(population)
    for sample, fan_in in ((first, 784), (torch.stack(square), 50)):
        sd = weight_sd(init, fan_in)
        assert sample.std().item() == pytest.approx(sd, rel=0.01)
        assert abs(sample.mean().item()) <= 0.02 * sd
    assert all((b == 0).all() for b in biases(population))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth = 0"),
        ({"width": 0}, "width = 0"),
        ({"init": "xavier"}, "init = 'xavier': allowed are 'simple', 'sussillo', 'he' and 'zero'"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_settings_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepMLP(**arguments)


# Sizes of activations and gradients


@dataclass(frozen=True)
class Sizes:
    """Geometric means over seeds of root mean squares; on MNIST unless a ratio."""

    depth: int
    init: str
    h: dict[int, float]
    dw: tuple[float, float, float]  # first, middle, last matrix
    norm: float


TABLE = [
    Sizes(20, "simple", {1: 0.66, 10: 1.1e-3, 20: 9.6e-7}, (2e-9, 8e-9, 1e-8), 0.037),
    Sizes(5, "simple", {1: 0.66, 2: 0.32, 5: 0.039}, (1.2e-4, 5e-4, 8e-4), 0.070),
    Sizes(20, "he", {1: 0.33, 10: 0.28, 20: 0.25}, (4e-3, 6e-3, 9e-3), 1.7),
    Sizes(20, "sussillo", {1: 0.33, 10: 0.35, 20: 0.41}, (8e-3, 1e-2, 2e-2), 4.2),
]
each_net = pytest.mark.parametrize("sizes", TABLE, ids=lambda s: f"{s.init}, {s.depth} layers")


def rms(x: Tensor) -> Tensor:
    """Over all but the first dimension."""
    return x.flatten(1).square().mean(1).sqrt()


def geometric_mean(x: Tensor) -> float:
    return x.log().mean().exp().item()


@each_net
def test_forward_gains(experiment, sizes):
    population = Population(
        experiment, [run(seed, init=sizes.init, depth=sizes.depth) for seed in range(20)], dtype=torch.float64
    )
    images, _ = experiment.batch(derive_seed(0, 0, "images"), 0, Config(batch_size=200))
    h, seen = images.expand(20, -1, -1).double(), {}
    for layer, (w, b) in enumerate(zip(weights(population), biases(population), strict=True), start=1):
        h = torch.relu(torch.baddbmm(b[:, None], h, w.transpose(1, 2)))
        seen[layer] = geometric_mean(rms(h))
    for layer, expected in sizes.h.items():
        assert 0.5 < seen[layer] / seen[1] / (expected / sizes.h[1]) < 2
        if not experiment.stand_in:
            assert 0.5 < seen[layer] / expected < 2


@each_net
def test_gradient_sizes(experiment, data, sizes):
    runs = [run(seed, init=sizes.init, depth=sizes.depth, batch_size=500) for seed in range(20)]
    population = trained(experiment, runs, 1, dtype=torch.float64)
    norms = population.telemetry()["gradient_norm"]
    parts = [rms(g) for g in population._parts[0].segments if g.dim() == 3]
    seen = [geometric_mean(parts[i]) for i in (0, len(parts) // 2, -1)]
    # All layers are about equally starved: each gradient carries the gain of the whole chain.
    for a, b in itertools.pairwise(seen):
        assert 0.1 < a / b < 2
    slack = 2 if not experiment.stand_in else 4
    for found, expected in zip((*seen, geometric_mean(norms)), (*sizes.dw, sizes.norm), strict=True):
        assert 1 / slack < found / expected < slack


# The engine on this model


RUNS = (
    run(0),
    run(0, noise=NOISE, clip=10.0),
    run(1, init="he", clip=0.5),
    run(1, init="he", noise=NOISE, clip=0.5, lr=0.01),
    run(2, init="sussillo", noise=NOISE),
    run(3, init="zero", noise=NOISE, clip=10.0),
)


def train_alone(
    experiment: DeepMLPExperiment, replica: Replica, steps: int, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, list[float]]:
    """Module, clip, attach, torch.optim.SGD: the run as anybody would write it. Its losses, too."""
    training = replica.training
    with seeded(replica.seed_for("init")):
        model = experiment.model(replica.config).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=training.rate(0))
    if training.noise:
        names = model.named_parameters()
        attach(optimizer, training.noise, seed=replica.seed_for("noise"), named_parameters=names)
    losses = []
    for t in range(steps):
        optimizer.zero_grad()
        loss = experiment.loss(model, images_of(experiment, replica, t, dtype), replica.config)
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        if training.clip:
            for p in model.parameters():
                p.grad.mul_(min(1.0, training.clip / norm))
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def images_of(experiment: DeepMLPExperiment, replica: Replica, t: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A replica's minibatch, fetched as a plain loop would."""
    rows = experiment.batch(replica.seed_for("batches"), t, replica.config).rows
    images, labels = experiment._train
    return images[rows].to(dtype) / 255, labels[rows]


@pytest.mark.parametrize(("dtype", "tolerance", "trace"), [(torch.float64, 1e-12, True), (torch.float32, 1e-5, False)])
def test_a_population_equals_a_plain_loop(experiment, dtype, tolerance, trace):
    population = trained(experiment, RUNS, 10, dtype=dtype, trace=trace)
    telemetry = population.telemetry()
    for p, replica in enumerate(RUNS):
        model, losses = train_alone(experiment, replica, 10, dtype)
        theta = nn.utils.parameters_to_vector(model.parameters()).detach()
        assert torch.allclose(population.modules.theta[p], theta, rtol=tolerance, atol=tolerance), replica
        assert telemetry["train_loss"][p].item() == pytest.approx(sum(losses) / 10, rel=tolerance)


def test_evaluation_equals_a_plain_one(experiment, data):
    population = trained(experiment, RUNS[:3], 2)
    metrics = population.evaluate()
    x, y = data.test_images.float() / 255, data.test_labels
    for p, replica in enumerate(RUNS[:3]):
        model, _ = train_alone(experiment, replica, 2)
        with torch.no_grad():
            logits = model(x)
        correct = (logits.argmax(1) == y).float().mean().item()
        assert metrics["test_accuracy"][p].item() == pytest.approx(100 * correct, abs=0.3)
        loss = nn.functional.cross_entropy(logits, y).item()
        assert metrics["test_loss"][p].item() == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(
    ("other", "diverged"),
    [
        (run(9), {}),
        (run(1, init="he", clip=0.01), {}),
        (run(1, init="he", clip=0.5, noise=Annealed(1.0)), {}),
        (run(1, init="he", lr=1e30), {2: 1}),
    ],
    ids=["seed", "clip", "eta", "diverges"],
)
def test_a_neighbour_changes_no_bit(experiment, other, diverged):
    runs = [*RUNS[:2], other, RUNS[3]]
    mine, theirs = (trained(experiment, replicas, 2) for replicas in (RUNS[:4], runs))
    assert theirs.diverged == diverged
    found = dict(zip(theirs.alive, theirs.modules.theta, strict=True))
    for i in (0, 1, 3):
        assert torch.equal(found[i], mine.modules.theta[i])


def test_eta_0_is_no_noise_bit_for_bit(experiment):
    silent, none = (trained(experiment, [run(0, noise=n), run(1, noise=n)], 3) for n in (Annealed(0.0), None))
    assert torch.equal(silent.modules.theta, none.modules.theta)


def test_resumed_across_an_epoch_bit_for_bit(data, tmp_path):
    few = replace(data, train_images=data.train_images[:500], train_labels=data.train_labels[:500])
    experiment = DeepMLPExperiment(few)
    config = {"batch_size": 100, "depth": 4, "width": 8}  # an epoch is five updates
    runs = [run(s, noise=NOISE, clip=10.0, init=init, **config) for s, init in enumerate(INITS)]
    straight = trained(experiment, runs, 3, trace=True)
    checkpoint.save(tmp_path, 3, straight.state_dict())
    resumed = Population(experiment, runs)
    resumed.load_state_dict(checkpoint.load(tmp_path, 3))
    for population in (straight, resumed):
        for _ in range(5):
            population.step()
    assert torch.equal(resumed.modules.theta, straight.modules.theta)
    for name, value in straight.evaluate().items():
        assert torch.equal(resumed.evaluate()[name], value)


def test_gradients_by_finite_differences(experiment):
    replica = run(4, init="he", lr=1.0, depth=3, width=4, batch_size=20)
    population = Population(experiment, [replica], dtype=torch.float64, trace=False)
    theta = population.modules.theta.clone()
    population.step()
    gradient = (theta - population.modules.theta)[0]
    batch = images_of(experiment, replica, 0, torch.float64)
    model = DeepMLP(depth=3, width=4).double()

    def loss(theta: Tensor) -> float:
        nn.utils.vector_to_parameters(theta, model.parameters())
        return experiment.loss(model, batch, replica.config).item()

    chosen = torch.linspace(0, theta.shape[1] - 1, 60).long().tolist()
    for i in chosen:
        step = torch.zeros_like(theta[0])
        step[i] = 1e-6
        slope = (loss(theta[0] + step) - loss(theta[0] - step)) / 2e-6
        assert gradient[i].item() == pytest.approx(slope, abs=1e-6)


def test_the_contract_of_an_experiment(experiment):
    config = {"depth": 2, "width": 6, "init": "he", "batch_size": 10, "dropout": 0.5}
    notes = check_experiment(experiment, config, steps=2)
    assert notes["loss runs by"] == notes["evaluate runs by"] == "vmap"


# Zero weights


def test_zero_weights_stay_zero_and_the_output_bias_learns_the_class_shares(experiment, data):
    size = min(2000, len(data.train_labels))
    replica = run(0, init="zero", lr=1.0, depth=3, width=8, batch_size=size)
    population = Population(experiment, [replica], trace=False)
    assert population.evaluate()["test_loss"].item() == pytest.approx(math.log(10), rel=1e-6)
    for _ in range(80):
        population.step()
    *hidden, output = biases(population)
    assert all((x == 0).all() for x in (*weights(population), *hidden))
    share = data.train_labels.bincount(minlength=10) / len(data.train_labels)
    entropy = -(share * share.log()).sum().item()
    loss = (torch.logsumexp(output, 1) - output @ share).item()
    assert loss == pytest.approx(entropy, abs=3e-4)
    chosen = output.argmax().item()
    assert share[chosen] == share.max()
    accuracy = population.evaluate()["test_accuracy"].item()
    assert accuracy == pytest.approx(100 * (data.test_labels == chosen).float().mean().item(), abs=1e-4)
    if not data.is_stand_in:
        assert (entropy, accuracy) == (pytest.approx(2.301159, abs=1e-5), pytest.approx(11.35))


def test_zero_weights_of_the_full_network_stay_bitwise_0(experiment):
    population = trained(experiment, [run(s, init="zero", lr=lr) for s in (0, 1) for lr in (0.1, 0.01)], 10)
    *hidden, output = biases(population)
    assert all((x == 0).all() for x in (*weights(population), *hidden))
    assert (output != 0).any(1).all()


def test_the_first_gradient_of_the_output_bias(experiment):
    replica = run(0, init="zero", lr=1.0)
    population = trained(experiment, [replica], 1, dtype=torch.float64)
    _, labels = experiment.batch(replica.seed_for("batches"), 0, Config())
    share = labels.bincount(minlength=10) / len(labels)
    assert len(labels) == 100
    assert torch.allclose(-biases(population)[-1][0], 0.1 - share.double(), atol=1e-7)


# Noise


class Flat(DeepMLPExperiment):
    """Its gradients are exactly 0."""

    def loss(self, model, batch, config):
        return 0.0 * model(batch[0]).sum()


def test_noise_alone_walks_by_its_law(data):
    # V(T) = lr^2 eta sum_{t<T} (1 + t)^-0.55: 0.0694^2 for T = 1000.
    config = {"depth": 2, "width": 20, "batch_size": 1}
    population = trained(Flat(data), [run(0, init="zero", noise=NOISE, **config)], 1000, trace=True)
    sd = 0.1 * math.sqrt(0.01 * sum((1 + t) ** -0.55 for t in range(1000)))
    assert sd == pytest.approx(0.0694, abs=1e-4)
    assert weights(population)[0].std().item() == pytest.approx(sd, rel=0.02)  # of 15,680
    assert torch.cat([b.flatten() for b in biases(population)]).std().item() == pytest.approx(sd, rel=0.3)


def test_the_first_noise(data):
    # 88,210 numbers: the sd of their mean is 0.0003, of their sd 0.24%, of a correlation 0.0034.
    runs = [run(s, init="zero", lr=1.0, noise=NOISE, batch_size=1) for s in (0, 1)]
    population = Population(Flat(data), runs, dtype=torch.float64, trace=False)
    population.step()
    first = population.modules.theta.clone()
    population.step()
    second = population.modules.theta - first
    for row in first:
        assert abs(row.mean()) < 0.001 and row.std().item() == pytest.approx(0.1, rel=0.01)
    assert second.std(1).tolist() == pytest.approx([0.1 * 2 ** (-0.55 / 2)] * 2, rel=0.01)
    a, b = (population.modules.views(first)[2 * layer][0].flatten() for layer in (3, 4))
    for x, y in ((first[0], first[1]), (first[0], second[0])):
        assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.015
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.1


def test_noise_comes_after_the_clip(experiment):
    # Clipping the sum at 10 would cut the noise, whose norm is 0.1 sqrt(88,210) = 29.7, to a third.
    population = trained(experiment, [run(0, init="zero", lr=1.0, noise=NOISE, clip=10.0)], 1)
    applied = population.modules.theta.norm().item()
    assert applied == pytest.approx(29.7, rel=0.02)
    assert population.telemetry()["noise_norm"].item() == pytest.approx(29.7, abs=0.01)


def test_a_clipped_gradient_has_the_threshold_for_norm(experiment):
    runs = [run(0, init="he", lr=1.0, clip=c) for c in (0.01, None, 1e9)]
    population = Population(experiment, runs, trace=False)
    theta = population.modules.theta.clone()
    population.step()
    clipped, free, below = theta - population.modules.theta
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-4)  # read off weights that are rounded
    assert torch.equal(free, below)
    assert population._parts[0].g[0].norm().item() <= 0.01 * (1 + 1e-6)
    cosine = torch.cosine_similarity(population._parts[0].g[0].double(), population._parts[0].g[1].double(), dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-6)


# Data and learning


def test_minibatches(experiment, data):
    seed = run(0).seed_for("batches")
    x, y = experiment.batch(seed, 0, Config())
    assert x.shape == (100, 784) and y.shape == (100,) and y.dtype == torch.int64
    assert x.min() == 0 and 0.9 < x.max() <= 1
    assert experiment.batch(seed, 0, Config(batch_size=7))[0].shape == (7, 784)
    with pytest.raises(ValueError, match="minibatch size"):
        experiment.batch(seed, 0, Config(batch_size=len(data.train_labels) + 1))


def test_a_model_of_nans_answers_class_0(experiment, data):
    expected = 100 * (data.test_labels == 0).double().mean().item()
    assert experiment.diverged_metrics() == {"test_accuracy": pytest.approx(expected)}
    if not data.is_stand_in:
        assert expected == pytest.approx(9.8)


def test_true_labels_are_learnt_and_shuffled_ones_are_not(data):
    shuffled, honest = DeepMLPExperiment(data, shuffle_labels=1), DeepMLPExperiment(data)
    assert shuffled.fingerprint != honest.fingerprint
    assert torch.equal(shuffled._train[1].bincount(), honest._train[1].bincount())
    runs = [run(0, init="he", depth=3), run(1, init="he", depth=3, noise=NOISE, clip=10.0)]
    chance, learnt = (
        trained(e, runs, 150, trace=True).evaluate()["test_accuracy"].tolist() for e in (shuffled, honest)
    )
    # Alike images get alike answers, so that chance spreads wider than a binomial law of so many images.
    low, high = (7.0, 14.0) if not data.is_stand_in else (3.0, 25.0)
    assert all(low < accuracy < high for accuracy in chance)
    assert all(accuracy > 70 for accuracy in learnt)
