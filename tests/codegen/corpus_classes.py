"""The classes of graphs that the compiler treats in its own way, each told from the nodes of a graph alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphir import OPERATIONS, AttentionGraph, Node

NONLINEAR = {"logsigmoid", "softsign", "relu", "relu_squared", "sigmoid", "tanh", "exp", "abs"}
SQUARE = ("S", "S")


def classes_of(graph: AttentionGraph) -> tuple[str, ...]:
    """The names of all classes that ``graph`` belongs to."""
    return tuple(name for name, belongs in CLASSES.items() if belongs(graph))


def _softmaxes(graph: AttentionGraph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "softmax"]


def _uses(*operations: str) -> Callable[[AttentionGraph], bool]:
    return lambda graph: any(node.op in operations for node in graph.nodes)


def _ancestors(graph: AttentionGraph) -> dict[str, set[str]]:
    """For every value the names of all values that it is computed from, its own among them."""
    found = {name: {name} for name in graph.inputs}
    for node in graph.nodes:
        found[node.id] = {node.id}.union(*(found[name] for name in node.inputs))
    return found


def _follows_softmax(*operations: str) -> Callable[[AttentionGraph], bool]:
    """Whether an operand of one of ``operations`` is computed from the result of a softmax."""

    def belongs(graph: AttentionGraph) -> bool:
        before, softmaxes = _ancestors(graph), {node.id for node in _softmaxes(graph)}
        return any(
            softmaxes & before[name] for node in graph.nodes if node.op in operations for name in node.inputs
        )

    return belongs


def _transposed_values(graph: AttentionGraph) -> Iterator[Node]:
    """The nodes that are read transposed, directly or through a chain of other operations of one operand."""
    nodes = {node.id: node for node in graph.nodes}
    for node in graph.nodes:
        if node.op != "transpose":
            continue
        operand = nodes.get(node.inputs[0])
        while operand is not None:
            yield operand
            unary = OPERATIONS[operand.op].arity == 1 and operand.op not in ("softmax", "transpose")
            operand = nodes.get(operand.inputs[0]) if unary else None


def _has_column_softmax(graph: AttentionGraph) -> bool:
    return any(node.op == "softmax" and graph.types[node.id] == SQUARE for node in _transposed_values(graph))


def _multiplies_squares(graph: AttentionGraph) -> bool:
    return any(
        node.op == "matmul" and all(graph.types[name] == SQUARE for name in node.inputs)
        for node in graph.nodes
    )


def _has_input_in_both_roles(graph: AttentionGraph) -> bool:
    """Whether both operands of a product or distance depend on one input."""
    before = _ancestors(graph)
    return any(
        before[node.inputs[0]] & before[node.inputs[1]] & set(graph.inputs)
        for node in graph.nodes
        if node.op in ("matmul", "cosine_similarity", "euclidean_distance")
    )


CLASSES: dict[str, Callable[[AttentionGraph], bool]] = {
    "single softmax": lambda graph: len(_softmaxes(graph)) == 1,
    "no softmax": lambda graph: not _softmaxes(graph),
    "softmax then a nonlinearity": _follows_softmax(*NONLINEAR),
    "softmax over S of a D x S value": lambda graph: any(
        graph.types[node.id] == ("D", "S") for node in _softmaxes(graph)
    ),
    "column softmax": _has_column_softmax,
    "two softmaxes in a row": _follows_softmax("softmax"),
    "product of two S x S values": _multiplies_squares,
    "D x D intermediate": lambda graph: ("D", "D") in graph.types.values(),
    "cosine": _uses("cosine_similarity"),
    "euclid": _uses("euclidean_distance"),
    "one input in both roles": _has_input_in_both_roles,
}
"""A graph may be of several classes."""
