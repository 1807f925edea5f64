"""Which noise stream each parameter of an optimizer has, while groups are added and parameters replaced or frozen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from gradnoise.noise.gaussian import stream_key
from gradnoise.noise.gradients import Stream
from gradnoise.noise.naming import own_names


class Streams:
    """The noise streams of an optimizer's parameters.

    Args:
        optimizer: whose parameters.
        seed: of the noise.
        names: of the parameters; None for their places, "group.index".
        where: tells by the name whether a parameter gets noise; None for all. Without `names` it is given those that
            the optimizer was made with.

    Raises:
        ValueError: a parameter has no name, or `where` selects none or has no names to be given.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        seed: int,
        names: Mapping[Tensor, str] | None,
        where: Callable[[str], bool] | None,
    ) -> None:
        self._optimizer, self._seed, self._where = optimizer, seed, where
        self._names = None if names is None else WeakTensorKeyDictionary(names)
        self._streams: dict[Tensor, Stream | None] = {}  # None for parameters that get no noise
        # Of each list of parameters, what told them and what was found: the same from step to step.
        self._known: dict[int, tuple[tuple[list[int], list[bool]], list[Stream]]] = {}
        self._named = 0  # how often all were named
        self.gone: set[int] = set()
        """Keys that are no longer those of the parameters that they were of."""
        self._name_all()
        if not any(self._streams.values()):
            first = self._called()[self._places()[0][1]]
            raise ValueError(
                f"`where` selects no parameter of this optimizer; it is called with names such as {first!r}"
            )

    @property
    def keys(self) -> frozenset[int]:
        """Return the keys of the streams, one for each parameter that gets noise."""
        return frozenset(stream.key for stream in self._streams.values() if stream)

    def by_group(self) -> list[list[Stream]]:
        """Return the streams of each parameter group, one for a parameter that is listed twice."""
        named = self._named
        found = list(map(self._of, self._optimizer.param_groups))
        # What was found before all were named anew may have other names now.
        return found if named == self._named else list(map(self._of, self._optimizer.param_groups))

    def _of(self, group: Mapping[str, Any]) -> list[Stream]:
        listed = group["params"]
        state = list(map(id, listed)), [p.requires_grad for p in listed]
        known = self._known.get(id(listed))
        if known is not None and known[0] == state and len(self._known) <= len(self._optimizer.param_groups):
            return known[1]
        if len(self._known) >= len(self._optimizer.param_groups):  # a list is gone: let its parameters go
            self._name_all()
        found = self._found(listed)
        self._known[id(listed)] = state, found
        return found

    def _found(self, listed: list[Tensor]) -> list[Stream]:
        parameters = dict.fromkeys(listed)
        if not parameters.keys() <= self._streams.keys():
            self._name_all()  # a group was added, or parameters were replaced
        found = []
        for p in parameters:
            stream = self._streams[p]
            if stream is not None and p.requires_grad and not stream.trained:
                self._streams[p] = stream = stream._replace(trained=True)
            if stream is not None and (p.requires_grad or not stream.trained):
                found.append(stream)  # others are frozen; plain tensors may be master copies
        return found

    def named(self, name: str) -> tuple[int, Stream]:
        """Return the stream of this name, and the index of its parameter group.

        Raises:
            ValueError: there is none.
        """
        for i, streams in enumerate(self.by_group()):
            for stream in streams:
                if stream.name == name:
                    return i, stream
        known = [stream.name for stream in self._streams.values() if stream]
        if name in known:
            raise ValueError(f"{name!r} gets no noise now: it is frozen, or no longer in the optimizer")
        near = difflib.get_close_matches(name, known, n=1) or known[:1]
        raise ValueError(f"no parameter with noise is named {name!r}; the nearest is {near[0]!r}")

    def every(self) -> list[tuple[int, Stream]]:
        """Return the streams of all parameters with the indices of their groups, also of those without noise."""
        found = []
        for place, p in self._places():
            name = self._name(place, p)
            own = self._streams.get(p) or Stream(p, name, stream_key(self._seed, name))
            found.append((int(place.partition(".")[0]), own))
        return found

    def _places(self) -> list[tuple[str, Tensor]]:
        """Return each parameter with its place, "group.index", in the optimizer's order."""
        groups = enumerate(self._optimizer.param_groups)
        return [(f"{g}.{i}", p) for g, group in groups for i, p in enumerate(group["params"])]

    def _name_all(self) -> None:
        """Give streams to new parameters; others keep theirs, unless a new one is at the place that names them."""
        self._known.clear()
        self._named += 1
        places = self._places()
        now = {p for _, p in places}
        before, self._streams = self._streams, {p: stream for p, stream in self._streams.items() if p in now}
        self._add_missing(places)
        keys = [stream.key for stream in self._streams.values() if stream]
        if len(set(keys)) < len(keys):  # two parameters would get the same noise
            trained = {p for p, stream in self._streams.items() if stream and stream.trained}
            self._streams.clear()
            self._add_missing(places)
            for p, stream in self._streams.items():
                self._streams[p] = stream and stream._replace(trained=stream.trained or p in trained)
        for p, stream in before.items():
            other = self._streams.get(p)
            if stream is not None and (other is None or other.key != stream.key):
                self.gone.add(stream.key)

    def _add_missing(self, places: list[tuple[str, Tensor]]) -> None:
        wanted = self._wanted()
        for place, p in places:
            if p not in self._streams:
                name = self._name(place, p)
                self._streams[p] = Stream.of(p, name, self._seed) if wanted(p) else None

    def _called(self) -> Mapping[Tensor, str]:
        """Return the names that `where` is called with."""
        return own_names(self._optimizer) if self._names is None else self._names

    def _wanted(self) -> Callable[[Tensor], bool]:
        if (where := self._where) is None:
            return lambda p: True
        names = self._called()
        return lambda p: bool(where(names[p]))

    def _name(self, place: str, p: Tensor) -> str:
        if self._names is None:
            return place
        if p not in self._names:
            raise ValueError(
                f"parameter {place} (group.index) of shape {list(p.shape)} is in the optimizer but not in"
                " named_parameters; pass the names of all its parameters"
            )
        return self._names[p]
