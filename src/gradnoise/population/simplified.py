"""What is done to a recorded step before it is replayed, so that the same results take less time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gradnoise.population.graph_memory import memory_of, written

aten = torch.ops.aten

#: The last two of three dimensions.
ROWS_AND_COLUMNS = ({1, 2}, {-2, -1}, {1, -1}, {2, -2})


def simplify(graph: fx.GraphModule) -> None:
    """Drop operations that change nothing, and make each weight gradient by one product in the layout of its weight.

    The backward pass of a linear layer yields (x^T d)^T, a transposed view that has to be copied element by
    element into the flat gradient; d^T x is the same matrix in the right order. A layer that is used at several
    steps yields a sum of such products, each as large as the weight; all their rows together make it in one product.
    """
    changed = written(graph.graph)
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and (_is_alias(node) or _is_copy(node, changed)):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    outputs = next(n for n in graph.graph.nodes if n.op == "output")
    for node in dict.fromkeys(pytree.tree_leaves(outputs.args)):
        if isinstance(node, fx.Node):
            _make_by_one_product(graph.graph, node, changed)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _is_alias(node: fx.Node) -> bool:
    """Say whether a node is another name for its argument."""
    views = (aten.detach.default, aten.expand.default, aten.view.default, aten._unsafe_view.default)
    return node.target in views and _before(node).shape == node.meta["val"].shape


def _is_copy(node: fx.Node, changed: set[fx.Node]) -> bool:
    """Say whether a node multiplies by 1; where something is written into one of the two the copy may be meant."""
    if node.target is not aten.mul.Scalar or changed & {node, memory_of(node.args[0])}:
        return False
    return bool(node.args[1] == 1) and _before(node).dtype == node.meta["val"].dtype


def _before(node: fx.Node) -> Tensor:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source.meta["val"]


# --- sums of products ---------------------------------------------------------------------------------


def _make_by_one_product(graph: fx.Graph, node: fx.Node, changed: set[fx.Node]) -> None:
    """Replace products d^T x [P, M, N] in a sum by one product of all their rows, and (x^T d)^T by d^T x."""
    summands = _summands(node)
    products = {n: rows for n in summands if (rows := _rows(n)) is not None}
    if len(summands) == 1:
        products = {n: rows for n, rows in products.items() if _is_transpose(n)}
    else:
        products = {n: rows for n, rows in products.items() if _is_cheaper_together(n, *rows)}
    products = {n: rows for n, rows in products.items() if changed.isdisjoint(memory_of(x) for x, _ in rows)}
    if not products or len(products) == 1 < len(summands):
        return
    with graph.inserting_before(node):
        d, x = (_together(graph, [_turned(graph, *each[i]) for each in products.values()]) for i in (0, 1))
        total = graph.call_function(aten.bmm.default, (graph.call_function(aten.transpose.int, (d, 1, 2)), x))
        for other in summands:
            if other not in products:
                total = graph.call_function(aten.add.Tensor, (other, total))
        node.replace_all_uses_with(total)


def _summands(node: fx.Node) -> list[fx.Node]:
    """Return what a node is the sum of, the node itself if it is none."""
    if node.target is not aten.add.Tensor or node.kwargs or len({_shape(n) for n in (node, *node.args)}) > 1:
        return [node]
    return [each for n in node.args if isinstance(n, fx.Node) for each in (_summands(n) if len(n.users) == 1 else [n])]


def _rows(node: fx.Node) -> tuple[tuple[fx.Node, bool], tuple[fx.Node, bool]] | None:
    """Return d and x of a product d^T x that is used once, each with whether it has to be transposed to be that."""
    transposed = _is_transpose(node)
    product = node.args[0] if transposed else node
    if not isinstance(product, fx.Node) or product.target is not aten.bmm.default:
        return None
    if len(node.users) > 1 or len(product.users) > 1:
        return None
    a, b = product.args
    assert isinstance(a, fx.Node) and isinstance(b, fx.Node)
    return ((b, False), (a, True)) if transposed else ((a, True), (b, False))


def _is_transpose(node: fx.Node) -> bool:
    return node.target is aten.transpose.int and len(_shape(node)) == 3 and set(node.args[1:]) in ROWS_AND_COLUMNS


def _is_cheaper_together(node: fx.Node, d: tuple[fx.Node, bool], x: tuple[fx.Node, bool]) -> bool:
    """Say whether the rows that are laid together are fewer numbers than the product that would be added."""
    return _shape(d[0]).numel() + _shape(x[0]).numel() <= _shape(node).numel()


def _turned(graph: fx.Graph, node: fx.Node, transpose: bool) -> fx.Node:
    if not transpose:
        return node
    if _is_transpose(node):
        source = node.args[0]
        assert isinstance(source, fx.Node)
        return source
    return graph.call_function(aten.transpose.int, (node, 1, 2))


def _together(graph: fx.Graph, rows: list[fx.Node]) -> fx.Node:
    return rows[0] if len(rows) == 1 else graph.call_function(aten.cat.default, (rows, 1))


def _shape(node: Any) -> torch.Size:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value.shape if isinstance(value, Tensor) else torch.Size()
