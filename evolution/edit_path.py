"""The shortest sequence of edits from one attention graph to another, and the graphs that lie on it.

Crossover along such a path is due to Qiu and Miikkulainen 2023 ("Shortest edit path crossover", ICML). Two parents
that do the same with differently ordered nodes are recognised as alike, and what they have in common is inherited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from graphir import OPERATIONS, AttentionGraph, Node
from graphir.matching import match_nodes
from graphir.validation import INPUT_NAMES

MAX_PARTIAL_MATCHINGS = 2_000
"""So many partial matchings are looked at (assumed): for graphs of about eight nodes the distance is then exact."""
CHILD_ATTEMPTS = 20
"""How often a graph on the path is drawn before there is held to be none (assumed)."""


@dataclass(frozen=True)
class EditPath:
    """Which node of one graph is which of another, and so what must be edited; the edits can be made in any order.

    An edit removes a node, adds one, gives a node another operation or other operands, or makes another value the
    output. Nodes whose values have different types are never the same node, so that a graph on the path is well-typed.

    Attributes:
        before: the one graph.
        after: the other.
        pairs: the nodes of ``before`` that are nodes of ``after``.
        length: number of edits. The least where it was found within `MAX_PARTIAL_MATCHINGS`, else the least found.
    """

    before: AttentionGraph
    after: AttentionGraph
    pairs: Mapping[str, str]
    length: int

    @property
    def edited(self) -> tuple[str, ...]:
        """The nodes of ``before`` that stay but get another operation or other operands."""
        after = _definitions(self.after)
        return tuple(
            node.id
            for node in self.before.nodes
            if node.id in self.pairs and not _same(node, after[self.pairs[node.id]], self.pairs)
        )


@lru_cache(maxsize=1024)
def shortest_path(before: AttentionGraph, after: AttentionGraph) -> EditPath:
    """The shortest path that was found: first that of `graphir.matching`, then by branch and bound.

    Example:
        >>> plain = AttentionGraph.from_expression("softmax(Q @ K.T) @ V")
        >>> other = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ (V + K)")
        >>> shortest_path(plain, other).length  # scale and add are added, two nodes get other operands
        4
    """
    matched = match_nodes(before, after)
    pairs = {a: b for a, b in matched.items() if before.types[a] == after.types[b]}
    search = _Matching(before, after, pairs)
    search.extend(0, {}, 0)
    return EditPath(before, after, search.best, search.length)


def graph_between(path: EditPath, rng: Random, least: int, most: int) -> AttentionGraph | None:
    """A graph on ``path`` that is neither of its ends: some edits are made, the others are not.

    Its distances to the ends add up to the length of the path: it has every node that both have.

    Args:
        path: between two graphs.
        rng: source of all draws.
        least: fewest nodes.
        most: most nodes.

    Returns:
        None where none was found.
    """
    edited, moved = path.edited, _image(path.pairs, path.before.output) != path.after.output
    if len(edited) + moved < 2:
        return None
    names = _names(path)
    for _ in range(CHILD_ATTEMPTS):
        share = rng.random()
        taken = {name for name in edited if rng.random() < share}
        output_moves = moved and rng.random() < share
        if not 0 < len(taken) + output_moves < len(edited) + moved:
            continue
        definitions = {n.id: n for n in path.before.nodes if n.id not in taken}
        for node in path.after.nodes:
            name = names[node.id]
            if name not in definitions:
                operands = tuple(names.get(operand, operand) for operand in node.inputs)
                definitions[name] = Node(name, node.op, operands)
        output = names.get(path.after.output, path.after.output) if output_moves else path.before.output
        nodes = _in_order(definitions, output)
        if nodes is None or not least <= len(nodes) <= most:
            continue
        if path.pairs.keys() <= {node.id for node in nodes}:
            return AttentionGraph(nodes, output, name=path.before.name)
    return None


class _Matching:
    """Branch and bound over matchings of the nodes of two graphs, operands before their users."""

    def __init__(self, before: AttentionGraph, after: AttentionGraph, first: Mapping[str, str]) -> None:
        self.before, self.after = before, after
        self.targets = _definitions(after)
        self.best: Mapping[str, str] = first
        self.length = _length(before, after, first)
        self.left = MAX_PARTIAL_MATCHINGS
        self.operations = [Counter(n.op for n in before.nodes[i:]) for i in range(len(before) + 1)]

    def extend(self, position: int, pairs: dict[str, str], cost: int) -> None:
        """Match the nodes of ``before`` from ``position`` on, given ``pairs`` at a ``cost`` so far."""
        free = [node for node in self.after.nodes if node.id not in pairs.values()]
        rest = len(self.before) - position
        alike = (self.operations[position] & Counter(node.op for node in free)).total()
        if self.left <= 0 or cost + max(rest, len(free)) - alike >= self.length:
            return
        self.left -= 1
        if not rest:
            moved = _image(pairs, self.before.output) != self.after.output
            if cost + len(free) + moved < self.length:
                self.best, self.length = dict(pairs), cost + len(free) + moved
            return
        node = self.before.nodes[position]
        fitting = [n for n in free if self.after.types[n.id] == self.before.types[node.id]]
        costs = {n.id: 0 if _same(node, n, pairs) else 1 for n in fitting}
        for name in sorted(costs, key=costs.__getitem__):
            self.extend(position + 1, {**pairs, node.id: name}, cost + costs[name])
        self.extend(position + 1, pairs, cost + 1)


def _definitions(graph: AttentionGraph) -> dict[str, Node]:
    return {node.id: node for node in graph.nodes}


def _image(pairs: Mapping[str, str], name: str) -> str | None:
    return name if name in INPUT_NAMES else pairs.get(name)


def _same(one: Node, other: Node, pairs: Mapping[str, str]) -> bool:
    """Whether two nodes have one operation and, under ``pairs``, the same operands."""
    if one.op != other.op:
        return False
    operands = [_image(pairs, name) for name in one.inputs]
    if OPERATIONS[one.op].commutative:
        return Counter(operands) == Counter(other.inputs)
    return operands == list(other.inputs)


def _length(before: AttentionGraph, after: AttentionGraph, pairs: Mapping[str, str]) -> int:
    targets = _definitions(after)
    edited = sum(n.id in pairs and not _same(n, targets[pairs[n.id]], pairs) for n in before.nodes)
    moved = _image(pairs, before.output) != after.output
    return len(before) + len(after) - 2 * len(pairs) + edited + moved


def _names(path: EditPath) -> dict[str, str]:
    """What the nodes of ``after`` are called in a child: as their partner in ``before``, else a name that is free."""
    partners = {new: old for old, new in path.pairs.items()}
    used = {node.id for node in path.before.nodes}
    names: dict[str, str] = {}
    for node in path.after.nodes:
        name, number = partners.get(node.id, node.id), 0
        while node.id not in partners and name in used:
            name, number = f"n{number}", number + 1
        used.add(name)
        names[node.id] = name
    return names


def _in_order(definitions: Mapping[str, Node], output: str) -> list[Node] | None:
    """The nodes that ``output`` needs, operands first; None where they form a circle."""
    ordered: dict[str, Node] = {}
    open_nodes: set[str] = set()

    def visit(name: str) -> bool:
        if name in ordered or name in INPUT_NAMES:
            return True
        if name in open_nodes:
            return False
        open_nodes.add(name)
        node = definitions[name]
        if not all(visit(operand) for operand in node.inputs):
            return False
        ordered[name] = node
        return True

    return list(ordered.values()) if visit(output) else None
