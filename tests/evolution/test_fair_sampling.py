"""Fair sampling: what a round uses, counted."""

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from random import Random

import pytest

from evolution import SearchSpace, fair_backbones
from evolution.fair_sampling import round_length
from graphir import ConvLayer

SPACE = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=32)


def rounds(space: SearchSpace, seed: int, count: int = 1):
    return list(islice(fair_backbones(Random(seed), space), count * round_length(space)))


@pytest.mark.parametrize("seed", range(3))
def test_a_round_uses_each_branch_and_each_kernel_size_of_each_layer_equally_often(seed):
    for number in range(SPACE.layers):
        layers = [backbone.layers[number] for backbone in rounds(SPACE, seed)]
        kernels = Counter(layer.kernel_size for layer in layers if isinstance(layer, ConvLayer))
        assert kernels == dict.fromkeys(SPACE.kernel_sizes, 1), f"layer {number}, seed {seed}"
        assert len(layers) - kernels.total() == kernels.total(), f"layer {number}, seed {seed}"


def test_two_successive_backbones_use_both_branches_of_every_layer():
    backbones = rounds(SPACE, 0, 2)
    for one, other in zip(backbones[::2], backbones[1::2], strict=True):
        assert all(
            {a.kind, b.kind} == {"conv", "attention"} for a, b in zip(one.layers, other.layers, strict=True)
        )
    # Layers take turns by themselves: a supernet that knew two patterns alone would have tied its layers together.
    assert len({tuple(layer.kind for layer in backbone.layers) for backbone in backbones}) > 2


def test_graphs_of_a_layer_go_through_all_sizes_before_one_comes_again():
    count = 2  # seven graphs of a layer a round: fourteen sizes in two rounds
    for number in range(SPACE.layers):
        layers = [backbone.layers[number] for backbone in rounds(SPACE, 1, count)]
        sizes = Counter(len(layer.graph) for layer in layers if not isinstance(layer, ConvLayer))
        assert sizes == dict.fromkeys(SPACE.graph_sizes, 1), f"layer {number}"


def test_no_structure_comes_twice_in_a_round():
    for seed in range(5):
        hashes = [graph.canonical_hash() for backbone in rounds(SPACE, seed) for graph in backbone.graphs]
        assert len(hashes) == len(set(hashes)), f"seed {seed}"


def test_a_space_of_one_structure_is_no_endless_search_for_another():
    space = replace(SPACE, operations=("neg",), min_nodes=2, max_nodes=2)
    assert len(rounds(space, 0, 2)) == 2 * round_length(space)


@pytest.mark.parametrize(("probability", "kind"), [(0.0, "attention"), (1.0, "conv")])
def test_a_space_of_one_branch_has_that_alone(probability, kind):
    backbones = rounds(replace(SPACE, conv_probability=probability), 0, 3)
    assert {layer.kind for backbone in backbones for layer in backbone.layers} == {kind}


def test_rounds_differ_and_follow_from_the_seed():
    backbones = rounds(SPACE, 3, 2)
    assert backbones == rounds(SPACE, 3, 2)
    assert all(one != other for one, other in pairwise(backbones))
    for backbone in backbones:
        SPACE.require(backbone)
