"""The contract of the code that draws noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian.parts import Part


class Backend(Protocol):
    """Draws noise on one kind of device; the modules `reference`, `numba_backend` and `triton_backend` are such.

    All give the bits of `reference`. Arguments are checked already: tensors lie on one device and have the shapes and
    dtypes stated here. 64-bit integers come as int64 tensors with the same bits. Every function writes to its first
    argument, tells autograd so, and reads no other tensor back to the host if that lies on a GPU.
    """

    def add_parts_(self, parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
        """Add noise to parts of streams.

        Args:
            parts: floating-point tensors on devices of this backend, with their places in their streams.
            t: step in [0, 2^64).
            sigma: standard deviation > 0.
            scale: 0-dim floating-point tensor on any device that sigma is multiplied by, or None.
        """
        ...

    def add_rows_(
        self, x: Tensor, offsets: NDArray[Any], keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None
    ) -> None:
        """Scale rows and add noise: x[p, offsets[s] + i] = scale[p] x[...] + sigma[p] z(keys[p, s], t[p], i).

        Args:
            x: float32 or float64 [P, N]; elements of a row contiguous, rows at any distance.
            offsets: int64 [S + 1] on the host, from 0 to N, not decreasing.
            keys: int64 [P, S].
            t: int64 [P], any stride.
            sigma: float64 [P]; it is rounded to the dtype of x.
            scale: factors [P] in the dtype of x, or None. A row with sigma 0 is only scaled, and one without scale
                or with scale 1 as well is left as it is.
        """
        ...

    def bernoulli_rows_(self, out: Tensor, keys: Tensor, t: Tensor, keep: Tensor) -> None:
        """Fill a matrix with masks: out[p, i] = 1/keep[p] where word i of the row's stream is < keep[p] 2^32, else 0.

        Args:
            out: float32 or float64 [P, n]; elements of a row contiguous, rows at any distance.
            keys: int64 [P].
            t: int64 [P], any stride.
            keep: float64 [P] in [0, 1].
        """
        ...

    def fill_words_(self, out: Tensor, keys: Tensor, t: Tensor) -> None:
        """Fill a matrix with words: out[p, i] = word i of stream keys[p] at step t[p].

        Args:
            out: int64 [P, n], contiguous.
            keys: int64 [P].
            t: int64 [P], any stride.
        """
        ...
