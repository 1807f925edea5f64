"""What a user gives, brought to its declared type where that loses nothing, and refused in his own words where not.

One reader for every frozen dataclass of settings, `settle(self, error)` in its `__post_init__`, and for functions,
`@arguments(error)`. Ranges that a type cannot say are checked after it.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import reprlib
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", type(None): "None"}


@dataclass(frozen=True)
class Between:
    """A range that a number must lie in, as a mark of its declared type: `Annotated[int, Between(1)]`.

    nan lies in none.

    Args:
        low: the smallest number allowed.
        high: the largest.
    """

    low: float
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Say whether a number lies in it."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """Say the range in words."""
        if self == FINITE:
            return "that is finite"
        return f">= {self.low:g}" if self.high == math.inf else f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class Filled:
    """A mark of declared text that must not be blank, such as a name: `Annotated[str, Filled()]`."""

    def holds(self, value: str) -> bool:
        """Say whether a text is one."""
        return bool(value.strip())

    def __str__(self) -> str:
        """Say it in words."""
        return "that is not blank"


FINITE = Between(-sys.float_info.max, sys.float_info.max)
#: What a name is.
Name = Annotated[str, Filled()]
#: Of whole numbers that a store keeps.
STORED = Between(-(2**63), 2**63 - 1)


class WrongType(ValueError):
    """A value is of another type than was declared; the message says what is needed."""


def shown(value: object) -> str:
    """Return a value as a message shows it: short."""
    return _SHORT.repr(value)


def scalar(value: Any) -> Any:
    """Return the Python number that a NumPy scalar or a tensor of one number without axes holds; others as they are."""
    if type(value) in _WORDS or getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    return value.item()


def read(hint: Any, value: Any) -> Any:
    """Return a value as its declared type has it.

    A number of NumPy or torch becomes Python's, a whole float an int where an int is declared, and a list or range a
    tuple where a tuple is. Types that say nothing of plain values let everything pass.

    Raises:
        WrongType: it is of another type.
    """
    if get_origin(hint) is Annotated:
        return _marked(*get_args(hint), value=value)
    value = scalar(value) if hint in _WORDS or get_origin(hint) in (Union, types.UnionType) else value
    if hint in _WORDS:
        return _plain(hint, value)
    origin, of = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(of, value)
    if origin is tuple:
        return _tuple(of, value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(hint, value)
    if origin is Callable:
        return _instance(Callable, value, "a callable")
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _instance(hint, value, f"a {hint.__name__}, such as {hint.__name__}(...)")
    if hint is Path:
        if "\0" in str(_instance((str, Path), value, "a path")):
            raise WrongType("a path without a null character")
        return value
    if isinstance(hint, type) and hint.__module__.startswith("gradnoise.") and _can_tell(hint):
        return _instance(hint, value, f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}")
    return value


def _can_tell(kind: type) -> bool:
    """Say whether values can be asked whether they are of a kind, which of a protocol holds for some."""
    return not getattr(kind, "_is_protocol", False) or getattr(kind, "_is_runtime_protocol", False)


def _marked(hint: Any, *marks: Any, value: Any) -> Any:
    value = read(hint, value)
    for mark in marks:
        if isinstance(mark, Between | Filled) and value is not None and not mark.holds(value):
            raise WrongType(f"{_word(hint)} {mark}")
    return value


def _plain(kind: type, value: Any) -> Any:
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    good = isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not good:
        raise WrongType(_WORDS[kind])
    if isinstance(value, str) and not writable(value):
        raise WrongType("text that can be written: it has half of a pair of surrogates")
    if isinstance(value, str) and "\0" in value:
        raise WrongType("text without a null character")
    return value


def writable(text: str) -> bool:
    """Say whether text can be written as UTF-8, which half of a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    """Read a value as the first of some types that takes it as it is, else as the first that takes it at all."""
    words, found = [], []
    for kind in kinds:
        try:
            found.append(read(kind, value))
        except WrongType as error:
            words.append(str(error))
    if not found:
        raise WrongType(" or ".join(words))
    return next((x for x in found if x is value), found[0])


def _tuple(of: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    word = f"a tuple of which each is {_word(of[0])}" if of else "a tuple"
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__") or dataclasses.is_dataclass(value):
        raise WrongType(word)
    values = tuple(value)
    if not (len(of) == 2 and of[1] is Ellipsis):
        if len(values) != len(of):
            raise WrongType(f"{len(of)} values")
        return tuple(read(kind, x) for kind, x in zip(of, values, strict=True))
    kind, *marks = get_args(of[0]) if get_origin(of[0]) is Annotated else (of[0],)
    try:
        if kind is int and values and all(type(x) is int for x in values):  # of many, the ends tell the range
            for end in (min(values), max(values)):
                _marked(int, *marks, value=end)
            return values
        return tuple(read(of[0], x) for x in values)
    except WrongType:
        raise WrongType(word) from None


def _mapping(hint: Any, value: Any) -> Mapping[Any, Any]:
    """Read every value of a mapping whose declared type says what they are."""
    _instance(Mapping, value, _word(hint))
    keys, kind = get_args(hint)
    if kind is Any:
        if keys is str and not all(isinstance(k, str) for k in value):
            raise WrongType(f"{_word(hint)} whose keys are text")
        return value
    try:
        made = {read(keys, k): read(kind, v) for k, v in value.items()}
    except WrongType:
        raise WrongType(_word(hint)) from None
    return value if all(made.get(k) is v for k, v in value.items()) else made


def _word(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return " ".join((_word(inner), *(str(m) for m in marks if isinstance(m, Between | Filled))))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_word, get_args(hint)))
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        kind = get_args(hint)[1]
        return "a dict" if kind is Any else f"a dict of which each value is {_word(kind)}"
    return _WORDS.get(hint) or f"a {getattr(hint, '__name__', hint)}"


def _instance(kind: Any, value: Any, word: str) -> Any:
    if not isinstance(value, kind):
        raise WrongType(word)
    return value


@lru_cache
def hints_of(kind: Any) -> Mapping[str, Any]:
    """Return the declared types of a class or function; none where they cannot be found out, as in a function."""
    try:
        return get_type_hints(kind, include_extras=True)
    except Exception:  # whatever a name in a user's annotation stands for
        return {}


def checked(where: str, name: str, hint: Any, value: Any, error: type[Exception]) -> Any:
    """Return a value as its declared type has it, see `read`; raise `error` with a sentence where it is of another."""
    try:
        return value if isinstance(hint, TypeVar) else read(hint, value)
    except WrongType as wrong:
        is_class = isinstance(value, type)
        of = type(value).__name__
        article = "an" if of[0] in "aeiouAEIOU" else "a"
        given = f"the class {value.__name__} itself" if is_class else f"{shown(value)}, {article} {of}"
        raise error(f"{where}{name} is {given}; it must be {wrong}") from None


def arguments(error: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check what a function is called with against the types that it declares, as `settle` does for a dataclass.

    Args:
        error: what is raised where a value is of another type; the message names the argument.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature, owner = inspect.signature(function), function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound, hints = signature.bind(*args, **kwargs), hints_of(function)
            for name, value in bound.arguments.items():
                bound.arguments[name] = checked(f"{owner}: ", name, hints.get(name, Any), value, error)
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def settle(instance: Any, error: type[Exception], where: str = "") -> None:
    """Bring every field of a frozen dataclass to its declared type.

    Raises:
        error: a field is of another type; the message names it.
    """
    hints = hints_of(type(instance))
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        new = checked(where or f"{type(instance).__name__}: ", field.name, hints.get(field.name, Any), value, error)
        if new is not value:
            object.__setattr__(instance, field.name, new)
