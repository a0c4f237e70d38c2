"""How long the search waits for a graph: its hash and its construction."""

import pytest

from graphir import AttentionGraph, presets
from graphir.canonical import canonical_hash

# 23 nodes of every kind that has work to do: sums, products, transposes, pairs, shared values.
LARGE = AttentionGraph.from_expression(
    "a = scale(K) + (softsign(-Q) + V); b = softmax(scale(Q @ -logsigmoid(a).T)); "
    "c = cosine_similarity(b @ a, scale(K + V)); d = euclidean_distance(-a, scale(Q)); "
    "(c @ b + d.T) @ -(a + logsigmoid((b.T @ V).T.T))",
    name="large",
)
GRAPHS = [presets.get("autobert-zero/6"), presets.get("autobert-zero/10"), LARGE]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_a_canonical_hash_takes_under_a_millisecond(benchmark, graph: AttentionGraph) -> None:
    digest = benchmark(canonical_hash, graph)
    assert digest == canonical_hash(graph)
    if benchmark.stats is not None:  # None where benchmarks are disabled
        assert benchmark.stats.stats.median < 1e-3


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_construction_with_all_checks_takes_under_half_a_millisecond(
    benchmark, graph: AttentionGraph
) -> None:
    made = benchmark(AttentionGraph, graph.nodes, graph.output, graph.inputs, graph.name)
    assert made == graph
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < 5e-4
