"""Public functions of the noise streams: they check their arguments and hand the work to a backend."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian.arguments import (
    ArrayLike,
    check_matrix,
    check_scale,
    check_step,
    integers,
    offsets_of,
    reals,
    steps,
)
from gradnoise.noise.gaussian.backends import backend_of
from gradnoise.noise.gaussian.contract import Backend
from gradnoise.noise.gaussian.parts import Part, is_plain
from gradnoise.noise.gaussian.plans import recall, remember


def add_rows_(
    x: Tensor,
    *,
    offsets: ArrayLike,
    keys: ArrayLike,
    t: ArrayLike | int,
    sigma: ArrayLike,
    scale: Tensor | None = None,
) -> None:
    """Add Gaussian noise to a matrix in place: x[p, offsets[s] + i] += sigma[p] z(keys[p, s], t[p], i).

    In float32 the noise is float32(sigma) z, in float64 sigma z, rounded once before the addition. One pass,
    no temporary of the size of x, on up to torch.get_num_threads() threads; the result does not depend on
    them. With `scale` each row is first multiplied by its scale and rounded, in the same pass: the bits are
    those of `x.mul_(scale[:, None])` before the noise.

    Keys, t and sigma may be given as tensors on the GPU where x lies. They are then used there: nothing is copied
    and the host does not wait, but their values cannot be checked.

    Args:
        x: float32 or float64 [P, N]; elements of a row contiguous, rows at any distance.
        offsets: integers [S + 1] from 0 to N, not decreasing: they cut each row into S named segments.
        keys: uint64 [P, S], the `stream_key` of each segment (or int64 with the same bits, on a GPU).
        t: integers >= 0, the step of each row [P] or of all rows [].
        sigma: float64 [P], standard deviations >= 0. Rows with sigma 0 are only scaled; those with scale 1 as well
            are left untouched, bit for bit.
        scale: factors [P] in the dtype of x and on its device, such as those of clipping; None for ones.

    Raises:
        ValueError: an argument has another shape, dtype or range.

    Example:
        >>> x = torch.zeros(2, 5)
        >>> keys = [[stream_key(seed, name) for name in ("a", "b")] for seed in (0, 1)]
        >>> add_rows_(x, offsets=[0, 3, 5], keys=keys, t=0, sigma=[0.1, 0.0])
    """
    check_matrix("x", x)
    rows, columns = x.shape
    cuts = offsets_of(offsets, columns)
    key = integers("keys", keys, (rows, len(cuts) - 1), x.device)
    step = steps(t, rows, x.device)
    sigmas = reals("sigma", sigma, (rows,), x.device)
    if scale is not None:
        check_scale(scale, x)
        scale = scale.detach()
    backend_of(x).add_rows_(x, cuts, key, step, sigmas, scale)


def add_(tensors: Sequence[Tensor], *, keys: Sequence[int], t: int, sigma: float) -> None:
    """Add Gaussian noise to tensors in place: element i (row-major) of tensors[s] += sigma z(keys[s], t, i).

    This is the function for noise on anything that is not the gradient of an optimizer's parameter: weights,
    activations, inputs. float32 and float64 as in `add_rows_`; float16 and bfloat16 are added to in float32 and
    rounded once. No temporary is larger than some 10^5 elements.

    Args:
        tensors: dense real floating-point tensors of any shape, stride and device.
        keys: the `stream_key` of each tensor.
        t: step >= 0.
        sigma: standard deviation >= 0; 0 changes nothing.

    Raises:
        ValueError: the numbers of tensors and keys differ, t or sigma is out of range, or a tensor is not
            floating-point.
    """
    if len(tensors) != len(keys):
        raise ValueError(f"each tensor needs one key, got {len(tensors)} tensors and {len(keys)} keys")
    if not (len(tensors) and sigma and add_whole_(tensors, tuple(keys), t=t, sigma=sigma)):
        add_parts_(list(map(Part, tensors, keys)), t=t, sigma=sigma)


def add_parts_(parts: Sequence[Part], *, t: int, sigma: float, scale: Tensor | None = None) -> None:
    """Add Gaussian noise to parts of streams in place, such as the shards of a gradient.

    Args:
        parts: tensors with their streams and their places there.
        t: step >= 0.
        sigma: standard deviation >= 0; 0 changes nothing.
        scale: 0-dim tensor that sigma is multiplied by, such as a loss scale; it is read on its own device.

    Raises:
        ValueError: t or sigma is out of range, or a tensor is not floating-point.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and >= 0, got {sigma}")
    t = check_step(t)
    if sigma == 0:
        return
    batches: dict[Backend, list[Part]] = {}
    for part in parts:
        if not part.x.dtype.is_floating_point:
            raise ValueError(f"noise goes onto real floating-point tensors, got {part.x.dtype}")
        batches.setdefault(backend_of(part.x), []).append(part)
    for backend, batch in batches.items():
        backend.add_parts_(batch, t, sigma, scale)


def add_whole_(
    tensors: Sequence[Any], keys: tuple[int, ...], *, t: int, sigma: float, scale: Tensor | None = None
) -> bool:
    """Do what `add_parts_` does to whole tensors, faster where they are many; see `is_plain` for which.

    Returns:
        Whether it was done: False for tensors of other kinds.
    """
    runs = recall(tensors, keys)
    if runs is None and not is_plain(tensors):
        return False
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and >= 0, got {sigma}")
    t = check_step(t)
    backend: Any = backend_of(tensors[0])
    if not hasattr(backend, "add_whole_"):
        backend.add_parts_(list(map(Part, tensors, keys)), t, sigma, scale)
        return True
    if runs is None and (runs := backend.lay_out(tensors, _keys(keys))) is not None:
        remember(tensors, keys, runs)
    backend.add_whole_(tensors, keys, runs, t, sigma, scale)
    return True


@functools.lru_cache(maxsize=64)
def _keys(keys: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return keys as an array: those of an optimizer are the same in every step."""
    return np.array(keys, dtype=np.uint64)


def square_sum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of squares of all elements of real tensors on one device, 0-dim in float64 where that has it."""
    x = tensors[0]
    batch = getattr(backend_of(x), "square_sum", None) if is_plain(tensors) else None
    if batch is not None:
        return torch.tensor(batch(tensors), dtype=torch.float64, device="cpu")
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    return torch.stack(torch._foreach_norm(list(tensors), 2, wide)).square().sum()  # pyright: ignore


def normal(key: int, t: int, count: int, start: int = 0) -> Tensor:
    """Return standard normals z(key, t, i) of one stream, for i = start .. start + count - 1.

    Args:
        key: `stream_key` of the stream.
        t: step >= 0.
        count: how many.
        start: index of the first.

    Returns:
        float32 [count]. Each is within 2.5e-6 of Box-Muller in exact arithmetic on the same words.

    Example:
        >>> normal(stream_key(0, "weight"), t=0, count=2)
    """
    z = torch.from_numpy(np.zeros(count, dtype=np.float32))  # torch.zeros may hang in a forked process
    add_parts_([Part(z, key, torch.tensor([start], device="cpu"))], t=t, sigma=1.0)
    return z


def word_rows(keys: ArrayLike, t: ArrayLike | int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the first Philox words of several streams: element i of a row is word i mod 4 of block i // 4.

    Args:
        keys: uint64 [P], the `stream_key` of each row; used where they lie if that is `device`, as in `add_rows_`.
        t: step >= 0, one for all rows [] or one for each [P].
        count: words of each row.
        device: of the result.

    Returns:
        int64 [P, count], uniform on the integers of [0, 2^32).
    """
    rows = len(keys)
    out = torch.empty(rows, count, dtype=torch.int64, device=device)
    key, step = integers("keys", keys, (rows,), out.device), steps(t, rows, out.device)
    backend_of(out).fill_words_(out, key, step)
    return out


def bernoulli_rows_(out: Tensor, *, keys: ArrayLike, t: ArrayLike | int, keep: ArrayLike) -> None:
    """Fill a matrix with dropout masks: out[p, i] = 1/keep[p] where word i < keep[p] 2^32, else 0.

    Word i of row p is number i of `word_rows` for keys[p] and t[p]. Keys, t and keep may lie on a GPU, as in
    `add_rows_`.

    Args:
        out: float32 or float64 [P, n]; elements of a row contiguous, rows at any distance.
        keys: uint64 [P], the `stream_key` of each row; use another stream than for noise.
        t: integers >= 0, the step of each row [P] or of all rows [].
        keep: float64 [P] in [0, 1], the probability to keep an element.

    Raises:
        ValueError: an argument has another shape, dtype or range.
    """
    check_matrix("out", out)
    rows = len(out)
    key, step = integers("keys", keys, (rows,), out.device), steps(t, rows, out.device)
    backend_of(out).bernoulli_rows_(out, key, step, reals("keep", keep, (rows,), out.device, most=1.0))
