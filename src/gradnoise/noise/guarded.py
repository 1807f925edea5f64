"""What keeps a handle from being misused without a word: attributes that are only read, pauses that are entered."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from gradnoise.noise.warning import say

T = TypeVar("T")


class ReadOnly(Generic[T]):
    """An attribute that is set once; it is kept under its name with an underscore before it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        return cast(T, self) if instance is None else getattr(instance, f"_{self._name}")

    def __set__(self, instance: Any, value: T) -> None:
        if hasattr(instance, f"_{self._name}"):
            raise AttributeError(
                f"{self._name} of a handle cannot become {value!r}, since the noise would stay what it is; detach()"
                " it and attach again"
            )
        setattr(instance, f"_{self._name}", value)


class Pause(contextlib.ContextDecorator):
    """A context without noise, that may be entered again and again, or decorate a function.

    Args:
        switch: says whether noise is paused, and returns whether it was.
    """

    def __init__(self, switch: Callable[[bool], bool]) -> None:
        self._switch = switch
        self._before: list[bool] = []
        self._used = False

    def __enter__(self) -> None:
        self._used = True
        self._before.append(self._switch(True))

    def __exit__(self, *_: object) -> None:
        self._switch(self._before.pop())

    def __call__(self, func: Any) -> Any:
        """Return a function that is without noise while it runs."""
        self._used = True
        return super().__call__(func)

    def __del__(self) -> None:
        """Warn of a pause that nobody entered, as the statement `noise.paused()` makes one."""
        if not self._used and not sys.is_finalizing():
            say("paused() alone pauses nothing; write `with noise.paused():` around the updates that get no noise")
