"""Compiled kernels on disk, where that works: a cache that cannot be read or written never stops a step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


def compiled(signature: Any = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function by Numba without fast-math; cached on disk where there is a place to write.

    Args:
        signature: compile for these types now, and for no others.
        options: of `numba.njit`, over ours.
    """
    import numba  # takes long

    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Any:
        made: Any = numba.njit(**options)(function)
        keep_on_disk(made)
        if signature is not None:
            made.compile(signature)
            made.disable_compile()
        return made

    return decorate


def keep_on_disk(compiled: Any) -> None:
    """Have a Numba function keep its machine code in Numba's cache folder, if there is one that can be written."""
    try:
        compiled.enable_caching()
    except RuntimeError:  # Numba finds no such folder
        return
    compiled._cache = Cache(compiled._cache)


class Cache:
    """Numba's cache of one function, but that what is wrong with its files means only that it is not used.

    Files are damaged or empty after a crash or on a full disk, come from another version, or belong to somebody else.

    Args:
        cache: Numba's.
    """

    said = False

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *args: Any) -> Any:
        """Return a compiled function from the disk; None has it compiled."""
        try:
            return self._cache.load_overload(*args)
        except Exception as error:  # unpickling rubbish may raise anything
            self._say("read", error)
            try:
                self._cache.flush()  # what is compiled now can then be kept
            except Exception:
                return None
            return None

    def save_overload(self, *args: Any) -> None:
        """Write a compiled function to the disk, if possible."""
        try:
            self._cache.save_overload(*args)
        except Exception as error:
            self._say("written", error)

    def _say(self, what: str, error: Exception) -> None:
        if not Cache.said:
            Cache.said = True
            warnings.warn(
                f"compiled kernels could not be {what} in {self._cache.cache_path} ({type(error).__name__}: {error});"
                " they are compiled anew, which takes some seconds; empty that folder, or name another one by"
                " NUMBA_CACHE_DIR",
                stacklevel=2,
            )
