"""Names of parameters, which decide what noise they get: the same model has the same names in any wrapper."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from torch import Tensor

WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
"""Parts of names that torch.compile, activation checkpointing and FSDP1 put in."""

PREFIXES = ("module.", "_module.")
"""What DistributedDataParallel and DataParallel, and Opacus, put before every name."""


def names_of(named_parameters: Iterable[tuple[str, Tensor]]) -> dict[Tensor, str]:
    """Return the name of each parameter, without what wrappers add; a tied parameter goes by its first name.

    Args:
        named_parameters: (name, parameter) pairs, as `model.named_parameters()` gives them.

    Raises:
        ValueError: two parameters have the same name.
    """
    names: dict[Tensor, str] = {}
    for name, p in named_parameters:
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
