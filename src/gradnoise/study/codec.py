"""Frozen dataclasses from the plain JSON that `canonical` wrote, by the types of their fields.

One reader for all that a store describes. Fields that are missing get their defaults and unknown ones are left out,
so that stores of older and of newer versions can be read.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from gradnoise.errors import StudyError

T = TypeVar("T")
PLAIN = (str, int, float, bool)


def read(kind: type[T], plain: Any) -> T:
    """Build a dataclass from its JSON.

    Args:
        kind: a dataclass whose fields are text, numbers, mappings, dataclasses, tuples of these, or None.
        plain: what `json.loads` returned.

    Raises:
        StudyError: the JSON holds something else.
    """
    try:
        return _dataclass(kind, plain)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise StudyError(f"what it holds is no {kind.__name__} ({error})") from error


def _dataclass(kind: type[T], plain: Any) -> T:
    if not isinstance(plain, Mapping):
        raise TypeError(f"{kind.__name__} is {plain!r}")
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind) if f.name in plain]  # type: ignore[arg-type]
    return kind(**{name: _value(hints[name], plain[name]) for name in names})


def _value(hint: Any, plain: Any) -> Any:
    """Build a value of a type; what only a mapping says is left as it is."""
    origin, of = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in of:
            return None
        (hint,) = (x for x in of if x is not type(None))
        return _value(hint, plain)
    if origin is tuple:
        if not isinstance(plain, list):
            raise TypeError(f"{plain!r} is no list")
        kinds = of[:1] * len(plain) if of[1:] == (Ellipsis,) else of
        return tuple(_value(x, value) for x, value in zip(kinds, plain, strict=True))
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, plain)  # type: ignore[arg-type]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(plain, Mapping):
            raise TypeError(f"{plain!r} is no mapping")
    elif hint in PLAIN and (
        not isinstance(plain, (int, float) if hint is float else hint) or (isinstance(plain, bool) and hint is not bool)
    ):
        raise TypeError(f"{plain!r:.80} is no {hint.__name__}")
    json.dumps(plain, ensure_ascii=False).encode()  # half of a pair of surrogates could not be written anywhere
    return plain
