"""Random numbers that a model or loss draws under vmap, a row for each replica: a function of (seed, t, which one).

vmap would draw those of all replicas from one generator, so that a replica's depended on who trains beside it. Here
every random operation that vmap makes of the replicas' own, with a leading [P], is answered by counter-based numbers
under each replica's key. They are operations of the recorded step like any other: t is a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gradnoise.errors import PopulationError
from gradnoise.noise.gaussian import word_rows
from gradnoise.population.reasons import place_of_call

aten = torch.ops.aten

#: Random operations in one step at most; they share a key and are told apart by this part of the step's number.
MOST_CALLS = 1 << 20
#: dtype -> bits of a number in [0, 1) that it can hold; others hold 24.
_BITS = {torch.float16: 11, torch.bfloat16: 8, torch.float64: 32}


class NoRowsError(RuntimeError):
    """A random operation that cannot be made a row for each replica; a loop can run it."""


@torch.library.custom_op("gradnoise::uniform_rows", mutates_args=())
def uniform_rows(keys: Tensor, t: Tensor, call: int, count: int) -> Tensor:
    """Return numbers in (0, 1), float64 [P, count]: those of random operation number `call` of update t, int64 []."""
    step = t * MOST_CALLS + call
    words = word_rows(keys.view(torch.uint64), step.expand(len(keys)), count, keys.device)
    return (words.to(torch.float64) + 0.5) * 2.0**-32


@uniform_rows.register_fake
def _(keys: Tensor, t: Tensor, call: int, count: int) -> Tensor:
    return keys.new_empty(len(keys), count, dtype=torch.float64)


class RandomRows(TorchDispatchMode):
    """Answers random operations on tensors [P, ...] within a block, or on those of one replica.

    Args:
        keys: int64 [P], bits of a `stream_key` for each replica.
        t: the update, int64 [].
        alone: whether tensors are those of one replica, without a leading [P]; P is 1 then, and operations that are not
            known here draw from torch's generator.
    """

    def __init__(self, keys: Tensor, t: Tensor, *, alone: bool = False) -> None:
        super().__init__()
        self.keys, self.t, self.alone, self.calls = keys, t, alone, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Run an operation.

        Raises:
            NoRowsError: it is random, and not one that is known here.
        """
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if kwargs.get("generator") is not None:
            raise PopulationError(
                f"{name} draws from a generator of its own{place_of_call()}, whose numbers hang on the replica's"
                " neighbours; leave it out: torch's are seeded for the replica and the update"
            )
        answer = ANSWERS.get(name)
        if answer is None and self.alone:
            return func(*args, **kwargs)
        if answer is None:
            raise NoRowsError(f"{name} draws random numbers that vmap has no row for each replica of")
        return answer(self, func, args, kwargs)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return numbers in (0, 1), float64 [P, ...]."""
        if not self.alone and (not shape or shape[0] != len(self.keys)):
            raise NoRowsError(f"random numbers of shape {tuple(shape)} are not one row for each replica")
        found = uniform_rows(self.keys, self.t, self.calls, math.prod(shape) // len(self.keys))
        self.calls += 1
        return found.view(tuple(shape))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normals, float64 [P, ...]."""
        return torch.special.ndtri(self.uniform(shape))


Answer = Callable[[RandomRows, Any, Sequence[Any], Mapping[str, Any]], Any]


def _below_one(u: Tensor, dtype: torch.dtype) -> Tensor:
    """Round numbers to a dtype, down, so that none becomes 1."""
    scale = float(1 << _BITS.get(dtype, 24))
    return ((u * scale).floor() / scale).to(dtype)


def _like(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[int], torch.dtype, Any]:
    x = args[0]
    return x.shape, kwargs.get("dtype") or x.dtype, kwargs.get("device") or x.device


def _new(shape: Sequence[int], kwargs: Mapping[str, Any], usual: torch.dtype) -> tuple[Sequence[int], torch.dtype, Any]:
    return shape, kwargs.get("dtype") or usual, kwargs.get("device") or "cpu"


def _rand(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    like = func.overloadpacket.__name__.endswith("_like")
    shape, dtype, device = _like(args, kwargs) if like else _new(args[0], kwargs, torch.get_default_dtype())
    return _below_one(rows.uniform(shape), dtype).to(device)


def _randn(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    like = func.overloadpacket.__name__.endswith("_like")
    shape, dtype, device = _like(args, kwargs) if like else _new(args[0], kwargs, torch.get_default_dtype())
    return rows.normal(shape).to(device, dtype)


def _randint(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    like, with_low = func.overloadpacket.__name__.endswith("_like"), "low" in func._overloadname
    numbers = list(args[1:] if like else args[:-1])
    low, high = numbers if with_low else (0, numbers[0])
    shape, dtype, device = _like(args, kwargs) if like else _new(args[-1], kwargs, torch.int64)
    return (rows.uniform(shape) * (high - low)).floor().add(low).to(device, dtype)


def _bernoulli(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    x, in_place = args[0], func.overloadpacket.__name__.endswith("_")
    p = args[1] if len(args) > 1 else 0.5 if in_place else x  # what is at its default does not come along
    drawn = (rows.uniform(x.shape).to(x.device) < p).to(x.dtype)
    return x.copy_(drawn) if in_place else drawn


def _uniform_(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    x: Tensor = args[0]
    low, high = (*args[1:], *(0.0, 1.0)[len(args) - 1 :])
    return x.copy_(low + (high - low) * _below_one(rows.uniform(x.shape), x.dtype).to(x.device))


def _normal_(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    x: Tensor = args[0]
    mean, std = (*args[1:], *(0.0, 1.0)[len(args) - 1 :])
    return x.copy_(mean + std * rows.normal(x.shape).to(x.device))


def _normal(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    mean, std = args[0], args[1] if len(args) > 1 else 1.0
    if not any(isinstance(x, Tensor) for x in (mean, std)):  # normal(mean, std, size)
        shape, dtype, device = _new(args[2], kwargs, torch.get_default_dtype())
        return (mean + std * rows.normal(shape)).to(device, dtype)
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return mean + std * rows.normal(shape).to(tensors[0].device, tensors[0].dtype)


def _exponential_(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    x, rate = args[0], args[1] if len(args) > 1 else 1.0
    return x.copy_((-rows.uniform(x.shape).log() / rate).to(x.device))


def _native_dropout(rows: RandomRows, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    x, p, train = args
    if train is False:
        return func(*args, **kwargs)
    mask = rows.uniform(x.shape).to(x.device) >= p
    return x * mask * (1.0 / (1.0 - p) if p < 1 else 0.0), mask


#: Name of the operation in aten -> what answers it.
ANSWERS: Mapping[str, Answer] = {
    "rand": _rand,
    "rand_like": _rand,
    "randn": _randn,
    "randn_like": _randn,
    "randint": _randint,
    "randint_like": _randint,
    "bernoulli": _bernoulli,
    "bernoulli_": _bernoulli,
    "uniform_": _uniform_,
    "normal_": _normal_,
    "normal": _normal,
    "exponential_": _exponential_,
    "native_dropout": _native_dropout,
}
