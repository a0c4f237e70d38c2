"""What makes a graph well-formed. Every refusal names the node and says what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx

from graphir.checks import excerpt
from graphir.errors import GraphError
from graphir.ops import OPERATIONS, SEQ_BY_HEAD, ValueType

if TYPE_CHECKING:
    from graphir.graph import Node

INPUT_NAMES = ("Q", "K", "V")
MAX_NODES = 64
"""Largest number of nodes in one graph."""

MAX_NAME = 80
"""Longest display name, in characters."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ._/+-]{{0,{MAX_NAME - 1}}}")
_NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


def show_type(value_type: ValueType) -> str:
    """A type for people: ``S x D``."""
    return " x ".join(value_type)


def nearest(word: str, known: Iterable[str]) -> str:
    """``known`` ordered by likeness to ``word``, as the end of an error message."""
    known = list(known)
    close = difflib.get_close_matches(word[:100], known, n=3, cutoff=0.4)
    return f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"


def check_name(name: Any, what: str = "name") -> str:
    """Return ``name`` if it is a safe display name.

    Raises:
        GraphError: where it is not 1 to `MAX_NAME` letters, digits, spaces or ``. _ / + -``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise GraphError(
            f"the {what} {excerpt(name)} is not allowed: use 1 to {MAX_NAME} letters, digits, spaces or "
            ". _ / + -, beginning with a letter or digit"
        )
    return name


def check_graph(inputs: Sequence[str], nodes: Sequence[Node], output: str) -> dict[str, ValueType]:
    """Check a graph and infer the type of every value.

    Args:
        inputs: names of the inputs that the graph uses.
        nodes: the nodes in topological order.
        output: id of the node (or input) that is the result.

    Returns:
        The type of each input and node by name.

    Raises:
        GraphError: ill-typed, cyclic, dangling, unknown operation, dead node, oversized, or bad names.
    """
    for name in inputs:
        if name not in INPUT_NAMES:
            raise GraphError(f"unknown input {excerpt(name)}: inputs are Q, K and V")
    if len(set(inputs)) != len(inputs):
        repeated = next(name for name in inputs if list(inputs).count(name) > 1)
        raise GraphError(f"the inputs repeat {repeated}: list each of Q, K, V at most once")
    if len(nodes) > MAX_NODES:
        raise GraphError(f"{len(nodes)} nodes are too many: at most {MAX_NODES} are allowed")

    types: dict[str, ValueType] = dict.fromkeys(inputs, SEQ_BY_HEAD)
    used: set[str] = {output}
    for node in nodes:
        _check_node_id(node.id, types)
        operation = OPERATIONS.get(node.op)
        if operation is None:
            raise GraphError(f"unknown operation {excerpt(node.op)}; {nearest(node.op, OPERATIONS)}", node.id)
        if len(node.inputs) != operation.arity:
            raise GraphError(f"{node.op} takes {operation.arity} operand(s), not {len(node.inputs)}", node.id)
        for operand in node.inputs:
            if operand not in types:
                raise _missing_operand(node, operand, inputs, nodes)
        operand_types = [types[operand] for operand in node.inputs]
        result = operation.shape(*operand_types)
        if result is None:
            found = " and ".join(show_type(t) for t in operand_types)
            raise GraphError(f"{node.op} needs {operation.rule}, not {found}", node.id)
        types[node.id] = result
        used.update(node.inputs)

    if output not in types:
        raise GraphError(f"the output {excerpt(output)} is not a node; {nearest(str(output), types)}")
    for name in types:
        if name not in used:
            what = "input" if name in inputs else "value"
            raise GraphError(f"this {what} is used by nothing: remove it, or use it", name)
    if types[output] != SEQ_BY_HEAD:
        raise GraphError(f"the output must be S x D, not {show_type(types[output])}", output)
    return types


def _check_node_id(node_id: str, taken: dict[str, ValueType]) -> None:
    if not _NODE_ID.fullmatch(node_id):
        raise GraphError(
            f"the node id {excerpt(node_id)} is not allowed: use 1 to 40 letters, digits or _, "
            "not beginning with a digit"
        )
    if node_id in taken or node_id in INPUT_NAMES:
        raise GraphError("this id is taken already: ids must be unique and not Q, K or V", node_id)


def _missing_operand(node: Node, operand: str, inputs: Sequence[str], nodes: Sequence[Node]) -> GraphError:
    defined = {n.id for n in nodes}
    if operand in defined:
        graph = nx.DiGraph((source, n.id) for n in nodes for source in n.inputs)
        try:
            cycle = [edge[0] for edge in nx.find_cycle(graph, node.id)]
        except nx.NetworkXNoCycle:
            return GraphError(
                f"operand {operand!r} stands later in the list: put nodes in topological order", node.id
            )
        return GraphError(
            f"the graph has a cycle, {' -> '.join([*cycle, cycle[0]])}: it must be acyclic", node.id
        )
    if operand in INPUT_NAMES:
        return GraphError(
            f"operand {operand!r} is not among the graph's inputs {list(inputs)}: declare it", node.id
        )
    known = [*inputs, *sorted(defined - {node.id})]
    return GraphError(f"operand {excerpt(operand)} does not exist; {nearest(operand, known)}", node.id)
