"""The one table of the machine's modules, which all its implementations read.

A new module is a row here and three implementations under its name: on distributions in `modules`, on integers in
`hard`, and as compiled code with its gradient in `kernel.modules`.
"""

from __future__ import annotations

from typing import NamedTuple


class Module(NamedTuple):
    """What is known of a module without running it.

    Args:
        name: as the paper calls it.
        code: number by which compiled code knows it; no two are equal, and their order means nothing.
        arity: number of arguments; those of the paper that a module ignores are left out.
        drifting: whether its output is divided by its sum, as sums of many products drift away from 1.
        constant: the integer that it puts out; None where the output depends on arguments.
    """

    name: str
    code: int
    arity: int
    drifting: bool = False
    constant: int | None = None


#: One pass over the modules in the paper's order.
TABLE: dict[str, Module] = {
    module.name: module
    for module in (
        Module("read", code=0, arity=1, drifting=True),
        Module("zero", code=1, arity=0, constant=0),
        Module("one", code=2, arity=0, constant=1),
        Module("two", code=3, arity=0, constant=2),
        Module("inc", code=4, arity=1),
        Module("add", code=5, arity=2, drifting=True),
        Module("sub", code=6, arity=2, drifting=True),
        Module("dec", code=7, arity=1),
        Module("less-than", code=8, arity=2),
        Module("less-or-equal", code=9, arity=2),
        Module("equality-test", code=10, arity=2),
        Module("min", code=11, arity=2, drifting=True),
        Module("max", code=12, arity=2, drifting=True),
        Module("write", code=13, arity=2),
    )
}
MODULES = tuple(TABLE)
BY_CODE = {module.code: module for module in TABLE.values()}
