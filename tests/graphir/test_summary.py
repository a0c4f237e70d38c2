"""Tables for a terminal."""

import pytest

from graphir import AttentionGraph, presets


@pytest.mark.parametrize("seed", range(10))
def test_a_graph_summary_lists_every_value_in_aligned_columns(random_graph, seed: int) -> None:
    graph = random_graph(seed, 15)
    lines = graph.summary().splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["node", "operation"])
    rows = lines[start + 1 : start + 1 + len(graph.types)]
    column = lines[start].index("type")
    for row, (name, value_type) in zip(rows, graph.types.items(), strict=True):
        assert row.split()[0] == name, f"seed {seed}"
        assert row[column : column + 5] == " x ".join(value_type), f"seed {seed}"
    assert [row.split()[0] for row in rows if row.endswith("(output)")] == [graph.output]


def test_a_graph_summary_holds_formula_cost_and_hash() -> None:
    graph = presets.get("autobert-zero/12")
    summary = graph.summary()
    assert summary.startswith("autobert-zero/12: 7 nodes, inputs Q, K, V\n")
    assert graph.equation() in summary
    assert graph.canonical_hash()[:12] in summary
    assert str(graph.cost()) in summary
    assert all(line == line.rstrip() for line in summary.splitlines())


def test_one_node_and_one_input_are_singular() -> None:
    assert AttentionGraph.from_expression("-Q").summary().startswith("graph: 1 node, input Q\n")


def test_a_backbone_summary_has_a_line_a_layer() -> None:
    backbone = presets.get("autobert-zero")
    lines = backbone.summary().splitlines()
    assert lines[0] == "autobert-zero: 12 layers, 6 of attention, 6 of convolution"
    assert "hidden size 768, heads 12 of 64, feed-forward size 3072" in lines[1]
    rows = [line.split() for line in lines if line.split() and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 13)]
    assert [row[1] for row in rows] == ["conv", "attention"] * 6
    assert rows[0][-1] == "65"
    assert backbone.canonical_hash()[:12] in backbone.summary()
