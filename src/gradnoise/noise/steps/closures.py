"""Which arguments of `step` are functions that make gradients: closures, wherever they stand, whatever their name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeAlias

Place: TypeAlias = int | str
"""Where an argument stands: its index or its keyword."""

_FUNCTIONS = FunctionType, MethodType, BuiltinFunctionType, functools.partial


class Closures:
    """Finds the functions among the arguments of an optimizer's `step`, and learns which of them make gradients.

    In the usual place of a closure, the parameter of `step` that is called `closure` or else its first, a function is
    taken for one until a step does not call it. In other places a function counts once it was seen to make gradients.
    Models and other objects that can be called count in the usual place alone.
    """

    def __init__(self) -> None:
        self._makes: dict[Place, bool] = {}  # what was learned
        self._usual: dict[Any, int] = {}  # of each `step`, where its closure stands

    def among(self, step: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Place, Callable[..., Any]]:
        """Return the functions among the arguments of a call by place.

        Args:
            step: the function that is called; None where that is not known.
            args: the optimizer and what else has no keyword.
            kwargs: the others.
        """
        if len(args) < 2 and not kwargs:
            return {}
        usual = "closure" if "closure" in kwargs else self._place(step)
        self._makes.setdefault(usual, True)
        given: dict[Place, Any] = {**dict(enumerate(args)), **kwargs}
        del given[0]
        return {place: x for place, x in given.items() if isinstance(x, _FUNCTIONS) or (place == usual and callable(x))}

    def makes(self, place: Place) -> bool:
        """Tell whether a function in this place is known to make gradients."""
        return self._makes.get(place, False)

    def made(self, place: Place) -> None:
        """Take note that a function has made gradients."""
        self._makes.setdefault(place, True)

    def passed_over(self, place: Place) -> None:
        """Take note of a step that did not call a function, and hence updates by gradients that were there."""
        self._makes[place] = False

    def _place(self, step: Any) -> int:
        if step not in self._usual:
            try:
                names = list(inspect.signature(step).parameters)
            except (TypeError, ValueError):  # nothing that is written in Python
                names = []
            self._usual[step] = names.index("closure") if "closure" in names else 1
        return self._usual[step]
