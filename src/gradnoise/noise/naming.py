"""Names of parameters, which decide what noise they get: the same model has the same names in any wrapper."""

from __future__ import annotations

import gc
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradnoise.noise.warning import say

WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
"""Parts of names that torch.compile, activation checkpointing and FSDP1 put in."""

PREFIXES = ("module.", "_module.")
"""What DistributedDataParallel and DataParallel, and Opacus, put before every name."""


def names_of(named_parameters: Iterable[tuple[str, Tensor]]) -> dict[Tensor, str]:
    """Return the name of each parameter, without what wrappers add; a tied parameter goes by its first name.

    Args:
        named_parameters: (name, parameter) pairs, as `model.named_parameters()` gives them.

    Raises:
        ValueError: they are no such pairs, or two parameters have the same name.
    """
    names: dict[Tensor, str] = {}
    for name, p in _pairs(named_parameters):
        names.setdefault(p, ".".join(part for part in name.split(".") if part not in WRAPPERS))
    # Again and again: a bare model with a part named "module" may be wrapped, too.
    while prefix := next((x for x in PREFIXES if names and all(n.startswith(x) for n in names.values())), ""):
        names = {p: name.removeprefix(prefix) for p, name in names.items()}
    if len(set(names.values())) < len(names):
        repeated = next(n for n in names.values() if operator.countOf(names.values(), n) > 1)
        raise ValueError(
            f"named_parameters gives the name {repeated!r} to two parameters, whose noise would be equal; give each a"
            " name of its own"
        )
    return names


def _pairs(named_parameters: Any) -> Iterator[tuple[str, Tensor]]:
    wanted = "named_parameters must be (name, parameter) pairs, as model.named_parameters() gives them, got"
    if isinstance(named_parameters, (Mapping, str)) or not isinstance(named_parameters, Iterable):
        hint = "; call it" if inspect.isroutine(named_parameters) else ""
        hint = "; pass its items()" if isinstance(named_parameters, Mapping) else hint
        raise ValueError(f"{wanted} {_kind(named_parameters)}{hint}")
    for pair in named_parameters:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise ValueError(f"{wanted} {_kind(pair)} among them")
        name, p = pair
        if not (isinstance(name, str) and isinstance(p, Tensor)):
            raise ValueError(f"{wanted} a pair of {_kind(name)} and {_kind(p)}")
        yield name, p


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def own_names(optimizer: Optimizer) -> dict[Tensor, str]:
    """Return the names that an optimizer's parameters have of itself: it was made with `model.named_parameters()`.

    Raises:
        ValueError: it was not.
    """
    pairs: list[tuple[str, Tensor]] = []
    for group in optimizer.param_groups:
        names = group.get("param_names", ())
        if len(names) != len(group["params"]):
            raise ValueError(
                "`where` is given names of parameters, and this optimizer has none for its parameters; pass"
                " named_parameters=model.named_parameters()"
            )
        pairs += zip(names, group["params"], strict=True)
    return names_of(pairs)


def about_prefix(names: Mapping[Tensor, str]) -> None:
    """Warn of names of which some have what a wrapper puts before every name, beside names of something else.

    Args:
        names: without what all of them have.
    """
    for prefix in PREFIXES:
        inside = {p: name for p, name in names.items() if name.startswith(prefix)}
        if inside and (prefix == "_module." or _are_in_wrapper(inside)):
            first = next(iter(inside.values()))
            other = next(name for name in names.values() if not name.startswith(prefix))
            say(
                f"names of a wrapped model are given, as {first!r}, beside others, as {other!r}: {prefix!r} is"
                " taken away only where all names begin with it, so that the noise is not that of the bare model;"
                f" pass the names that wrapped.{prefix}named_parameters() gives"
            )


def _are_in_wrapper(parameters: Mapping[Tensor, str]) -> bool:
    """Tell whether parameters are those of a wrapper: a part of a model may be called "module", too."""
    kinds = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    wrappers = [x for x in gc.get_objects() if issubclass(type(x), kinds)]
    return any(p in parameters for x in wrappers for p in x.parameters())


def about_filter(
    optimizer: Optimizer, where: Callable[[str], bool], names: Mapping[Tensor, str] | None, selected: int
) -> None:
    """Warn of a filter that lets every parameter through, as one with a misspelt name does.

    Args:
        optimizer: that has noise.
        where: tells by the name whether a parameter gets noise.
        names: all that are known, of other optimizers' parameters too; None where the optimizer has names itself.
        selected: parameters of this optimizer that get noise.
    """
    here = {p for group in optimizer.param_groups for p in group["params"]}
    known = own_names(optimizer) if names is None else names
    if selected == len(here) and all(where(name) for p, name in known.items() if p not in here):
        say(
            f"`where` selects each of {len(known)} parameters, the first is {next(iter(known.values()))!r}: it leaves"
            " none without noise; look for a misspelt name in it, or leave it out"
        )
