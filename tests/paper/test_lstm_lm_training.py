"""Training LSTM language models: the carried state, dropout, clip and noise, populations, and what they learn."""

import itertools
import math
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from gradnoise import Annealed
from gradnoise.data.ptb import Corpus, load_corpus, unigram_loss
from gradnoise.paper.lstm_lm import Config, LanguageModelExperiment
from gradnoise.population import Population, Replica, check_experiment
from gradnoise.population.rates import Steps

CONFIG = {"units": 6, "unroll": 5, "batch_size": 4, "lr": 1.0, "clip": 5.0}


@pytest.fixture(scope="module")
def experiment() -> LanguageModelExperiment:
    return LanguageModelExperiment(load_corpus("generated"))


def short(length=170, seed=0) -> Corpus:
    """A text of 7 words, so short that its epochs have 8 windows of the test settings."""
    words = torch.randint(7, (length,), generator=torch.Generator().manual_seed(seed))
    return Corpus("corpus", "a short text", tuple("abcdefg"), words, words[:40], words[:61], "f00d")


def population(experiment, *settings, dtype=torch.float64, trace=False, **options) -> Population:
    replicas = [Replica.of(experiment, s.get("seed", 0), CONFIG | {k: v for k, v in s.items() if k != "seed"})
                for s in settings]  # fmt: skip
    return Population(experiment, replicas, dtype=dtype, trace=trace, **options)


def train(experiment, *settings, steps=3, **options) -> Population:
    p = population(experiment, *settings, **options)
    for _ in range(steps):
        p.step()
    return p


# --- one replica by hand --------------------------------------------------------------------------


def test_updates_are_those_of_a_plain_loop():
    """Two epochs of torch's own LSTM and SGD: carried states, their reset, loss, clip, learning rates."""
    experiment = LanguageModelExperiment(short())
    rate = Steps(1.0, at=(8,), factor=0.5)
    trained = train(experiment, {"lr": rate, "clip": 0.8}, steps=16)
    start = population(experiment, {}).modules
    names = dict(zip(start.names, start.views(start.theta), strict=True))
    embedding = nn.Parameter(names["embedding.weight"][0].clone())
    lstm = nn.LSTM(6, 6, 2, dtype=torch.float64)
    softmax = nn.Linear(6, 7, dtype=torch.float64)
    with torch.no_grad():
        for k in range(2):
            for mine, theirs in (("input", "ih"), ("recurrent", "hh")):
                for kind in ("weight", "bias"):
                    getattr(lstm, f"{kind}_{theirs}_l{k}").copy_(names[f"layers.{k}.{mine}.{kind}"][0])
        softmax.weight.copy_(names["softmax.weight"][0])
        softmax.bias.copy_(names["softmax.bias"][0])
    parameters = [embedding, *lstm.parameters(), *softmax.parameters()]
    for t in range(16):
        if t % 8 == 0:
            state = (torch.zeros(2, 4, 6, dtype=torch.float64),) * 2
        tokens, targets = experiment.batch(0, t, Config(unroll=5, batch_size=4))
        x, state = lstm(embedding[tokens], state)
        state = tuple(s.detach() for s in state)
        loss = 5 * nn.functional.cross_entropy(softmax(x).flatten(0, 1), targets.flatten())
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum(g.square().sum() for g in gradients))
        scale = min(1.0, 0.8 / norm.item())
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= (1.0 if t < 8 else 0.5) * scale * gradient
    views = dict(zip(start.names, trained.modules.views(trained.modules.theta), strict=True))
    torch.testing.assert_close(views["embedding.weight"][0], embedding.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(views["softmax.weight"][0], softmax.weight.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(views["layers.1.recurrent.weight"][0], lstm.weight_hh_l1.detach(), rtol=1e-9, atol=1e-12)


def test_the_state_is_zero_where_an_epoch_begins():
    experiment = LanguageModelExperiment(short())
    p = population(experiment, {"seed": 1}, {"seed": 2})
    assert experiment.epoch(Config(unroll=5, batch_size=4)) == 8
    for t in range(17):
        course = p.state_dict()["course"]
        zero = (course["h"] == 0).all() and (course["c"] == 0).all()
        assert zero == (t in (0, 8, 16))
        p.step()


def test_training_perplexity_is_the_mean_over_the_epoch_so_far():
    experiment = LanguageModelExperiment(short())
    p, losses = population(experiment, {}), []
    for t in range(11):
        p.reset_telemetry()
        p.step()
        losses.append(p.telemetry()["train_loss"].item() / 5)
        expected = sum(losses[8 * (t // 8) :]) / (t % 8 + 1)
        found = p.telemetry()
        assert found["train_log_perplexity"].item() == pytest.approx(expected)
        assert found["train_perplexity"].item() == pytest.approx(math.exp(expected))


def test_evaluation_reads_each_text_as_one_stream():
    experiment = LanguageModelExperiment(short())
    p = train(experiment, {"seed": 3, "dropout": 0.5}, steps=2)
    metrics = p.evaluate()
    network = p.modules.module.eval()
    weights = {n: x[0] for n, x in zip(p.modules.names, p.modules.views(p.modules.theta), strict=True)}
    for part in ("valid", "test"):
        text = experiment.corpus.part(part)
        h = c = torch.zeros(2, 1, 6, dtype=torch.float64)
        total = 0.0
        for token, target in itertools.pairwise(text):  # a word at a time
            features, h, c = torch.func.functional_call(network, weights, (token.view(1, 1), h, c))
            logits = features.flatten() @ weights["softmax.weight"].T + weights["softmax.bias"]
            total -= torch.log_softmax(logits, 0)[target].item()
        nats = total / (len(text) - 1)
        assert metrics[f"{part}_log_perplexity"].item() == pytest.approx(nats, rel=1e-12)
        assert metrics[f"{part}_perplexity"].item() == pytest.approx(math.exp(nats), rel=1e-12)


# --- populations ----------------------------------------------------------------------------------


def test_the_experiment_is_sound():
    experiment = LanguageModelExperiment(short())
    notes = check_experiment(
        experiment, {k: v for k, v in CONFIG.items() if k not in ("lr", "clip")} | {"dropout": 0.3}
    )
    assert notes["loss runs by"] == notes["evaluate runs by"] == "vmap"


MIXED = (
    {"seed": 0, "dropout": 0.2},
    {"seed": 0, "dropout": 0.2, "noise": Annealed(0.01)},
    {"seed": 1, "dropout": 0.5, "noise": Annealed(0.03), "clip": None},  # more noise makes rounding errors grow
    {"seed": 2, "dropout": 0.3, "noise": Annealed(0.1), "noise_on": "nonzero", "init": 0.3},
    {"seed": 3, "dropout": 0.25, "lr": Steps(0.5, at=(4,), factor=0.5)},
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("trace", [True, False])
def test_a_replica_alone_trains_as_in_company(dtype, tolerance, trace):
    experiment = LanguageModelExperiment(short())
    together = train(experiment, *MIXED, steps=12, dtype=dtype, trace=trace).modules.theta
    for p in (0, 2, 3, 4):
        alone = train(experiment, MIXED[p], steps=12, dtype=dtype, trace=trace).modules.theta[0]
        assert (alone - together[p]).abs().max() <= tolerance * together[p].abs().max().clamp(min=1)


def test_noise_of_eta_zero_is_no_noise_bit_for_bit(experiment):
    """Equal initial weights and masks: each random choice has a stream of its own."""
    settings = {"dropout": 0.25, "clip": 0.5}
    arms = [settings | {"noise": noise} for noise in (None, Annealed(0.0), Annealed(0.01))]
    silent, zero, noisy = train(experiment, *arms, dtype=torch.float32).modules.theta
    assert torch.equal(silent, zero)
    assert not torch.equal(silent, noisy)


def test_noise_comes_after_the_clip():
    """The clipped gradient has norm 5; what is applied has the noise's norm, sqrt(eta N) = 215.7 at H = 200."""
    corpus = load_corpus("generated")
    words = tuple(str(i) for i in range(10_000))
    wide = Corpus("corpus", "ten thousand words", words, corpus.train, corpus.valid, corpus.test, "f00d")
    experiment = LanguageModelExperiment(wide)
    config = {"units": 200, "unroll": 2, "batch_size": 2, "init": 2.0, "lr": 1.0, "clip": 5.0}
    replicas = [Replica.of(experiment, 0, config | {"noise": noise}) for noise in (None, Annealed(0.01))]
    p = Population(experiment, replicas, trace=False)
    before = p.modules.theta.clone()
    assert before.shape[1] == 4_653_200
    p.step()
    clipped, applied = (before - p.modules.theta).norm(dim=1).tolist()
    assert p.telemetry()["gradient_norm"][0] > 5 and p.telemetry()["clipped"][0] == 1
    assert clipped == pytest.approx(5, rel=1e-5)
    assert applied == pytest.approx(math.sqrt(0.01 * 4_653_200 + 25), rel=2e-3)


def test_dropout_rates_differ_between_replicas(experiment):
    p = population(experiment, {"dropout": 0.1}, {"dropout": 0.6}, dtype=torch.float32)
    masks = p._masks.refill(torch.tensor(0))
    assert len(masks) == 3
    for mask in masks.values():
        assert mask.shape == (2, 5, 4, 6)
        for row, rate in zip(mask, (0.1, 0.6), strict=True):
            assert row.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate))]
            assert (row == 0).double().mean().item() == pytest.approx(rate, abs=0.15)


def test_a_replica_that_diverges_counts_with_a_guess(experiment):
    assert experiment.diverged_metrics() == {
        "test_log_perplexity": math.log(64),
        "valid_log_perplexity": math.log(64),
    }
    p = train(experiment, {"seed": 0}, {"seed": 1, "lr": 1e38, "clip": None}, steps=4, dtype=torch.float32)
    assert p.evaluate()["test_log_perplexity"].shape == (1,)
    assert set(p.diverged) == {1}


# --- what is learned ------------------------------------------------------------------------------


def test_the_first_loss_is_that_of_a_guess(experiment):
    p = population(experiment, {"units": 200})
    assert p.evaluate()["test_log_perplexity"].item() == pytest.approx(math.log(64), rel=2e-3)
    p.step()
    assert p.telemetry()["train_loss"].item() == pytest.approx(5 * math.log(64), rel=1e-2)


@pytest.mark.slow
def test_a_model_approaches_the_entropy_and_never_crosses_it(experiment):
    """The likelihood ratio of model and chain has mean 1 on a text of the chain, whatever the model: that the model is
    better by more than ln(10^6) nats on the whole text has a probability below 10^-6.
    """
    corpus = experiment.corpus
    settings = {"units": 64, "unroll": 20, "batch_size": 20}
    epoch = experiment.epoch(Config(units=64))
    rate = Steps(1.0, at=tuple(epoch * e for e in range(3, 6)), factor=0.5)
    p = population(experiment, settings | {"lr": rate}, dtype=torch.float32, trace=True)
    seen = []
    for _ in range(6):
        for _ in range(epoch):
            p.step()
        seen.append({k: v.item() for k, v in p.evaluate().items()})
    for part in ("valid", "test"):
        floor, predictions = corpus.floors[part], len(corpus.part(part)) - 1
        final = seen[-1][f"{part}_log_perplexity"]
        assert final < floor + 0.25
        assert final > floor - math.log(1e6) / predictions
    assert seen[0]["test_log_perplexity"] < unigram_loss(corpus, "test")
    # order is used: with the words of each sentence in another order the same model is at a loss
    assert shuffled_loss(experiment, p) > seen[-1]["test_log_perplexity"] + 1.0


def shuffled_loss(experiment, p) -> float:
    """The model's test loss where the words within each sentence are in random order."""
    corpus, g = experiment.corpus, torch.Generator().manual_seed(0)
    end, ids, line = corpus.words.index("<eos>"), [], []
    for word in corpus.test.tolist():
        if word == end:
            ids += [line[i] for i in torch.randperm(len(line), generator=g)] + [end]
            line = []
        else:
            line.append(word)
    other = LanguageModelExperiment(
        Corpus("corpus", "shuffled", corpus.words, corpus.train, corpus.valid, torch.tensor(ids), "f00d")
    )
    q = Population(other, [Replica.of(other, 0, {"units": 64})], trace=False)
    q.modules.theta.copy_(p.modules.theta)
    return q.evaluate()["test_log_perplexity"].item()


@pytest.mark.slow
def test_first_updates_on_the_treebank():
    """From a guess among 10,000 words down towards the frequencies of words, with dropout, in float32."""
    folder = os.environ.get("GRADNOISE_DATA")
    if not folder or not Path(folder, "ptb", "ptb.train.txt").exists():
        pytest.skip("the Penn Treebank is not here; set GRADNOISE_DATA to a folder with ptb/ptb.train.txt")
    experiment = LanguageModelExperiment(load_corpus("ptb"))
    assert experiment.epoch(Config()) == 2323
    assert experiment.chance() == pytest.approx(math.log(639.3), abs=1e-4)
    settings = {"units": 200, "unroll": 20, "batch_size": 20, "dropout": 0.25}
    p = population(experiment, settings, dtype=torch.float32, trace=True)
    p.step()
    first = p.telemetry()["train_loss"].item() / 20
    assert math.exp(first) == pytest.approx(10_000, rel=0.02)
    for _ in range(69):
        p.step()
    p.reset_telemetry()
    for _ in range(10):
        p.step()
    assert p.telemetry()["train_loss"].item() / 20 < 7.0
