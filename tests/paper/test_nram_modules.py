"""The modules against integer arithmetic, the double-sum rule and values worked out by hand."""

import itertools

import pytest
import torch
from torch.nn.functional import one_hot

from gradnoise.paper.nram.machine import modules as m
from gradnoise.paper.nram.machine.hard import INTEGERS
from gradnoise.paper.nram.machine.modules_table import BY_CODE, TABLE

RULES = {
    m.add: lambda a, b, size: (a + b) % size,
    m.subtract: lambda a, b, size: (a - b) % size,
    m.less_than: lambda a, b, size: int(a < b),
    m.less_or_equal: lambda a, b, size: int(a <= b),
    m.equal: lambda a, b, size: int(a == b),
    m.minimum: lambda a, b, size: min(a, b),
    m.maximum: lambda a, b, size: max(a, b),
}
FREE = [x for x in TABLE.values() if x.constant is None and x.name not in ("read", "write")]
binary = pytest.mark.parametrize("module", RULES, ids=lambda f: f.__name__)


def test_the_table_names_each_module_and_code_once():
    assert [BY_CODE[x.code] for x in TABLE.values()] == list(TABLE.values())
    assert {x.name for x in FREE} == set(m.FUNCTIONS) == set(INTEGERS)
    assert all(x.arity == 0 for x in TABLE.values() if x.constant is not None)


@pytest.mark.parametrize("module", FREE, ids=lambda x: x.name)
def test_distributions_and_integers_agree(module):
    arguments = torch.tensor(list(itertools.product(range(7), repeat=module.arity))).T
    expected = INTEGERS[module.name](*arguments) % 7
    assert torch.equal(m.FUNCTIONS[module.name](*one_hot(arguments, 7).float()).argmax(-1), expected)


@binary
@pytest.mark.parametrize("size", [3, 5, 8, 16, 24, 32])
def test_integers_give_integers_bit_for_bit(module, size):
    pairs = torch.tensor(list(itertools.product(range(size), repeat=2)))
    a, b = (one_hot(x, size).float() for x in pairs.T)
    expected = torch.tensor([RULES[module](i, j, size) for i, j in pairs.tolist()])
    assert torch.equal(module(a, b), one_hot(expected, size).float())


@pytest.mark.parametrize("size", [3, 8, 24])
def test_unary_modules_on_integers(size):
    x = torch.eye(size)
    assert torch.equal(m.increment(x), x[(torch.arange(size) + 1) % size])
    assert torch.equal(m.decrement(x), x[(torch.arange(size) - 1) % size])
    assert torch.equal(m.constant(2, x), x[2].expand(size, size))


def distributions(size, dtype):
    generator = torch.Generator().manual_seed(size)
    x = torch.rand(2, 20, size, generator=generator, dtype=torch.float64) ** 4
    return (x / x.sum(-1, keepdim=True)).to(dtype)


@binary
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [3, 12])
def test_distributions_follow_the_double_sum(module, size, dtype, tolerance):
    a, b = distributions(size, dtype)
    expected = torch.zeros(20, size, dtype=torch.float64)
    for i, j in itertools.product(range(size), repeat=2):
        expected[:, RULES[module](i, j, size)] += a[:, i].double() * b[:, j].double()
    found = module(a, b)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1).double(), torch.ones(20, dtype=torch.float64), rtol=0, atol=tolerance)


A, B = torch.tensor([0.5, 0.5, 0, 0, 0]), torch.tensor([0.25, 0, 0.75, 0, 0])


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (m.add, [0.125, 0.125, 0.375, 0.375, 0]),
        (m.subtract, [0.125, 0.125, 0, 0.375, 0.375]),
        (m.less_than, [0.25, 0.75, 0, 0, 0]),
        (m.less_or_equal, [0.125, 0.875, 0, 0, 0]),
        (m.equal, [0.875, 0.125, 0, 0, 0]),
        (m.maximum, [0.125, 0.125, 0.75, 0, 0]),
        (m.minimum, [0.625, 0.375, 0, 0, 0]),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_golden_values(module, expected):
    assert torch.equal(module(A, B), torch.tensor(expected, dtype=torch.float32))


def test_golden_values_of_memory():
    memory = one_hot(torch.tensor([3, 1, 4, 1, 2]), 5).float()
    assert torch.equal(m.read(memory, A), torch.tensor([0, 0.5, 0, 0.5, 0]))
    after = m.write(memory, A, B)
    assert torch.equal(after[0], torch.tensor([0.125, 0, 0.375, 0.5, 0]))
    assert torch.equal(after[1], torch.tensor([0.125, 0.5, 0.375, 0, 0]))
    assert torch.equal(after[2:], memory[2:])
