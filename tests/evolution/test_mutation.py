"""Mutations: valid, within bounds, never nothing, and drawn as they should be."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from evolution import (
    GRAPH_MUTATIONS,
    LAYER_MUTATIONS,
    OperationPriority,
    SearchSpace,
    mutate_backbone,
    mutate_graph,
    random_backbone,
    random_graph,
)
from graphir import (
    EXTENDED_OPERATIONS,
    OPERATIONS,
    PAPER_OPERATIONS,
    AttentionGraph,
    AttentionLayer,
    Backbone,
    ConvLayer,
    presets,
)


def formula(graph: AttentionGraph) -> object:
    """The graph as a nested tuple, operands of commutative operations sorted: equal for equal formulas."""
    values: dict[str, tuple] = {name: (name,) for name in graph.inputs}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        if OPERATIONS[node.op].commutative:
            operands.sort(key=repr)
        values[node.id] = (node.op, *operands)
    return values[graph.output]


@pytest.mark.parametrize(("operations", "seed"), [(PAPER_OPERATIONS, 1), (EXTENDED_OPERATIONS, 2)])
def test_mutated_graphs_are_valid_within_bounds_and_never_the_same_formula(operations, seed):
    space = SearchSpace(operations=operations, min_nodes=2, max_nodes=9)
    priority = OperationPriority.uniform(operations)
    rng = Random(seed)
    kinds, drawn = Counter(), Counter()
    graph = random_graph(rng, space)
    for step in range(5_000):  # with both operation sets: 10,000
        if step % 25 == 0:
            graph = random_graph(rng, space)
        mutated, mutation = mutate_graph(graph, rng, space, priority)
        where = f"seed {seed}, step {step}: {mutation}"
        assert AttentionGraph.from_dict(mutated.to_dict()) == mutated, where
        assert 2 <= len(mutated) <= 9, where
        assert {node.op for node in mutated.nodes} <= set(operations), where
        assert formula(mutated) != formula(graph), where
        kinds[mutation.kind] += 1
        if mutation.operation is not None:
            drawn[mutation.operation] += 1
            assert any(node.op == mutation.operation for node in mutated.nodes), where
        graph = mutated
    assert set(kinds) == set(GRAPH_MUTATIONS), f"seed {seed}"
    assert set(drawn) == set(operations), f"seed {seed}"


def test_a_mutated_graph_keeps_the_ids_of_the_nodes_that_stay():
    rng, space = Random(0), SearchSpace()
    priority = OperationPriority.uniform(space.operations)
    graph = presets.get("autobert-zero/10")
    old = {node.id: node for node in graph.nodes}
    for _ in range(200):
        mutated, mutation = mutate_graph(graph, rng, space, priority)
        same = sum(old.get(node.id) == node for node in mutated.nodes)
        changed = sum(node.id in old and old[node.id] != node for node in mutated.nodes)
        if mutation.kind in ("replace", "insert", "rewire"):
            assert changed <= 1, mutation
        assert same + changed <= len(old)


@pytest.mark.parametrize("text", ["softmax(Q)", "Q @ (K.T @ V)", "-(-(-(-(-Q))))"])
def test_a_graph_out_of_the_bounds_does_not_leave_them_further(text):
    space = SearchSpace(min_nodes=3, max_nodes=3)
    graph = AttentionGraph.from_expression(text)
    low, high = min(3, len(graph)), max(3, len(graph))
    rng = Random(4)
    for _ in range(200):
        mutated, mutation = mutate_graph(graph, rng, space, OperationPriority.uniform(space.operations))
        assert low <= len(mutated) <= high, mutation


def test_a_graph_of_one_operation_in_a_space_of_one_can_still_change():
    space = SearchSpace(operations=("neg",), min_nodes=1, max_nodes=1)
    graph = AttentionGraph.from_expression("-Q")
    seen = {
        mutate_graph(graph, Random(seed), space, OperationPriority.uniform(("neg",)))[0].equation()
        for seed in range(50)
    }
    assert seen == {"-K", "-V"}


def test_an_operation_of_higher_priority_is_put_more_often():
    space = SearchSpace()
    priority = OperationPriority({name: 3.0 if name == "softsign" else 0.0 for name in space.operations})
    rng = Random(9)
    drawn = Counter()
    for _ in range(2_000):
        _, mutation = mutate_graph(random_graph(rng, space), rng, space, priority)
        drawn[mutation.operation] += 1
    others = [drawn[name] for name in space.operations if name != "softsign"]
    # e^3 = 20 times each other one where all fit; transposes and products compete at fewer places.
    assert drawn["softsign"] > 5 * max(others)


def test_a_mutated_backbone_differs_in_the_one_layer_that_the_record_names():
    space = SearchSpace(layers=5, hidden_size=64, heads=4, ffn_size=64)
    priority = OperationPriority.uniform(space.operations)
    rng = Random(11)
    kinds = Counter()
    for step in range(1_000):
        backbone = random_backbone(rng, space)
        mutated, mutation = mutate_backbone(backbone, rng, space, priority)
        space.require(mutated)
        pairs = enumerate(zip(backbone.layers, mutated.layers, strict=True), 1)
        assert [n for n, (a, b) in pairs if a != b] == [mutation.layer], f"step {step}: {mutation}"
        kinds[mutation.kind] += 1
        old, new = backbone.layers[mutation.layer - 1], mutated.layers[mutation.layer - 1]
        assert (old.kind != new.kind) == (mutation.kind == "kind")
        assert str(mutation).startswith(f"layer {mutation.layer}: ")
    assert set(kinds) == {*GRAPH_MUTATIONS, *LAYER_MUTATIONS}
    between = sum(kinds[name] for name in LAYER_MUTATIONS)
    # 300 expected; a backbone of convolutions only (1 of 32) adds about 22; 5 standard deviations are 73.
    assert abs(between - 322) < 73


@pytest.mark.parametrize(
    ("fields", "layer", "kinds"),
    [
        ({"conv_probability": 0.0}, "attention", set(GRAPH_MUTATIONS)),
        ({"conv_probability": 1.0}, "conv", {"kernel_size"}),
        ({"kernel_sizes": (3,)}, "conv", {"kind"}),
    ],
)
def test_a_space_without_a_kind_of_layer_never_makes_it(fields, layer, kinds):
    space = SearchSpace(layers=3, **fields)
    rng = Random(2)
    graph = presets.get("autobert-zero/6")
    filler = ConvLayer(3) if layer == "conv" else AttentionLayer(graph)
    backbone = Backbone((filler,) * 3)
    found = Counter()
    for _ in range(200):
        mutated, mutation = mutate_backbone(backbone, rng, space, OperationPriority.uniform(space.operations))
        found[mutation.kind] += 1
        assert mutated != backbone
    assert set(found) == kinds


def test_a_backbone_that_the_space_cannot_change_is_refused():
    space = SearchSpace(layers=2, conv_probability=1.0, kernel_sizes=(3, 5))
    stuck = SearchSpace(layers=2, conv_probability=0.0, kernel_sizes=())
    backbone = Backbone((ConvLayer(3),) * 2)
    assert mutate_backbone(backbone, Random(0), space, OperationPriority.uniform(()))[1].kind == "kernel_size"
    changed, _ = mutate_backbone(backbone, Random(0), stuck, OperationPriority.uniform(stuck.operations))
    assert len(changed.graphs) == 1  # without convolutions in the space, a layer can only become attention
