"""Edits of one attention graph, a table of them: replace, insert, delete, rewire.

Every edit keeps the graph well-typed by construction: an operation is drawn among those whose shape rule
fits the place, an operand among the values of the right type that stand earlier, or is grown. What nothing
uses any more is pruned. An edit gives None where the graph has no place for it, never the same graph again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from evolution.growth import Draft, Signature, grow, growable_sizes, signatures
from evolution.priorities import Priorities
from graphir import OPERATIONS, AttentionGraph, Node
from graphir.validation import INPUT_NAMES

SPARE_SIZES = 3
"""A new operand is grown with one of this many smallest possible sizes (assumed)."""


OUTPUT = "output"
"""What uses the value that is the result of a graph."""


class Edit(NamedTuple):
    """The outcome of an edit: the live nodes, and what was done."""

    nodes: list[Node]
    output: str
    description: str
    operation: str | None = None


@dataclass(frozen=True)
class Surroundings:
    """What an edit works with besides the graph.

    Attributes:
        rng: source of all draws.
        operations: operations that may be put.
        priorities: their priority is among them.
        least: fewest nodes that may be left.
        most: most nodes that may result.
        layer: index of the layer that the graph is in, from 0.
    """

    rng: Random
    operations: tuple[str, ...]
    priorities: Priorities
    least: int
    most: int
    layer: int = 0

    def draw(self, fitting: Iterable[str], neighbour: str) -> str:
        """One of the ``fitting`` operations, by priority, for a place whose value ``neighbour`` uses."""
        return self.priorities.draw(self.rng, "operation", list(fitting), self.layer, neighbour)


def replace(graph: AttentionGraph, around: Surroundings) -> Edit | None:
    """Put another operation, drawn by priority, at a random node. Its operands stay where they fit."""
    rng = around.rng
    for position in rng.sample(range(len(graph)), len(graph)):
        node = graph.nodes[position]
        draft = _before(graph, position)
        fitting: dict[str, list[tuple[Signature, list[str | None]]]] = {}
        for signature in signatures(around.operations)[graph.types[node.id]]:
            if signature.operation == node.op:
                continue
            kept = _kept(graph, node, signature, rng)
            if _fits(draft, signature, kept, around, around.most - len(graph)):
                fitting.setdefault(signature.operation, []).append((signature, kept))
        if not fitting:
            continue
        operation = around.draw(fitting, user_of(graph, node.id))
        signature, kept = rng.choice(fitting[operation])
        operands = _filled(draft, signature, kept, around, around.most - len(graph))
        nodes = [*draft.nodes, Node(node.id, operation, operands), *graph.nodes[position + 1 :]]
        live = _pruned(nodes, graph.output)
        if len(live) >= around.least:
            return Edit(live, graph.output, f"{node.op} at {node.id} replaced by {operation}", operation)
    return None


def insert(graph: AttentionGraph, around: Surroundings) -> Edit | None:
    """Put an operation, drawn by priority, on a random edge."""
    rng, room = around.rng, around.most - len(graph) - 1
    if room < 0:
        return None
    for position, slot in _edges(graph, rng):
        source = _operand(graph, position, slot)
        edge_type = graph.types[source]
        draft = _before(graph, position)
        fitting: dict[str, list[tuple[Signature, list[str | None]]]] = {}
        for signature in signatures(around.operations)[edge_type]:
            for place, wanted in enumerate(signature.operands):
                kept: list[str | None] = [None] * len(signature.operands)
                kept[place] = source
                if wanted == edge_type and _fits(draft, signature, kept, around, room):
                    fitting.setdefault(signature.operation, []).append((signature, kept))
        if not fitting:
            continue
        user = graph.nodes[position].op if position < len(graph) else OUTPUT
        operation = around.draw(fitting, user)
        signature, kept = rng.choice(fitting[operation])
        operands = _filled(draft, signature, kept, around, room)
        name = draft.add(operation, operands, edge_type)
        target = graph.nodes[position].id if position < len(graph) else "the output"
        nodes, output = _reconnected(graph, position, slot, name, draft.nodes)
        # The source is still used, so nothing died and the size is within bounds.
        return Edit(nodes, output, f"{operation} inserted between {source} and {target}", operation)
    return None


def delete(graph: AttentionGraph, around: Surroundings) -> Edit | None:
    """Remove a random node: its consumers take an earlier value of its type, by preference its operand."""
    rng, terms = around.rng, _terms(graph)
    for position in rng.sample(range(len(graph)), len(graph)):
        node = graph.nodes[position]
        earlier = _others(graph, position, node.id, terms)
        own = [name for name in earlier if name in node.inputs]
        if not earlier:
            continue
        heir = rng.choice(own or earlier)
        nodes = [
            Node(n.id, n.op, tuple(heir if i == node.id else i for i in n.inputs))
            for n in graph.nodes
            if n.id != node.id
        ]
        output = heir if graph.output == node.id else graph.output
        live = _pruned(nodes, output)
        if len(live) >= around.least:
            return Edit(live, output, f"{node.op} at {node.id} deleted, {heir} takes its place")
    return None


def rewire(graph: AttentionGraph, around: Surroundings) -> Edit | None:
    """Give a random operand, or the output, another value of the same type."""
    rng, terms = around.rng, _terms(graph)
    for position, slot in _edges(graph, rng):
        source = _operand(graph, position, slot)
        others = _others(graph, position, source, terms)
        if not others:
            continue
        value = rng.choice(others)
        nodes, output = _reconnected(graph, position, slot, value, graph.nodes[:position])
        live = _pruned(nodes, output)
        if len(live) >= around.least:
            target = (
                f"operand {slot + 1} of {graph.nodes[position].id}" if position < len(graph) else "the output"
            )
            return Edit(live, output, f"{target} changed from {source} to {value}")
    return None


class GraphMutation(NamedTuple):
    """An entry of `GRAPH_MUTATIONS`: how often it is drawn, against the others, and what it does."""

    weight: float
    edit: Callable[[AttentionGraph, Surroundings], Edit | None]


GRAPH_MUTATIONS: dict[str, GraphMutation] = {
    "replace": GraphMutation(0.4, replace),
    "insert": GraphMutation(0.25, insert),
    "delete": GraphMutation(0.2, delete),
    "rewire": GraphMutation(0.15, rewire),
}
"""The mutations inside a layer; two put an operation drawn by priority (kinds and weights: assumed)."""


def user_of(graph: AttentionGraph, name: str) -> str:
    """The operation that uses the value ``name`` first; `OUTPUT` where none does."""
    return next((node.op for node in graph.nodes if name in node.inputs), OUTPUT)


def _before(graph: AttentionGraph, position: int) -> Draft:
    """The nodes that stand before ``position``: the values that a node there may use."""
    return Draft(graph.nodes[:position], graph.types, taken=(node.id for node in graph.nodes))


def _edges(graph: AttentionGraph, rng: Random) -> Iterator[tuple[int, int]]:
    """Every operand as (position of its node, slot), in random order; the output is at len(graph)."""
    edges = [(p, slot) for p, node in enumerate(graph.nodes) for slot in range(len(node.inputs))]
    edges.append((len(graph), 0))
    rng.shuffle(edges)
    return iter(edges)


def _operand(graph: AttentionGraph, position: int, slot: int) -> str:
    return graph.nodes[position].inputs[slot] if position < len(graph) else graph.output


def _reconnected(
    graph: AttentionGraph, position: int, slot: int, value: str, before: Sequence[Node]
) -> tuple[list[Node], str]:
    """Nodes and output after the operand at (position, slot) became ``value``, with ``before`` in front."""
    if position == len(graph):
        return list(before), value
    node = graph.nodes[position]
    inputs = (*node.inputs[:slot], value, *node.inputs[slot + 1 :])
    return [*before, Node(node.id, node.op, inputs), *graph.nodes[position + 1 :]], graph.output


def _others(graph: AttentionGraph, position: int, source: str, terms: dict[str, int]) -> list[str]:
    """Values before ``position`` of the type of ``source`` that are not the same formula."""
    wanted = graph.types[source]
    return [name for name in _before(graph, position).values(wanted) if terms[name] != terms[source]]


def _kept(graph: AttentionGraph, node: Node, signature: Signature, rng: Random) -> list[str | None]:
    """Which operands of ``node`` stay under ``signature``: at their own place, else where they fit."""
    kept: list[str | None] = [None] * len(signature.operands)
    spare = list(node.inputs)
    if len(spare) == len(kept):
        for place, (name, wanted) in enumerate(zip(node.inputs, signature.operands, strict=True)):
            if graph.types[name] == wanted:
                kept[place] = name
                spare.remove(name)
    rng.shuffle(spare)
    for place, wanted in enumerate(signature.operands):
        fits = [name for name in spare if graph.types[name] == wanted]
        if kept[place] is None and fits:
            kept[place] = fits[0]
            spare.remove(fits[0])
    return kept


def _fits(
    draft: Draft, signature: Signature, kept: Sequence[str | None], around: Surroundings, room: int
) -> bool:
    """Whether the operands that are not kept can be found or grown with ``room`` new nodes."""
    for wanted, name in zip(signature.operands, kept, strict=True):
        if name is None:
            sizes = growable_sizes(draft, wanted, around.operations, room)
            if not sizes:
                return False
            room -= sizes[0]
    return room >= 0


def _filled(
    draft: Draft, signature: Signature, kept: Sequence[str | None], around: Surroundings, room: int
) -> tuple[str, ...]:
    """The operands: those kept, the others found or grown. Presumes `_fits`."""
    missing = [t for t, name in zip(signature.operands, kept, strict=True) if name is None]
    reserved = [growable_sizes(draft, t, around.operations, room)[0] for t in missing]
    operands: list[str] = []
    for wanted, name in zip(signature.operands, kept, strict=True):
        if name is None:
            least = reserved.pop(0)
            sizes = growable_sizes(draft, wanted, around.operations, room - sum(reserved))
            size = around.rng.choice([s for s in sizes if s >= least][:SPARE_SIZES])
            room -= size
            name = grow(around.rng, draft, wanted, size, around.operations)
        operands.append(name)
    return tuple(operands)


def _pruned(nodes: Sequence[Node], output: str) -> list[Node]:
    """Without the nodes that the output does not need."""
    used = {output}
    live: list[Node] = []
    for node in reversed(nodes):
        if node.id in used:
            used.update(node.inputs)
            live.append(node)
    return live[::-1]


def _terms(graph: AttentionGraph) -> dict[str, int]:
    """A number for every value, equal for equal formulas."""
    numbers: dict[tuple[object, ...], int] = {}
    terms: dict[str, int] = {}
    for name in INPUT_NAMES:
        terms[name] = numbers.setdefault((name,), len(numbers))
    for node in graph.nodes:
        operands = [terms[name] for name in node.inputs]
        if OPERATIONS[node.op].commutative:
            operands.sort()
        terms[node.id] = numbers.setdefault((node.op, *operands), len(numbers))
    return terms
