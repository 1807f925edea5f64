"""Tasks of the Neural GPU: numbers as bits, every answer against Python's own integers and lists."""

import random

import pytest
import torch

from gradnoise.paper.neural_gpu import TASKS, decode, encode
from gradnoise.paper.neural_gpu.tasks import ONE, OPERATOR, PAD, ZERO, Problems, carried, task_of
from gradnoise.population import PopulationError

LENGTHS = torch.tensor([3, 6, 9, 41])
N = 41


def problems(name: str, lengths=LENGTHS, size=N, count=60, seed=0) -> Problems:
    bits = torch.randint(2, (len(lengths), count, size), generator=torch.Generator().manual_seed(seed))
    return TASKS[name].make(lengths, bits)


def rows(name: str, **options):
    """(symbols in, symbols out, n) of every problem, as lists."""
    made = problems(name, **options)
    for tokens, targets, n in zip(made.tokens, made.targets, made.length.tolist(), strict=True):
        assert not tokens[:, n:].any() and not targets[:, n:].any()
        yield from ((x[:n], y[:n], n) for x, y in zip(tokens.tolist(), targets.tolist(), strict=True))


@pytest.mark.parametrize(("name", "function"), [("bmul", int.__mul__), ("badd", int.__add__)])
@pytest.mark.parametrize(("lengths", "size"), [(LENGTHS, N), (torch.tensor([401, 399]), 401)])
def test_arithmetic_against_pythons_integers(name, function, lengths, size):
    seen = set()
    for tokens, targets, n in rows(name, lengths=lengths, size=size):
        d = n // 2
        a, b = decode(tokens[:d]), decode(tokens[d + 1 :])
        assert a is not None and b is not None
        assert n % 2 == 1 and tokens == encode(a, b, d) and tokens[d] == OPERATOR
        assert decode(targets) == function(a, b)
        last = max(k for k, symbol in enumerate(targets) if symbol != PAD)
        assert targets[last] == ONE or (last == 0 and targets[0] == ZERO)  # no high zeros, zero is one digit
        assert set(targets[last + 1 :]) <= {PAD}
        seen.add((a, b))
    assert len(seen) > 60


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize(("name", "function"), [("bmul", int.__mul__), ("badd", int.__add__)])
def test_all_pairs_of_short_numbers(name, function, d):
    pairs = [(a, b) for a in range(2**d) for b in range(2**d)]
    bits = torch.tensor([[[a >> k & 1 for k in range(d)] + [b >> k & 1 for k in range(d)] + [1] for a, b in pairs]])
    made = TASKS[name].make(torch.tensor([2 * d + 1]), bits)
    for (a, b), tokens, targets in zip(pairs, made.tokens[0].tolist(), made.targets[0].tolist(), strict=True):
        assert tokens == encode(a, b, d)
        assert decode(targets) == function(a, b)


def test_the_example_of_the_model_paper():
    """6 * 10 = 60; the figure of the paper drops its last bit."""
    assert [s - ZERO for s in encode(6, 10, 4)[:4]] == [0, 1, 1, 0]
    assert [s - ZERO for s in encode(6, 10, 4)[5:]] == [0, 1, 0, 1]
    bits = torch.tensor([[[0, 1, 1, 0, 0, 1, 0, 1, 0]]])
    targets = TASKS["bmul"].make(torch.tensor([9]), bits).targets[0, 0].tolist()
    assert [s - ZERO for s in targets[:6]] == [0, 0, 1, 1, 1, 1] and targets[6:] == [PAD] * 3


def test_the_largest_product_fits():
    for d in (1, 5, 20, 200):
        made = TASKS["bmul"].make(torch.tensor([2 * d + 1]), torch.ones(1, 1, 2 * d + 1, dtype=torch.int64))
        assert decode(made.targets[0, 0].tolist()) == (2**d - 1) ** 2


def test_strings():
    for tokens, targets, n in rows("id"):
        assert targets == tokens and PAD not in tokens and len(tokens) == n
    for tokens, targets, _ in rows("rev"):
        assert targets == tokens[::-1]
    for tokens, targets, _ in rows("sort"):
        assert targets == sorted(tokens)
    for tokens, targets, n in rows("dup"):
        assert n % 2 == 0 and tokens[n // 2 :] == [PAD] * (n // 2)
        assert targets == 2 * tokens[: n // 2] and PAD not in targets


def test_problems_do_not_depend_on_who_stands_beside_them():
    bits = torch.randint(2, (4, 10, N), generator=torch.Generator().manual_seed(1))
    for task in TASKS.values():
        together = task.make(LENGTHS, bits)
        for p in range(4):
            alone = task.make(LENGTHS[p : p + 1], bits[p : p + 1])
            assert all(torch.equal(x[0], y[p]) for x, y in zip(alone, together, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_carrying(seed):
    rng = random.Random(seed)
    sums = [rng.randrange(300) for _ in range(30)]
    number = sum(s << k for k, s in enumerate(sums))
    assert carried(torch.tensor(sums)).tolist() == [number >> k & 1 for k in range(30)]


@pytest.mark.parametrize(("symbols", "number"), [([ZERO], 0), ([ONE, ZERO, PAD], 1), ([ZERO, ZERO, ONE], 4)])
def test_decoding(symbols, number):
    assert decode(symbols) == number


@pytest.mark.parametrize("symbols", [[], [PAD, PAD], [PAD, ONE], [ONE, PAD, ONE], [ONE, OPERATOR]])
def test_what_is_no_number(symbols):
    assert decode(symbols) is None


@pytest.mark.parametrize("problem", [(16, 0, 4), (0, -1, 4)])
def test_numbers_that_do_not_fit(problem):
    with pytest.raises(ValueError, match=r"is no number of 4 bits: allowed are 0 to 2\^4 - 1"):
        encode(*problem)
    with pytest.raises(ValueError, match="0 digits"):
        encode(0, 0, 0)


def test_an_unknown_task():
    with pytest.raises(PopulationError, match=r"no task 'bmull'.*did you mean 'bmul'"):
        task_of("bmull")
