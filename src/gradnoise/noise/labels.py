"""Label noise: wrong labels on purpose, one of the things that gradient noise is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.noise.gaussian import check_step, stream_key, word_rows


def flip_labels(labels: Tensor, rate: float, classes: int, *, seed: int, t: int) -> Tensor:
    """Replace labels by other ones, each with probability `rate`, uniformly over the other classes.

    A function of its arguments alone: no generator is touched, and the same labels come out on any device.

    Args:
        labels: integers in 0 .. classes - 1, any shape.
        rate: in [0, 1]; 0 changes nothing.
        classes: how many there are, >= 2.
        seed: any integer.
        t: update, >= 0: every update draws anew.

    Returns:
        Labels of the same shape, dtype and device.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> y = flip_labels(y, 0.1, classes=10, seed=0, t=t)
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be a probability in [0, 1], got {rate!r}")
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes!r}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}; noise on real targets is a line of torch")
    n = labels.numel()
    words = word_rows([stream_key(seed, "labels")], check_step(t), 2 * n, labels.device)[0]
    # Words are uniform on the integers below 2^32.
    flipped = words[:n] < round(rate * 2**32)
    other = 1 + (words[n:] * (classes - 1) >> 32)
    new = (labels.flatten() + other * flipped) % classes
    return new.to(labels.dtype).view(labels.shape)
