"""Random graphs and backbones: valid, varied, within the bounds of their space, the same for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from evolution import SearchSpace, random_backbone, random_graph
from evolution.space import PLAIN_ATTENTION
from graphir import (
    EXTENDED_OPERATIONS,
    PAPER_OPERATIONS,
    AttentionGraph,
    ConvLayer,
    InputError,
)
from graphir.ops import VALUE_TYPES


@pytest.mark.parametrize(("operations", "seed"), [(PAPER_OPERATIONS, 1), (EXTENDED_OPERATIONS, 2)])
def test_random_graphs_are_valid_within_bounds_and_use_the_whole_space(operations, seed):
    space = SearchSpace(operations=operations, min_nodes=2, max_nodes=12)
    rng = Random(seed)
    used, types, sizes, shared = Counter(), Counter(), Counter(), 0
    for _ in range(5_000):  # with both operation sets: 10,000
        graph = random_graph(rng, space)
        # The file form goes through every check of graphir again.
        assert AttentionGraph.from_dict(graph.to_dict()) == graph
        sizes[len(graph)] += 1
        used.update(node.op for node in graph.nodes)
        types.update(graph.types.values())
        uses = Counter(name for node in graph.nodes for name in set(node.inputs))
        shared += any(uses[node.id] > 1 for node in graph.nodes)
    assert set(used) == set(operations), f"seed {seed}"
    assert set(types) == set(VALUE_TYPES), f"seed {seed}"
    assert set(sizes) == set(range(2, 13)), f"seed {seed}"
    assert shared > 500, f"seed {seed}: values are shared in only {shared} of 5,000 graphs"


def test_sizes_are_drawn_evenly():
    space = SearchSpace(min_nodes=3, max_nodes=6)
    rng = Random(5)
    sizes = Counter(len(random_graph(rng, space)) for _ in range(4_000))
    # 1,000 expected each; 5 standard deviations are 137.
    assert all(abs(sizes[n] - 1_000) < 137 for n in (3, 4, 5, 6)), sizes


@pytest.mark.parametrize(
    ("operations", "possible"),
    [
        (("neg",), {1, 2, 3, 4, 5}),
        (("transpose",), {2, 4}),
        (("cosine_similarity", "matmul"), {2, 4}),
    ],
)
def test_only_sizes_that_the_operations_allow_are_drawn(operations, possible):
    space = SearchSpace(operations=operations, min_nodes=1, max_nodes=5)
    rng = Random(0)
    assert {len(random_graph(rng, space)) for _ in range(300)} == possible


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_random_backbones_hold_convolutions_with_the_given_probability(probability):
    space = SearchSpace(layers=10, conv_probability=probability)
    rng = Random(3)
    backbones = [random_backbone(rng, space) for _ in range(100)]
    convolutions = [x for b in backbones for x in b.layers if isinstance(x, ConvLayer)]
    # 1,000 layers; 5 standard deviations at 0.25 are 68.
    assert abs(len(convolutions) - 1_000 * probability) <= (68 if 0 < probability < 1 else 0)
    if convolutions:
        assert {layer.kernel_size for layer in convolutions} == set(space.kernel_sizes)
    for backbone in backbones:
        space.require(backbone)


def test_the_same_seed_gives_the_same_backbone_in_another_process():
    code = (
        "from random import Random; from evolution import SearchSpace, random_backbone;"
        "print(random_backbone(Random('7/3'), SearchSpace()).equation())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert printed == {random_backbone(Random("7/3"), SearchSpace()).equation() + "\n"}


def test_a_space_of_convolutions_has_no_random_graph():
    with pytest.raises(ValueError, match="conv_probability is 1"):
        random_graph(Random(0), SearchSpace(operations=(), conv_probability=1.0))


def test_new_attention_is_plain_as_often_as_the_space_says():
    space = SearchSpace(layers=1, conv_probability=0.0, plain_probability=0.25)
    rng = Random(0)
    plain = PLAIN_ATTENTION.canonical_hash()
    drawn = [random_backbone(rng, space).layers[0].graph.canonical_hash() == plain for _ in range(400)]
    assert 0.15 < sum(drawn) / 400 < 0.35  # four and a half deviations of 0.022


def test_without_plain_attention_a_space_draws_and_is_written_as_before():
    space = SearchSpace()
    assert "plain_probability" not in space.to_dict()
    with_plain = replace(space, plain_probability=0.5)
    assert SearchSpace.from_dict(with_plain.to_dict()) == with_plain
    assert SearchSpace.from_dict(space.to_dict()) == space


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"operations": ("neg", "transpose", "matmul")}, "lacks scale, softmax"),
        ({"max_nodes": 4}, "allows no 5 nodes"),
    ],
)
def test_plain_attention_outside_of_the_space_is_refused(fields, reason):
    with pytest.raises(InputError, match=reason):
        SearchSpace(**fields, plain_probability=0.5)
