"""What the Python code of an experiment keeps between its calls: counters, flags, caches.

In a recorded step that code does not run again, and what is filled in the order of calls is no function of the seed.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor, nn

from gradnoise.population.fallbacks import ExperimentWarning

#: The search goes so deep into objects and containers, and into containers of so many entries.
DEPTH, ENTRIES = 3, 1000
#: So many changes are named.
NAMED = 3
#: Packages whose classes and functions keep no state of an experiment.
LIBRARIES = ("torch.", "numpy.", "gradnoise.population.")
#: What torch keeps in a module beside the user's own attributes.
OF_TORCH = frozenset(vars(nn.Module()))
#: What keeps its state in tensors, or is looked at on its own.
ELSEWHERE = (Tensor, nn.Module, type, types.ModuleType)


class KeptState(ExperimentWarning):
    """The code of a loss changes what it keeps, and a recorded step does not."""


def kept_sentence(changes: Sequence[str]) -> str:
    """Say what the code of a loss changes, and what to do."""
    more = f" and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
    return (
        f"the code of the loss changes {', '.join(changes[:NAMED])}{more}, which a recorded step does not, and a loop"
        " does once for each replica; if the loss depends on it, ask for the update as a tensor, loss(self, model,"
        " batch, config, t), or pass trace=False (--no-trace)"
    )


class Kept:
    """What is kept now, to be compared with what is kept later.

    Args:
        roots: an experiment and its models; or an optimizer or schedule.
    """

    def __init__(self, *roots: object) -> None:
        self._values: dict[str, Any] = {}
        self._filled: list[tuple[Any, Any]] = []
        self._seen: set[int] = set()
        for root in roots:
            for name, value in _places(root):
                self._look(name, value, DEPTH)

    def changes(self, after: Kept) -> list[str]:
        """Say what is another later, such as "Toy.calls (2, then 3)"."""
        both = [name for name in after._values if name in self._values]
        pairs = [(name, self._values[name], after._values[name]) for name in both]
        return [f"{name} ({old}, then {new})" for name, old, new in pairs if old != new]

    def empty_caches(self) -> None:
        """Take out of containers what was put into them since."""
        for container, entries in self._filled:
            if container == entries:
                continue
            container.clear()
            fill = container.extend if isinstance(container, MutableSequence) else container.update
            fill(entries)

    def _look(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, bool | int | float | str | None):
            self._values[name] = value
        elif depth and id(value) not in self._seen and not isinstance(value, ELSEWHERE):
            self._seen.add(id(value))
            self._look_into(name, value, depth - 1)

    def _look_into(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, itertools.count):
            self._values[name] = repr(value)
        elif isinstance(value, np.ndarray):
            if value.size <= ENTRIES:
                self._values[name] = value.tolist()
        elif isinstance(value, dict | list | set):
            self._values[name] = f"{len(value)} entries"
            if len(value) <= ENTRIES:
                self._filled.append((value, value.copy()))
                for key, entry in _entries(value):
                    self._look(f"{name}[{key!r}]", entry, depth)
        elif hasattr(value, "__dict__") and not callable(value) and not _of_library(type(value)):
            for inner, entry in _attributes(name, value):
                self._look(inner, entry, depth)


def _entries(container: Any) -> list[tuple[Any, Any]]:
    """Return the entries of a container that are told apart by a key or a place, which those of a set are not."""
    if isinstance(container, set):
        return []
    return list(container.items() if isinstance(container, dict) else enumerate(container))


def _places(root: object) -> Iterator[tuple[str, Any]]:
    """Yield what may keep something: attributes, class attributes, global and enclosing names that methods use."""
    if isinstance(root, types.FunctionType):
        yield from _attributes(root.__name__, root)
        yield from _names([root])
        return
    classes: dict[type, None] = {}
    named = [(f"model {n}".strip(), m) for n, m in root.named_modules()] if isinstance(root, nn.Module) else []
    for name, x in named or [(type(root).__name__, root)]:
        yield from _attributes(name, x)
        classes |= dict.fromkeys(c for c in type(x).__mro__ if not _of_library(c))
    functions: list[types.FunctionType] = []
    for c in classes:
        for name, value in vars(c).items():
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                functions.append(function)
            elif not name.startswith("__") and not hasattr(value, "__get__"):
                yield f"class {c.__name__}.{name}", value
    yield from _names(functions)


def attributes(x: object) -> dict[str, Any]:
    """Return the attributes of an object, also those that it keeps in slots."""
    slots = [name for c in type(x).__mro__ for name in _slots(c) if hasattr(x, name)]
    return {name: getattr(x, name) for name in slots} | getattr(x, "__dict__", {})


def _slots(c: type) -> tuple[str, ...]:
    names = vars(c).get("__slots__", ())
    return tuple(n for n in ((names,) if isinstance(names, str) else names) if n not in ("__dict__", "__weakref__"))


def _attributes(name: str, x: object) -> Iterator[tuple[str, Any]]:
    for key, value in attributes(x).items():
        if not (isinstance(x, nn.Module) and key in OF_TORCH):
            yield f"{name}.{key}", value


def _names(functions: Iterable[types.FunctionType]) -> Iterator[tuple[str, Any]]:
    """Yield the global and enclosing names that functions use, and those of functions that these call."""
    waiting = list(functions)
    known = set(waiting)
    while waiting:
        function = waiting.pop()
        code, space = function.__code__, function.__globals__
        values = [(n, space[n]) for n in code.co_names if n in space]
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # one that is still empty
                values.append((name, cell.cell_contents))
        for name, value in values:
            if not isinstance(value, types.FunctionType):
                yield name, value
            elif value not in known and not _of_library(value):
                known.add(value)
                waiting.append(value)


def _of_library(x: Any) -> bool:
    return f"{x.__module__}.".startswith(LIBRARIES)
