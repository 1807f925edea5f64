"""Every random choice is keyed; no generator but our own is touched."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import MIXED, net_experiment, replica

from gradnoise.noise.gaussian import stream_key
from gradnoise.population import Minibatches, Population, derive_seed
from gradnoise.population.randomness import permutation, seeded, seeded_for

integers = st.integers(-20, 20) | st.integers(-(2**40), 2**40)
choices = st.tuples(integers, integers, st.sampled_from(["init", "noise", "1/init", "", "0/noise"]))
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [
        ((0, 0, "init"), 5824836073494530521),
        ((0, 0, "noise"), 7012560265599635137),
        ((3, 17, "batches"), 4353964796388399920),
        ((0, -1, "dropout"), 2094974819903910567),
    ],
)
def test_known_seeds(arguments, seed):
    # Frozen: results of earlier studies and their checkpoints depend on them.
    assert derive_seed(*arguments) == seed


@given(a=choices, b=choices)
def test_seeds_are_distinct_and_fit_every_generator(a, b):
    assert 0 <= derive_seed(*a) < 2**63
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)


def test_a_replica_uses_its_seeds():
    run = replica(7, study_seed=2)
    seeds = {purpose: run.seed_for(purpose) for purpose in ("init", "batches", "dropout", "noise")}
    assert len(set(seeds.values())) == 4 and seeds["noise"] == derive_seed(2, 7, "noise")


def test_seeded_puts_the_generator_back():
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    first = torch.rand(2)
    with seeded(5):
        inside = torch.rand(3)
    with pytest.raises(KeyError), seeded(6):
        raise KeyError
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)
    with seeded(5):
        assert torch.equal(torch.rand(3), inside)


def test_seeded_for_gives_each_key_and_update_its_own_numbers():
    state = torch.get_rng_state()
    drawn = {}
    for key, t in ((3, 0), (3, 1), (4, 0), (3, 0)):
        with seeded_for(key, t, CPU):
            drawn.setdefault((key, t), []).append(torch.rand(3).tolist())
    assert drawn[3, 0][0] == drawn[3, 0][1] and len({str(x[0]) for x in drawn.values()}) == 3
    assert torch.equal(torch.get_rng_state(), state)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6), n=st.integers(1, 200))
def test_permutation(seed, epoch, n):
    order = permutation(seed, epoch, n)
    assert order.sort().values.tolist() == list(range(n))
    assert torch.equal(permutation(seed, epoch, n), order)
    if n > 20:
        assert not torch.equal(order, permutation(seed, epoch + 1, n))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 40), data=st.data(), seed=st.integers(0, 2**40))
def test_minibatches_pass_through_the_data(n, data, seed):
    size = data.draw(st.integers(1, n))
    x = torch.arange(n)
    batches = Minibatches((x, x * 10), size)
    per_epoch = n // size
    for epoch in range(3):
        seen = []
        for i in range(per_epoch):
            a, b = batches(seed, epoch * per_epoch + i)
            assert len(a) == size and torch.equal(b, a * 10)
            seen += a.tolist()
        assert len(set(seen)) == per_epoch * size  # none twice within an epoch
        assert size > n // 2 or len(seen) > n - size  # what waits is less than a minibatch


def test_minibatches_need_no_history():
    batches = Minibatches((torch.arange(50),), 7)
    forward = [batches(3, t)[0].tolist() for t in range(20)]
    assert [batches(3, t)[0].tolist() for t in reversed(range(20))] == forward[::-1]
    assert [batches(4, t)[0].tolist() for t in range(20)] != forward


def test_every_example_comes_in_time():
    # 10 examples in batches of 4: two wait in every epoch, others in the next.
    batches = Minibatches((torch.arange(10),), 4)
    assert {i for t in range(20) for i in batches(0, t)[0].tolist()} == set(range(10))


@pytest.mark.parametrize(
    ("lengths", "size", "message"),
    [
        ((5, 6), 2, r"equal lengths, got \[5, 6\]"),
        ((5, 5), 0, r"size 0 is not in 1\.\.5"),
        ((5, 5), 6, r"size 6 is not in 1\.\.5"),
    ],
)
def test_minibatches_that_cannot_be(lengths, size, message):
    with pytest.raises(ValueError, match=message):
        Minibatches(tuple(torch.zeros(n) for n in lengths), size)


def test_nobody_elses_generator_is_touched(tmp_path):
    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]

    before = states()
    engine = Population(net_experiment(poison={3: 1}), MIXED)
    for _ in range(3):
        engine.step()
    engine.evaluate()
    engine.load_state_dict(engine.state_dict())
    assert states() == before


def test_the_global_seed_has_no_say():
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        engine = Population(net_experiment(), MIXED, trace=False)
        for _ in range(3):
            engine.step()
        paths.append(engine.modules.theta)
    assert torch.equal(*paths)


def test_noise_streams_are_the_replicas_and_parameters_own():
    engine = Population(net_experiment(), MIXED, trace=False)
    keys = engine._parts[0].tables.at(0).noise_keys.tolist()
    assert keys[1][2] == stream_key(MIXED[1].seed_for("noise"), engine.modules.names[2])
    assert keys[0] == keys[1] and keys[2] == keys[3]  # pairs
    distinct = {key for row in (keys[0], keys[2], *keys[4:]) for key in row}
    assert len(distinct) == 5 * len(engine.modules.names)
