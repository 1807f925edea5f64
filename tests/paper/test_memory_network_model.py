"""The memory network against a slow reference, its gradients, its flat lists of words, and an oracle for task 1."""

import numpy as np
import pytest
import torch
from torch import nn

from gradnoise.data.babi import NIL, Encoded, Questions, encode, load_babi
from gradnoise.paper.memory_network import Batch, Memories, MemoryNetwork, noisy_times
from gradnoise.paper.memory_network.encoding import ENCODINGS, dimension_weights, position_weights, time_weights
from gradnoise.paper.memory_network.memories import padded_length
from gradnoise.paper.memory_network.model import TYINGS

S, D, LONGEST = 4, 3, 3


def toy() -> Encoded:
    """Five words and nil, S = 4, so V' = 9; stories of 1 to 4 sentences with repeats."""
    sentences = np.array([[0, 0, 0], [1, 2, 3], [4, 1, 0], [2, 5, 0], [3, 0, 0]])
    story = np.array([[1, 0, 0, 0], [2, 1, 0, 0], [3, 3, 2, 1], [1, 2, 3, 0]])
    n = (story != 0).sum(1)
    part = Questions(story, n, np.array([3, 4, 3, 2]), np.array([1, 5, 2, 2]), np.ones(4, int))
    return Encoded(("nil", "a", "b", "c", "d", "e"), sentences, part, part, part)


def network(tying="adjacent", encoding="code", hops=2, linear=False, seed=0) -> MemoryNetwork:
    torch.manual_seed(seed)
    model = MemoryNetwork(9, S, D, hops, tying, encoding).double()
    model.linear.fill_(linear)
    for table in model.tables:
        table.data.mul_(10)  # scores of order one
    return model


def whole_batch(data: Encoded, encoding="code", times=None, **options) -> Batch:
    (batch,) = Memories(data, data.train, encoding).batches(np.arange(len(data.train)), 100, times, **options)
    return batch._replace(weight=batch.weight.double(), question=batch.question.double())


# --- position encoding ----------------------------------------------------------------------------


def position_weight(encoding: str, k: int, j: int, own: int, dim: int) -> float:
    """l_kj as published, for a sentence of `own` words."""
    if encoding == "bow":
        return 1.0
    if encoding == "paper":
        return (1 - j / own) - (k / dim) * (1 - 2 * j / own)
    whole = LONGEST + 1
    return 1 + 4 * (k - (dim + 1) / 2) * (j - (whole + 1) / 2) / (dim * whole)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dim", [1, 5])
def test_position_weights_have_rank_two(encoding, dim):
    lengths = np.array([3, 1, 2])
    alpha, h = position_weights(encoding, lengths, LONGEST)
    g = dimension_weights(encoding, dim).numpy()
    for u, own in enumerate(lengths):
        for j in range(1, LONGEST + 1):
            for k in range(1, dim + 1):
                expected = position_weight(encoding, k, j, own, dim) if j <= own else 0.0
                assert alpha[u, j - 1] + g[k - 1] * h[u, j - 1] == pytest.approx(expected)


def test_the_programs_encoding_is_twice_the_papers_up_to_centring():
    k, j, dim, own = 2, 3, 5, 4
    paper = position_weight("paper", k, j, own, dim)
    assert paper == pytest.approx(0.5 + 2 * (k / dim - 0.5) * (j / own - 0.5))
    assert 1 + 4 * (k / dim - 0.5) * (j / own - 0.5) == pytest.approx(2 * paper)


# --- forward pass ---------------------------------------------------------------------------------


def embed(ids, table, encoding, time=None):
    """A sentence word by word: sum_j l_j * E[x_j], and its time word."""
    dim = table.shape[1]
    out = torch.zeros(dim, dtype=torch.float64)
    own = sum(i != NIL for i in ids)
    for j, i in enumerate(ids, 1):
        if i != NIL:
            weights = [position_weight(encoding, k, j, own, dim) for k in range(1, dim + 1)]
            out = out + torch.tensor(weights, dtype=torch.float64) * table[i - 1]
    if time is not None:
        last = [position_weight(encoding, k, LONGEST + 1, own, dim) for k in range(1, dim + 1)]
        weights = last if encoding == "code" else [1.0] * dim
        out = out + torch.tensor(weights, dtype=torch.float64) * table[5 + time - 1]
    return out


def slow_logits(model, data, row, encoding, linear):
    """One question, slot by slot, with all S slots in the softmax."""
    part, adjacent = data.train, model.H is None
    u = embed(data.sentences[part.question[row]], model.tables[0 if adjacent else 2], encoding)
    for hop in range(model.hops):
        inputs, outputs = (model.tables[hop], model.tables[hop + 1]) if adjacent else model.tables[:2]
        memories = torch.zeros(2, S, D, dtype=torch.float64)
        for i in range(part.n[row]):
            for which, table in enumerate((inputs, outputs)):
                ids = data.sentences[part.story[row, i]]
                memories[which, i] = embed(ids, table, encoding, time=part.n[row] - i)
        s = memories[0] @ u
        p = s if linear else s.softmax(0)
        u = (u if adjacent else model.H @ u) + p @ memories[1]
    return torch.cat([torch.zeros(1, dtype=torch.float64), model.tables[-1] @ u])


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("tying", TYINGS)
def test_logits_equal_the_slow_reference(tying, encoding, linear):
    data, model = toy(), network(tying, encoding, linear=linear)
    logits = model(whole_batch(data, encoding))
    for row in range(len(data.train)):
        expected = slow_logits(model, data, row, encoding, linear)
        torch.testing.assert_close(logits[row], expected, rtol=1e-6, atol=1e-6)  # weights are kept in float32


def test_empty_slots_take_attention_and_give_nothing():
    data, model = toy(), network(hops=1)
    _, (p,) = model.read(whole_batch(data))
    assert p.shape == (4, S)
    torch.testing.assert_close(p.sum(1), torch.ones(4, dtype=torch.float64))
    assert (p[0, 1:] > 0).all() and p[0, 1:].unique().numel() == 1  # three empty slots, score 0 each
    state, _ = model.read(whole_batch(data))
    full = network(hops=1)
    full.slots = 40
    batch = whole_batch(data)
    wide = batch._replace(slot=batch.slot // S * 40 + batch.slot % S)
    assert not torch.allclose(full.read(wide)[0], state)  # so the number of slots matters


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("tying", TYINGS)
def test_gradients_against_finite_differences(tying, linear):
    data, model = toy(), network(tying, linear=linear)
    batch = whole_batch(data)
    names = [name for name, _ in model.named_parameters()]

    def loss(*tables):
        logits = torch.func.functional_call(model, dict(zip(names, tables, strict=True)), (batch,))
        return nn.functional.cross_entropy(logits, batch.answer, reduction="sum")

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()))


def test_nil_has_no_row_and_its_logit_is_zero():
    model = network()
    assert [tuple(t.shape) for t in model.tables] == [(9, D)] * 3
    assert (model(whole_batch(toy()))[:, NIL] == 0).all()


def test_initial_weights_are_independent_normals_of_sd_a_tenth():
    torch.manual_seed(0)
    model = MemoryNetwork(300, 10, 40)
    first, second = model.tables[0].detach(), model.tables[1].detach()
    assert first.std().item() == pytest.approx(0.1, rel=0.02) and abs(first.mean()) < 0.004
    assert abs((first * second).mean()) < 4e-4


@pytest.mark.parametrize(("option", "value"), [("tying", "none"), ("encoding", "words"), ("dim", 0), ("hops", 0)])
def test_unknown_options_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        MemoryNetwork(9, S, **{option: value})


# --- lists of words -------------------------------------------------------------------------------


def test_padding_changes_no_bit():
    data, model = toy(), network()
    short, long = whole_batch(data, pad=False), whole_batch(data)
    assert long.word.numel() == 64 > short.word.numel()
    assert torch.equal(model(short), model(long))


def test_batches_follow_the_rows_and_their_order():
    data, model = toy(), network()
    rows = np.array([2, 0, 2, 1, 3])
    batches = Memories(data, data.train, "code").batches(rows, 2)
    assert [len(b.answer) for b in batches] == [2, 2, 1]
    doubled = [b._replace(weight=b.weight.double(), question=b.question.double()) for b in batches]
    together = torch.cat([model(b) for b in doubled])
    torch.testing.assert_close(together, model(whole_batch(data))[rows])


def test_padded_lengths_are_few_and_not_much_longer():
    lengths = [padded_length(n) for n in range(1, 10_000)]
    assert all(padded >= n for n, padded in enumerate(lengths, 1))
    assert all(padded <= 1.25 * n + 64 for n, padded in enumerate(lengths, 1))
    assert len(set(lengths)) < 30 and padded_length(2048) == 2048


def test_times_count_down_to_one_without_noise():
    data = toy()
    times = Memories(data, data.train, "code").countdown(np.array([2, 0, 1]))
    assert times.tolist() == [4, 3, 2, 1, 1, 2, 1]


def test_noisy_times_are_uniform_subsets_in_descending_order():
    n = np.full(20_000, 10)
    times = noisy_times(np.random.default_rng(0), n, 0.1, slots=50).reshape(-1, 10)
    assert (np.diff(times) < 0).all() and times.min() == 1
    gap = times.max(1) == 11
    # e = 1 with probability 1/2, and then one of 11 times is left out: 10 of 11 subsets hold time 11
    assert gap.mean() == pytest.approx(0.5 * 10 / 11, abs=0.015)
    left_out = 66 - times[gap].sum(1)
    assert np.bincount(left_out)[1:11] / gap.sum() == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_noisy_times_draw_every_number_of_gaps_and_stop_at_the_last_slot():
    n = np.full(6000, 48)
    free = noisy_times(np.random.default_rng(0), n, 0.1, slots=100).reshape(-1, 48)
    assert free.max() == 53  # ceil(4.8) = 5 more, all of them possible
    capped = noisy_times(np.random.default_rng(0), n, 0.1, slots=50).reshape(-1, 48)
    assert (capped == np.minimum(free, 50)).all()
    assert (noisy_times(np.random.default_rng(0), n, 0.0, slots=50).reshape(-1, 48) == np.arange(48, 0, -1)).all()


# --- oracle ---------------------------------------------------------------------------------------


def test_a_hand_set_network_answers_task_1_perfectly():
    """The person matches, the newest match wins, and the place of that sentence is the answer."""
    data = encode(load_babi("auto"), [1])
    words = {w: i - 1 for i, w in enumerate(data.words)}
    people = [words[w] for w in ("mary", "john", "daniel", "sandra")]
    places = [words[w] for w in ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")]
    model = MemoryNetwork(len(words) - 1 + data.slots, data.slots, 12, 1, encoding="bow")
    read, answer = (t.detach().zero_() for t in model.tables)
    for d, person in enumerate(people):
        read[person, d] = 20.0  # a match scores 400
    for word in ("where", "is"):
        read[words[word], 4] = 0.5  # the question points along direction 4 with length 1
    newest_first = torch.arange(data.slots - 1, -1, -1.0)
    read[len(words) - 1 :, 4] = 10 * newest_first  # newer: 10 more
    for d, place in enumerate(places):
        answer[place, 5 + d] = 10.0
    for part in (data.train, data.validation, data.test):
        (batch,) = Memories(data, part, "bow").batches(np.arange(len(part)), len(part))
        assert (model(batch).argmax(1) == batch.answer).all()


def test_time_words_stand_at_the_last_position():
    assert time_weights("code", 3) == (1.0, (4 - 2.5) / 4) and time_weights("paper", 3) == (1.0, 0.0)
