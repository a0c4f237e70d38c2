"""Crossover of two backbones: layer by layer, and within a layer along the shortest edit path of its graphs."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from evolution.candidate import Mutation
from evolution.edit_path import graph_between, shortest_path
from evolution.space import SearchSpace
from graphir import AttentionGraph, AttentionLayer, Backbone, Layer

BETWEEN_PROBABILITY = 0.5
"""Probability that where both parents have attention, the child has a graph between theirs (assumed)."""
BACKBONE_ATTEMPTS = 10
"""How often layers are drawn before there is held to be no child that is neither parent (assumed)."""


def cross_graphs(
    one: AttentionGraph, other: AttentionGraph, rng: Random, space: SearchSpace
) -> AttentionGraph | None:
    """A graph on the shortest sequence of edits that turns ``one`` into ``other``, and neither of them.

    Its edit distance to each parent is at most that between the parents. Its size is within the bounds of the space
    and those of the parents. None where none was found, as always where they are one edit apart.
    """
    least = min(space.min_nodes, len(one), len(other))
    most = max(space.max_nodes, len(one), len(other))
    return graph_between(shortest_path(one, other), rng, least, most)


def cross_backbones(
    one: Backbone, other: Backbone, rng: Random, space: SearchSpace
) -> tuple[Backbone, Mutation] | None:
    """A backbone each of whose layers is that of ``one``, that of ``other``, or has a graph between theirs.

    Returns:
        The child and what was done, without the index of the second parent; None where none was found.
    """
    if len(one.layers) != len(other.layers):
        return None
    differing = [i for i, (a, b) in enumerate(zip(one.layers, other.layers, strict=True)) if a != b]
    for _ in range(BACKBONE_ATTEMPTS):
        layers = list(one.layers)
        taken, between = [], []
        for position in differing:
            crossed = _crossed_layer(one.layers[position], other.layers[position], rng, space)
            if crossed is not None:
                layers[position] = crossed
                between.append(str(position + 1))
            elif rng.random() < 0.5:
                layers[position] = other.layers[position]
                taken.append(str(position + 1))
        child = replace(one, layers=tuple(layers))
        if child.layers not in (one.layers, other.layers):
            parts = [
                f"layers taken from the second parent: {', '.join(taken) or 'none'}",
                f"between both: {', '.join(between) or 'none'}",
            ]
            return child, Mutation("crossover", "; ".join(parts))
    return None


def _crossed_layer(one: Layer, other: Layer, rng: Random, space: SearchSpace) -> Layer | None:
    both = isinstance(one, AttentionLayer) and isinstance(other, AttentionLayer)
    if not both or rng.random() >= BETWEEN_PROBABILITY:
        return None
    assert isinstance(one, AttentionLayer)
    assert isinstance(other, AttentionLayer)
    graph = cross_graphs(one.graph, other.graph, rng, space)
    return None if graph is None else AttentionLayer(graph)
