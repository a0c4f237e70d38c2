"""How fast evolution proposes: it must never be what a search waits for."""

from __future__ import annotations

from random import Random

from evolution import OperationPriority, SearchSpace, mutate_graph, random_graph

GRAPHS = 200


def test_at_least_3000_valid_mutations_a_second_on_one_core(benchmark):
    space = SearchSpace()
    priority = OperationPriority.uniform(space.operations)
    rng = Random(0)
    graphs = [random_graph(rng, space) for _ in range(GRAPHS)]

    def mutate_all():
        return [mutate_graph(graph, rng, space, priority) for graph in graphs]

    mutated = benchmark.pedantic(mutate_all, rounds=10, warmup_rounds=1)
    assert len(mutated) == GRAPHS  # making a graph validates it
    # The fastest round: others share their core with whatever else the machine does.
    assert GRAPHS / benchmark.stats["min"] >= 3_000


def test_at_least_3000_random_graphs_a_second_on_one_core(benchmark):
    space = SearchSpace()
    rng = Random(0)
    benchmark.pedantic(lambda: [random_graph(rng, space) for _ in range(GRAPHS)], rounds=10, warmup_rounds=1)
    assert GRAPHS / benchmark.stats["min"] >= 3_000
