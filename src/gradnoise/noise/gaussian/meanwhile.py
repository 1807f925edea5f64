"""The first updates on a CPU: while Numba compiles on a thread of its own, plain torch draws the same numbers."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from gradnoise.noise.gaussian import reference
from gradnoise.noise.gaussian.contract import Backend
from gradnoise.noise.gaussian.parts import Part

MOST = 1 << 22
"""Elements that torch is asked for meanwhile, some half a second of work; with more, waiting for Numba is quicker."""


class Meanwhile:
    """A backend until Numba's can be had, see `contract.Backend`; if it never can, torch stays, and a warning says so.

    Only noise on parts begins by torch: it stands between a script and its first update. All else waits for Numba.

    Args:
        become: takes the backend that is to serve all later calls; called once.
    """

    def __init__(self, become: Callable[[Backend], None]) -> None:
        self._become = become
        self._compiling: threading.Thread | None = None
        self._failure: Exception | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._wait)  # a child would inherit the compiler's locks, held for ever

    def add_parts_(self, parts: Sequence[Part], t: int, sigma: float, scale: Tensor | None) -> None:
        """Add noise to parts."""
        compiling = self._compiling
        if (compiling and not compiling.is_alive()) or sum(part.x.numel() for part in parts) > MOST:
            self._end().add_parts_(parts, t, sigma, scale)
            return
        reference.add_parts_(parts, t, sigma, scale)
        if compiling is None:  # only now, as the two would be in each other's way
            like = [(part.x.dtype, part.x.numel()) for part in parts]
            # No daemon: at its end Python waits for it, rather than pull the ground from under a compiler.
            self._compiling = threading.Thread(target=self._compile, args=(like,), name="gradnoise-compile")
            self._compiling.start()

    def add_rows_(
        self, x: Tensor, offsets: NDArray[Any], keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None
    ) -> None:
        """Scale rows and add noise."""
        self._end().add_rows_(x, offsets, keys, t, sigma, scale)

    def bernoulli_rows_(self, out: Tensor, keys: Tensor, t: Tensor, keep: Tensor) -> None:
        """Fill a matrix with masks."""
        self._end().bernoulli_rows_(out, keys, t, keep)

    def fill_words_(self, out: Tensor, keys: Tensor, t: Tensor) -> None:
        """Fill a matrix with words."""
        self._end().fill_words_(out, keys, t)

    def _compile(self, like: Sequence[tuple[Any, int]]) -> None:
        try:
            from gradnoise.noise.gaussian import numba_backend

            numba_backend.compile_for(like)
        except Exception as error:
            self._failure = error

    def _wait(self) -> None:
        if self._compiling is not None:
            self._compiling.join()

    def _end(self) -> Backend:
        """Return the backend that serves from now on."""
        self._wait()
        backend: Backend = reference
        try:
            if self._failure is not None:
                raise self._failure
            from gradnoise.noise.gaussian import numba_backend as backend
        except Exception as error:
            warnings.warn(
                f"Numba is installed but does not work here ({type(error).__name__}: {error}): plain torch draws the"
                " same noise some 40 times slower; mend Numba, or uninstall it",
                stacklevel=2,
            )
        self._become(backend)
        return backend
