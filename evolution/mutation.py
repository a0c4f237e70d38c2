"""Mutation of graphs and backbones: valid by construction, within the space's bounds, never a no-op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from evolution.candidate import Mutation
from evolution.generation import new_attention
from evolution.graph_mutations import GRAPH_MUTATIONS, Surroundings
from evolution.priorities import Priorities
from evolution.priority import OperationPriority
from evolution.space import SearchSpace
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, InputError, Layer


def mutate_graph(
    graph: AttentionGraph,
    rng: Random,
    space: SearchSpace,
    priority: OperationPriority | Priorities,
    layer: int = 0,
) -> tuple[AttentionGraph, Mutation]:
    """Make one random edit of `GRAPH_MUTATIONS`.

    A graph whose size is out of the space's bounds is not made to leave them further.

    Args:
        graph: any graph, not only one of the space.
        rng: source of all draws.
        space: operations and bounds.
        priority: of the space's operations, alone or among all priorities.
        layer: index of the layer that the graph is in, from 0, where priorities depend on it.

    Returns:
        A new graph whose formula differs from that of ``graph``, and what was done.

    Example:
        >>> plain = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")
        >>> space = SearchSpace()
        >>> priority = OperationPriority.uniform(space.operations)
        >>> graph, mutation = mutate_graph(plain, Random(1), space, priority)
        >>> graph == plain
        False
    """
    least, most = min(space.min_nodes, len(graph)), max(space.max_nodes, len(graph))
    around = Surroundings(rng, space.operations, _all(priority), least, most, layer)
    for kind in _weighted_order(rng, {name: entry.weight for name, entry in GRAPH_MUTATIONS.items()}):
        edit = GRAPH_MUTATIONS[kind].edit(graph, around)
        if edit is not None:
            mutated = AttentionGraph(edit.nodes, edit.output, name=graph.name)
            return mutated, Mutation(kind, edit.description, edit.operation)
    # Not reached: every graph reads an input, and that operand can be rewired to another input.
    raise RuntimeError(f"no mutation applies to {graph!r}")


def mutate_backbone(
    backbone: Backbone, rng: Random, space: SearchSpace, priority: OperationPriority | Priorities
) -> tuple[Backbone, Mutation]:
    """Change one layer: its kind or kernel size (inter-layer), or the graph inside it (intra-layer).

    Args:
        backbone: any backbone, not only one of the space.
        rng: source of all draws.
        space: what may be put.
        priority: of operations, kinds of layers and kernel sizes; of operations alone, and the others are alike.

    Returns:
        A new backbone with one layer changed, and what was done.

    Raises:
        InputError: where the space has no change for this backbone.
    """
    between = {name: entry.weight for name, entry in LAYER_MUTATIONS.items() if entry.places(backbone, space)}
    inside = [i for i, layer in enumerate(backbone.layers) if isinstance(layer, AttentionLayer)]
    if not between and not inside:
        raise InputError("the space has no change for this backbone: give it more kernel sizes or attention")
    priorities = _all(priority)
    if between and (not inside or rng.random() < space.layer_mutation_probability):
        kind = _weighted_order(rng, between)[0]
        entry = LAYER_MUTATIONS[kind]
        position, layer, description, drawn = entry.change(backbone, rng, space, priorities)
        mutation = Mutation(kind, description, layer=position + 1, drawn=drawn)
    else:
        position = rng.choice(inside)
        old = backbone.layers[position]
        assert isinstance(old, AttentionLayer)  # inside lists attention layers only
        graph, mutation = mutate_graph(old.graph, rng, space, priorities, position)
        layer, mutation = AttentionLayer(graph), replace(mutation, layer=position + 1)
    layers = (*backbone.layers[:position], layer, *backbone.layers[position + 1 :])
    return replace(backbone, layers=layers), mutation


def _all(priority: OperationPriority | Priorities) -> Priorities:
    return priority if isinstance(priority, Priorities) else Priorities({"operation": priority})


class LayerChange(NamedTuple):
    """The outcome of a mutation between layers.

    Attributes:
        position: index of the layer.
        layer: what stands there now.
        description: the change in words.
        drawn: what was drawn by priority, as (family, name).
    """

    position: int
    layer: Layer
    description: str
    drawn: tuple[tuple[str, str], ...]


class LayerMutation(NamedTuple):
    """An entry of `LAYER_MUTATIONS`: its weight, the positions where it applies, and what it does at one of them."""

    weight: float
    places: Callable[[Backbone, SearchSpace], list[int]]
    change: Callable[[Backbone, Random, SearchSpace, Priorities], LayerChange]


def neighbour_of(backbone: Backbone, position: int) -> str:
    """The kind of the layer before; "input" for the first one."""
    return backbone.layers[position - 1].kind if position else "input"


def _kind_places(backbone: Backbone, space: SearchSpace) -> list[int]:
    possible = {"attention": space.conv_probability > 0, "conv": space.conv_probability < 1}
    return [i for i, layer in enumerate(backbone.layers) if possible[layer.kind]]


def _change_kind(backbone: Backbone, rng: Random, space: SearchSpace, priorities: Priorities) -> LayerChange:
    """Give a layer the other kind. Which layer is open, so the kind that it gets is drawn first, by priority.

    Attention has a random graph or that of another layer.
    """
    places = _kind_places(backbone, space)
    position = rng.choice(places)
    kinds = [kind for kind in KINDS if any(backbone.layers[i].kind != kind for i in places)]
    kind = priorities.draw(rng, "kind", kinds, position, neighbour_of(backbone, position))
    if backbone.layers[position].kind == kind:
        position = rng.choice([i for i in places if backbone.layers[i].kind != kind])
    if kind == "conv":
        fitting = tuple(map(str, space.kernel_sizes))
        size = priorities.draw(rng, "kernel_size", fitting, position, neighbour_of(backbone, position))
        drawn = (("kind", kind), ("kernel_size", size))
        return LayerChange(position, ConvLayer(int(size)), f"attention became convolution of {size}", drawn)
    copied = [i for i, layer in enumerate(backbone.layers) if isinstance(layer, AttentionLayer)]
    source = rng.choice([None, *copied])
    if source is None:
        layer: Layer = AttentionLayer(new_attention(rng, space))
        description = "convolution became attention, a random graph"
    else:
        layer = backbone.layers[source]
        description = f"convolution became attention, the graph of layer {source + 1}"
    return LayerChange(position, layer, description, (("kind", kind),))


def _other_sizes(layer: Layer, space: SearchSpace) -> list[int]:
    return [s for s in space.kernel_sizes if isinstance(layer, ConvLayer) and s != layer.kernel_size]


def _kernel_places(backbone: Backbone, space: SearchSpace) -> list[int]:
    return [i for i, layer in enumerate(backbone.layers) if _other_sizes(layer, space)]


def _change_kernel(
    backbone: Backbone, rng: Random, space: SearchSpace, priorities: Priorities
) -> LayerChange:
    position = rng.choice(_kernel_places(backbone, space))
    fitting = [str(size) for size in _other_sizes(backbone.layers[position], space)]
    size = priorities.draw(rng, "kernel_size", fitting, position, neighbour_of(backbone, position))
    return LayerChange(position, ConvLayer(int(size)), f"kernel size became {size}", (("kernel_size", size),))


KINDS = ("attention", "conv")
"""The kinds of layers."""

LAYER_MUTATIONS: dict[str, LayerMutation] = {
    "kind": LayerMutation(0.5, _kind_places, _change_kind),
    "kernel_size": LayerMutation(0.5, _kernel_places, _change_kernel),
}
"""The mutations between layers (weights: assumed). All that they choose but places and graphs is drawn by priority."""


def _weighted_order(rng: Random, weights: Mapping[Any, float]) -> list[Any]:
    """The keys in random order, heavier ones earlier: repeated weighted draws without putting back."""
    left = dict(weights)
    order = []
    while left:
        drawn = rng.choices(list(left), list(left.values()))[0]
        order.append(drawn)
        del left[drawn]
    return order
