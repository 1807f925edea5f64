"""Configurations as text: what a trial's id is the hash of, and what a store keeps.

Ids are for ever. A dataclass is therefore written under a tag that stays what it was when the class was first
released, wherever the class lives now. A function of t is written under its name, with a hash of its values.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.given import writable

#: Key under which the tag of a dataclass is written.
TAG_KEY = ""
#: Key under which a function of t has a hash of what it returns.
VALUES_KEY = "values"

#: Tag -> where the class lives. Fixed here: a store never decides what is imported.
BUILT_IN = {
    "gradnoise.schedule:Annealed": ("gradnoise.noise.schedule", "Annealed"),
    "gradnoise.schedule:Fixed": ("gradnoise.noise.schedule", "Fixed"),
    "gradnoise.schedule:Relative": ("gradnoise.noise.schedule", "Relative"),
    "gradnoise.population.groups:Group": ("gradnoise.population.groups", "Group"),
    "gradnoise.population.groups:Groups": ("gradnoise.population.groups", "Groups"),
    "gradnoise.population.optimizers:AdaGrad": ("gradnoise.population.optimizers", "AdaGrad"),
    "gradnoise.population.optimizers:Adam": ("gradnoise.population.optimizers", "Adam"),
    "gradnoise.population.optimizers:AdamW": ("gradnoise.population.optimizers", "AdamW"),
    "gradnoise.population.optimizers:L2": ("gradnoise.population.optimizers", "L2"),
    "gradnoise.population.optimizers:NAdam": ("gradnoise.population.optimizers", "NAdam"),
    "gradnoise.population.optimizers:RMSProp": ("gradnoise.population.optimizers", "RMSProp"),
    "gradnoise.population.optimizers:SGD": ("gradnoise.population.optimizers", "SGD"),
    "gradnoise.population.rates:Cosine": ("gradnoise.population.rates", "Cosine"),
    "gradnoise.population.rates:Exponential": ("gradnoise.population.rates", "Exponential"),
    "gradnoise.population.rates:InverseSqrt": ("gradnoise.population.rates", "InverseSqrt"),
    "gradnoise.population.rates:LinearDecay": ("gradnoise.population.rates", "LinearDecay"),
    "gradnoise.population.rates:Steps": ("gradnoise.population.rates", "Steps"),
}


class DamagedError(StudyError):
    """What was to be a configuration is no JSON."""


def tag_of(kind: type | FunctionType) -> str:
    """Return the tag of a dataclass or function: its own attribute `tag`, or "module:qualname".

    Give your own class a `tag` before the first study with it, and it may be moved and renamed later.
    """
    return kind.__dict__.get("tag") or f"{kind.__module__}:{kind.__qualname__}"


def canonical(value: Any) -> str:
    """Return the canonical JSON of a configuration: sorted keys, shortest floats, dataclasses by tag and fields.

    Raises:
        StudyError: the value holds something that JSON cannot give back.
    """
    try:
        return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except StudyError:
        raise
    except RecursionError:
        raise StudyError("a configuration holds itself, or is nested too deeply to be stored") from None
    except ValueError as error:
        raise StudyError(f"a configuration holds what cannot be stored: {error}") from error


def restore(text: str, known: Iterable[type | FunctionType] = ()) -> Any:
    """Read the configuration that `canonical` wrote.

    Args:
        text: canonical JSON.
        known: dataclasses and functions that may occur in it besides our own; nothing that the text names is imported.

    Raises:
        StudyError: the text holds a dataclass or function that is not known, other fields than it has, or other values
            than it now returns.
    """
    by_tag = {tag_of(kind): kind for kind in known}

    def build(plain: dict[str, Any]) -> Any:
        if TAG_KEY not in plain:
            return plain
        tag = plain.pop(TAG_KEY)
        kind = _built_in(tag) or by_tag.get(tag) if isinstance(tag, str) else None
        if kind is None:
            raise StudyError(
                f"the study was run with {tag!r}, which neither this package nor the experiment's own module defines;"
                " run it with the code that it was run with"
            )
        if isinstance(kind, FunctionType):
            return _same_function(kind, tag, plain)
        try:
            return kind(**plain)
        except (TypeError, ValueError) as error:
            raise StudyError(f"the study was run with a {tag} that cannot be made again: {error}") from error

    try:
        return json.loads(text, object_hook=build)
    except (ValueError, RecursionError) as error:
        if isinstance(error, StudyError):
            raise
        raise DamagedError(f"a configuration in the store is damaged: {error}") from error


def checked_id(id: str) -> str:
    """Check an id as it came out of a store, which anyone may have written: ids become names of folders.

    Raises:
        StudyError: it is not of the form of an id.
    """
    if not (isinstance(id, str) and re.fullmatch("[0-9a-f]{12}|[0-9a-f]{16}", id)):
        raise StudyError(f"{id!r:.80} is no id of a trial or chunk")
    return id


def dataclasses_in(value: Any) -> Iterator[type | FunctionType]:
    """Yield the types of all dataclasses in a configuration, and its functions."""
    if isinstance(value, FunctionType):
        yield value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from dataclasses_in(item)


def _same_function(function: FunctionType, tag: str, plain: Mapping[str, Any]) -> FunctionType:
    if plain.get(VALUES_KEY) != _values_hash(function):
        raise StudyError(
            f"the study was run with a function {tag} that returned other values than it does now; bring them back, or"
            " choose another folder with --out"
        )
    return function


def _values_hash(function: Callable[[int], Any]) -> str:
    """Return a hash of what a function returns at t = 0, 1, 2, 4, ... 2^20, which stands for its code."""
    values = []
    for t in (0, *(1 << k for k in range(21))):
        try:
            values.append(repr(float(function(t))))
        except Exception as error:  # a schedule may end somewhere
            values.append(type(error).__name__)
    return hashlib.sha256(" ".join(values).encode()).hexdigest()[:12]


def _function(function: FunctionType) -> dict[str, str]:
    if "<" in function.__qualname__:  # <lambda> or <locals>
        raise StudyError(
            f"a configuration keeps a function by its name, and {function.__qualname__} has none that is found again:"
            " write `def` at the top level of a file, or a frozen dataclass with a method __call__"
        )
    return {TAG_KEY: tag_of(function), VALUES_KEY: _values_hash(function)}


def _built_in(tag: str) -> type | None:
    if tag not in BUILT_IN:
        return None
    module, name = BUILT_IN[tag]
    return getattr(importlib.import_module(module), name)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if "<locals>" in kind.__qualname__:
            raise StudyError(
                f"{kind.__qualname__} is defined in a function; a resumed study finds only module-level ones"
            )
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not _is_later(f, value)}
        return {TAG_KEY: tag_of(kind)} | {name: _plain(x) for name, x in fields.items()}
    if isinstance(value, FunctionType):
        return _function(value)
    if isinstance(value, Mapping):
        if wrong := [k for k in value if not isinstance(k, str)]:
            raise StudyError(f"keys of a configuration are text, not {wrong[0]!r}")
        for key in value:
            _plain(key)
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise StudyError(f"a configuration may hold finite numbers only, not {value}; None can stand for no limit")
    if isinstance(value, str) and not writable(value):
        raise StudyError(f"a configuration holds {value!r}, with half of a pair of surrogates: it cannot be written")
    if isinstance(value, int | float | str | bool | None):
        return value
    raise StudyError(
        "a configuration may hold numbers, text, None, lists, frozen dataclasses and functions of t, not"
        f" {type(value).__name__} ({value!r}); write a noise schedule as a dataclass such as Annealed(0.01)"
    )


def _is_later(field: dataclasses.Field[Any], value: Any) -> bool:
    """Tell whether a field, marked `later` in its metadata, came after the first release and has its default.

    Such a field is not written: the ids of earlier trials stay what they are.
    """
    return bool(field.metadata.get("later")) and getattr(value, field.name) == field.default
