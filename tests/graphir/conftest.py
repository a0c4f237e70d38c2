"""Random well-formed graphs for the tests of this room, made independently of the search's own generator."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graphir import OPERATIONS, PAPER_OPERATIONS, AttentionGraph, Node

RandomGraph = Callable[..., AttentionGraph]


def _grow(rng: np.random.Generator, size: int, ops: Sequence[str]) -> AttentionGraph | None:
    """Random nodes, then those that the last ``S x D`` value needs; None where there is no such value."""
    types = dict.fromkeys("QKV", ("S", "D"))
    nodes: list[Node] = []
    while len(nodes) < size:
        operation = OPERATIONS[ops[rng.integers(len(ops))]]
        names = list(types)
        recent = names[-6:] if rng.random() < 0.7 else names
        operands = tuple(recent[rng.integers(len(recent))] for _ in range(operation.arity))
        result = operation.shape(*(types[name] for name in operands))
        if result is not None:
            nodes.append(Node(f"n{len(nodes)}", operation.name, operands))
            types[nodes[-1].id] = result
    fitting = [node.id for node in nodes if types[node.id] == ("S", "D")]
    if not fitting:
        return None
    needed = {fitting[-1]}
    for node in reversed(nodes):
        if node.id in needed:
            needed.update(node.inputs)
    return AttentionGraph([node for node in nodes if node.id in needed], fitting[-1], name="random")


@pytest.fixture(scope="session")
def random_graph() -> RandomGraph:
    """``random_graph(seed, size=12, ops=PAPER_OPERATIONS)``: a graph of at most ``size`` nodes."""

    def make(seed: int, size: int = 12, ops: Sequence[str] = PAPER_OPERATIONS) -> AttentionGraph:
        rng = np.random.default_rng(seed)
        graph = None
        while graph is None:
            graph = _grow(rng, size, ops)
        return graph

    return make
