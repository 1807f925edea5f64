"""Which operations of a recorded step look at the same memory, and which write into it."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree


def memory_of(node: Any) -> fx.Node:
    """Return the node that made the memory that a node's result lies in; that of a tuple for all that is in it."""
    while node.op == "call_function" and node.args and _is_view(node):
        node = node.args[0]
    return node


def _is_view(node: fx.Node) -> bool:
    """Say whether a result lies in the memory of the first argument, as far as is known."""
    if not isinstance(node.target, OpOverload):
        return node.target is operator.getitem
    if node.target is torch.ops.aten._unsafe_view.default:
        return True
    return any(result.alias_info is not None for result in node.target._schema.returns)


def written(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes into whose memory something is written later on."""
    found = set()
    for node in graph.nodes:
        if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
            arguments = node.target._schema.arguments
            given = dict(zip((a.name for a in arguments), node.args, strict=False)) | node.kwargs
            for argument in arguments:
                if argument.alias_info is not None and argument.alias_info.is_write:
                    tensors = pytree.tree_leaves(given.get(argument.name))
                    found |= {memory_of(n) for n in tensors if isinstance(n, fx.Node)}
    return found
