"""`fair_backbones`: random backbones that use every choice of a layer equally often, to warm up a supernet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from evolution.generation import graph_of_size
from evolution.space import SearchSpace
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, Layer

ATTEMPTS = 20
"""How often a graph is drawn anew whose structure its round has already; small sizes have few structures."""


def fair_backbones(rng: Random, space: SearchSpace) -> Iterator[Backbone]:
    """Backbones without end, in rounds of `round_length`.

    Strict fairness, as in FairNAS (Chu et al. 2021, section 3.2), in place of a coin for each layer:

    - two successive backbones use both branches of every layer, in an order drawn for each layer by itself;
    - a round uses every kernel size once in every layer, in an order drawn for each layer by itself;
    - graphs go through all sizes in random order before a size comes again, in every layer by itself;
    - no structure comes twice in a round (by its canonical hash, as long as `ATTEMPTS` draws find another).

    FairNAS updates weights once for all choices together. Here each backbone is a step of its own, since steps are
    what a short warm-up lacks. In a space whose ``conv_probability`` is 0 or 1 there is one branch alone; any other
    value means both alike, whatever it is.

    Example:
        >>> backbones = fair_backbones(Random(0), SearchSpace(layers=3, kernel_sizes=(3, 5)))
        >>> one, other = next(backbones), next(backbones)
        >>> [{a.kind, b.kind} == {"conv", "attention"} for a, b in zip(one.layers, other.layers)]
        [True, True, True]
    """
    dealt = [_sizes(rng, space.graph_sizes) for _ in range(space.layers)]
    while True:
        columns = [_branches(rng, space) for _ in range(space.layers)]
        seen: set[str] = set()
        for row in zip(*columns, strict=True):
            layers: list[Layer] = []
            for kernel_size, sizes in zip(row, dealt, strict=True):
                if kernel_size is None:
                    layers.append(AttentionLayer(_new_graph(rng, space, next(sizes), seen)))
                else:
                    layers.append(ConvLayer(kernel_size))
            yield Backbone(tuple(layers), space.hidden_size, space.heads, space.ffn_size, name="backbone")


def round_length(space: SearchSpace) -> int:
    """Backbones of a round: one for each kernel size, and as many with attention."""
    if space.conv_probability == 0:
        return 1
    return len(space.kernel_sizes) * (1 if space.conv_probability == 1 else 2)


def _branches(rng: Random, space: SearchSpace) -> list[int | None]:
    """What one layer is in the backbones of a round: a kernel size, or None for attention."""
    if space.conv_probability == 0:
        return [None]
    kernel_sizes = rng.sample(space.kernel_sizes, len(space.kernel_sizes))
    if space.conv_probability == 1:
        return list(kernel_sizes)
    branches: list[int | None] = []
    for kernel_size in kernel_sizes:
        branches += rng.choice([(kernel_size, None), (None, kernel_size)])
    return branches


def _sizes(rng: Random, sizes: Sequence[int]) -> Iterator[int]:
    """Sizes without end: each once, in random order, before any comes again."""
    while sizes:
        yield from rng.sample(sizes, len(sizes))


def _new_graph(rng: Random, space: SearchSpace, size: int, seen: set[str]) -> AttentionGraph:
    """A graph of ``size`` nodes whose structure is not in ``seen``, which it joins."""
    for _ in range(ATTEMPTS):
        graph = graph_of_size(rng, space, size)
        structure = graph.canonical_hash()
        if structure not in seen:
            break
    seen.add(structure)
    return graph
