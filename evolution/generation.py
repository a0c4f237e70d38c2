"""Random graphs and backbones of a search space."""

from __future__ import annotations

from random import Random

from evolution.growth import Draft, grow
from evolution.space import PLAIN_ATTENTION, SearchSpace
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, InputError, Layer
from graphir.ops import SEQ_BY_HEAD


def random_graph(rng: Random, space: SearchSpace, name: str = "graph") -> AttentionGraph:
    """A random graph of ``space``: valid by construction, its size drawn uniformly from the sizes possible.

    Raises:
        InputError: where the space holds convolutions only.

    Example:
        >>> random_graph(Random(0), SearchSpace()) == random_graph(Random(0), SearchSpace())
        True
    """
    if not space.graph_sizes:
        raise InputError("the space holds no graph: its conv_probability is 1")
    return graph_of_size(rng, space, rng.choice(space.graph_sizes), name)


def graph_of_size(rng: Random, space: SearchSpace, size: int, name: str = "graph") -> AttentionGraph:
    """A random graph of ``size`` operations, one of ``space.graph_sizes``."""
    draft = Draft()
    output = grow(rng, draft, SEQ_BY_HEAD, size, space.operations)
    return AttentionGraph(draft.nodes, output, name=name)


def random_layer(rng: Random, space: SearchSpace) -> Layer:
    """A convolution with ``space.conv_probability``, else attention, see `new_attention`."""
    if rng.random() < space.conv_probability:
        return ConvLayer(rng.choice(space.kernel_sizes))
    return AttentionLayer(new_attention(rng, space))


def new_attention(rng: Random, space: SearchSpace, name: str = "graph") -> AttentionGraph:
    """Plain attention with ``space.plain_probability``, else a random graph."""
    if space.plain_probability and rng.random() < space.plain_probability:
        return AttentionGraph(PLAIN_ATTENTION.nodes, PLAIN_ATTENTION.output, name=name)
    return random_graph(rng, space, name)


def random_backbone(rng: Random, space: SearchSpace, name: str = "backbone") -> Backbone:
    """A backbone of independent random layers."""
    layers = tuple(random_layer(rng, space) for _ in range(space.layers))
    return Backbone(layers, space.hidden_size, space.heads, space.ffn_size, name)
