"""Label noise: wrong labels on purpose, one of the things that gradient noise is compared with."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor

from gradnoise.noise.gaussian import check_step, stream_key, word_rows

MOST_CLASSES = 1 << 31


def flip_labels(
    labels: Tensor, rate: float, classes: int, *, seed: int, t: int, part: int = 0, ignore_index: int | None = None
) -> Tensor:
    """Replace labels by other ones, each with probability `rate`, uniformly over the other classes.

    A function of its arguments alone: no generator is touched, and the same labels come out on any device. Which ones
    are flipped goes by their places in `labels`, so that pieces of one minibatch need numbers of their own.

    Args:
        labels: integers in 0 .. classes - 1, any shape; no one-hot vectors.
        rate: in [0, 1]; 0 changes nothing.
        classes: how many there are, >= 2.
        seed: any integer.
        t: update, >= 0: every update draws anew.
        part: number of this micro-batch, or of the rank that has it, >= 0: the parts of an update draw apart.
        ignore_index: label that is no class, such as -100, and is left as it is; None where all are classes.

    Returns:
        Labels of the same shape, dtype and device.

    Raises:
        ValueError: an argument is out of range, or a label is. On a GPU the host waits for that answer.

    Example:
        >>> y = flip_labels(y, 0.1, classes=10, seed=0, t=t)
    """
    _check(labels, rate, classes, ignore_index)
    if not (isinstance(part, Integral) and part >= 0):
        raise ValueError(f"part must be an integer >= 0, got {part!r}")
    stream = f"labels {part}" if part else "labels"
    n = labels.numel()
    words = word_rows([stream_key(seed, stream)], check_step(t), 2 * n, labels.device)[0]
    # Words are uniform on the integers below 2^32.
    flipped = words[:n] < round(rate * 2**32)
    other = 1 + (words[n:] * (classes - 1) >> 32)
    new = (labels.flatten() + other * flipped) % classes
    new = new.to(labels.dtype).view(labels.shape)
    return new if ignore_index is None else torch.where(labels == ignore_index, labels, new)


def _check(labels: Tensor, rate: float, classes: int, ignore_index: int | None) -> None:
    if not (isinstance(rate, Real) and 0 <= rate <= 1):
        raise ValueError(f"rate must be a probability in [0, 1], got {rate!r}")
    if not isinstance(classes, Integral) or not 2 <= classes <= MOST_CLASSES:
        raise ValueError(f"classes must be an integer of at least 2 and at most {MOST_CLASSES:,}, got {classes!r}")
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor of integers, got a {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}; noise on real targets is a line of torch")
    if (most := torch.iinfo(labels.dtype).max) < classes - 1:
        raise ValueError(f"labels are {labels.dtype}, which holds no more than {most}, and there are {classes} classes")
    if isinstance(ignore_index, Integral) and not torch.iinfo(labels.dtype).min <= ignore_index <= most:
        raise ValueError(f"no label is ignore_index={ignore_index}: labels are {labels.dtype}, which cannot hold it")
    if ignore_index is not None and (not isinstance(ignore_index, Integral) or 0 <= ignore_index < classes):
        raise ValueError(
            f"ignore_index must be an integer that is no class, hence not in 0 .. {classes - 1}, got {ignore_index!r}"
        )
    _check_values(labels, classes, ignore_index)


def _check_values(labels: Tensor, classes: int, ignore_index: int | None) -> None:
    kept = labels if ignore_index is None else labels[labels != ignore_index]
    if not kept.numel():
        return
    low, high = torch.stack(kept.aminmax()).tolist()
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        hint = "" if ignore_index is not None else f"; pass ignore_index={bad} if it stands for no label"
        raise ValueError(f"labels must be in 0 .. {classes - 1}, got {bad}{hint}")
    rows = labels.numel() // classes
    # Labels of such a shape look like one-hot vectors by chance once in classes^(rows (classes - 1)).
    if labels.ndim < 2 or labels.shape[-1] != classes or rows * (classes - 1) * math.log10(classes) < 6:
        return
    if low == 0 and high == 1 and bool((labels.sum(-1) == 1).all()):
        raise ValueError(
            f"labels of shape {list(labels.shape)} are one-hot vectors of {classes} classes, each number of which would"
            " be flipped by itself; pass labels.argmax(-1)"
        )
