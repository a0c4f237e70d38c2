"""Edit paths: shortest against every matching, and children that lie on them."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from evolution import SearchSpace, cross_backbones, cross_graphs, random_backbone, random_graph
from evolution.edit_path import shortest_path
from graphir import OPERATIONS, AttentionGraph, AttentionLayer, Backbone, ConvLayer, presets

SPACE = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16, min_nodes=2, max_nodes=5)


def edit_distance(one: AttentionGraph, other: AttentionGraph) -> int:
    """The least number of edits over every matching of nodes with values of one type."""
    places = [*range(len(other)), *[None] * len(one)]
    return min(_edits(one, other, chosen) for chosen in set(permutations(places, len(one))))


def _edits(one, other, chosen):
    pairs = {"Q": "Q", "K": "K", "V": "V"}
    edits, matched = 0, 0
    for node, place in zip(one.nodes, chosen, strict=True):
        if place is None:
            edits += 1
            continue
        target = other.nodes[place]
        if one.types[node.id] != other.types[target.id]:
            return 10_000
        matched += 1
        pairs[node.id] = target.id
    for node, place in zip(one.nodes, chosen, strict=True):
        if place is not None:
            target = other.nodes[place]
            operands = [pairs.get(name, "?") for name in node.inputs]
            wanted = list(target.inputs)
            if OPERATIONS[node.op].commutative:
                operands.sort()
                wanted.sort()
            edits += node.op != target.op or operands != wanted
    return edits + len(other) - matched + (pairs.get(one.output, "?") != other.output)


@pytest.mark.parametrize("seed", range(12))
def test_the_path_is_as_short_as_any_matching_allows(seed):
    rng = Random(seed)
    one, other = random_graph(rng, SPACE), random_graph(rng, SPACE)
    path = shortest_path(one, other)
    assert path.length == edit_distance(one, other), f"seed {seed}: {one!r}, {other!r}"
    assert path.length == shortest_path(other, one).length


def test_names_and_the_order_of_operands_are_no_edits():
    one = AttentionGraph.from_expression("softmax(Q @ K.T) @ (V + scale(K))")
    other = AttentionGraph.from_expression("t = scale(K) + V; softmax(Q @ K.T) @ t")
    assert shortest_path(one, other).length == 0
    assert cross_graphs(one, other, Random(0), SPACE) is None


def test_children_lie_between_their_parents():
    rng, found = Random(7), 0
    for _ in range(60):
        one, other = random_graph(rng, SPACE), random_graph(rng, SPACE)
        child = cross_graphs(one, other, rng, SPACE)
        if child is None:
            continue
        found += 1
        apart = edit_distance(one, other)
        to_one, to_other = edit_distance(one, child), edit_distance(child, other)
        assert 0 < to_one < apart, (one, other, child)
        assert 0 < to_other < apart, (one, other, child)
        assert to_one + to_other == apart
        assert SPACE.min_nodes <= len(child) <= SPACE.max_nodes
        assert AttentionGraph.from_dict(child.to_dict()) == child
    assert found >= 10  # about every third pair of such small random graphs has one


def test_relatives_of_the_size_of_a_search_have_children():
    one, other = presets.get("autobert-zero/10"), presets.get("autobert-zero/4")
    space = SearchSpace()
    children = {cross_graphs(one, other, Random(seed), space) for seed in range(30)} - {None}
    assert len(children) > 1
    length = shortest_path(one, other).length
    for child in children:
        assert shortest_path(one, child).length <= length
        assert shortest_path(child, other).length <= length


def test_a_child_of_backbones_has_layers_of_both_or_between_and_is_neither():
    rng = Random(3)
    between = 0
    for _ in range(100):
        one, other = random_backbone(rng, SPACE), random_backbone(rng, SPACE)
        crossed = cross_backbones(one, other, rng, SPACE)
        assert crossed is not None  # three random layers are hardly ever equal in two
        child, mutation = crossed
        SPACE.require(child)
        assert mutation.kind == "crossover"
        assert child.layers not in (one.layers, other.layers)
        for a, b, c in zip(one.layers, other.layers, child.layers, strict=True):
            if c in (a, b):
                continue
            between += 1
            path = shortest_path(a.graph, b.graph)
            assert shortest_path(a.graph, c.graph).length < path.length
    assert between > 0


@pytest.mark.parametrize(
    "others", [(ConvLayer(3), ConvLayer(5), ConvLayer(7)), (ConvLayer(3), ConvLayer(5)), (ConvLayer(3), ConvLayer(9))]
)  # fmt: skip
def test_between_equal_unlike_long_or_all_but_equal_backbones_there_is_nothing(others):
    one = Backbone((ConvLayer(3), ConvLayer(5)), 16, 2, 16)
    assert cross_backbones(one, Backbone(others, 16, 2, 16), Random(0), SPACE) is None


def test_one_layer_of_attention_is_crossed_inside():
    texts = ("softmax(scale(Q @ K.T)) @ V", "softmax(Q @ -K.T) @ (V + K)")
    one, other = (
        Backbone((AttentionLayer(AttentionGraph.from_expression(text)),), 16, 2, 16) for text in texts
    )
    space = SearchSpace(layers=1, hidden_size=16, heads=2, ffn_size=16)
    crossed = cross_backbones(one, other, Random(1), space)
    assert crossed is not None
    assert "between both: 1" in str(crossed[1])
