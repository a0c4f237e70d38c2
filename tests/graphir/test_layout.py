"""The layered layout: nothing overlaps, everything flows downwards."""

import itertools

import numpy as np
import pytest

from graphir import EXTENDED_OPERATIONS, OPERATIONS, AttentionGraph, Node, presets
from graphir.layout import OUTPUT, Box, Layout, lay_out

GRAPHS = [name for name in presets.names() if isinstance(presets.get(name), AttentionGraph)]


def check(graph: AttentionGraph, layout: Layout, where: str) -> None:
    boxes = {box.name: box for box in layout.boxes}
    assert set(boxes) == {*graph.types, OUTPUT}, where
    for a, b in itertools.combinations(layout.boxes, 2):
        apart = abs(a.x - b.x) - (a.width + b.width) / 2, abs(a.y - b.y) - (a.height + b.height) / 2
        assert max(apart) > 1, f"{where}: {a.name} and {b.name} overlap"
    for edge in layout.edges:
        (x0, y0), (x1, y1) = edge.points[0], edge.points[-1]
        source, target = boxes[edge.source], boxes[edge.target]
        assert (x0, y0) == (source.x, source.y + source.height / 2), where
        assert y1 == target.y - target.height / 2, where
        assert abs(x1 - target.x) < target.width / 2, where
        heights = [y for _, y in edge.points]
        assert heights == sorted(heights), f"{where}: {edge.source} -> {edge.target} runs upwards"
        for (ax, ay), (bx, by) in list(itertools.pairwise(edge.points))[1::2]:
            assert ax == bx, f"{where}: an edge leans while it passes a rank"
            for box in layout.boxes:
                assert not covers(box, ax, (ay + by) / 2), f"{where}: an edge runs through {box.name}"
    for box in layout.boxes:
        assert box.width / 2 - 1e-6 <= box.x <= layout.width - box.width / 2 + 1e-6, where
        assert box.height / 2 <= box.y <= layout.height - box.height / 2, where


def covers(box: Box, x: float, y: float) -> bool:
    return abs(x - box.x) < box.width / 2 + 1 and abs(y - box.y) < box.height / 2


@pytest.mark.parametrize("name", GRAPHS)
def test_presets_are_laid_out_without_overlap(name: str) -> None:
    graph = presets.get(name)
    check(graph, lay_out(graph), name)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_are_laid_out_without_overlap(random_graph, seed: int) -> None:
    graph = random_graph(seed, 28, EXTENDED_OPERATIONS)
    check(graph, lay_out(graph), f"seed {seed}")


@pytest.mark.parametrize("seed", range(2))
def test_the_largest_graph_with_many_long_edges_is_laid_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = ["Q", "K", "V"]
    nodes = []
    for i in range(64):
        operands = (values[-1], values[rng.integers(len(values))]) if i % 2 else (values[-1],)
        nodes.append(Node(f"n{i}", "add" if i % 2 else "softsign", operands))
        values.append(f"n{i}")
    graph = AttentionGraph(nodes, "n63")
    check(graph, lay_out(graph), f"seed {seed}")


def test_every_operand_has_an_edge_with_its_number_where_order_counts() -> None:
    graph = AttentionGraph.from_expression("euclidean_distance(Q, Q) @ (Q + K)")
    layout = lay_out(graph)
    marks = {}
    for node in graph.nodes:
        marks[node.op] = sorted(edge.mark for edge in layout.edges if edge.target == node.id)
        assert not OPERATIONS[node.op].commutative or set(marks[node.op]) == {""}
    assert marks == {"euclidean_distance": ["1", "2"], "add": ["", ""], "matmul": ["1", "2"]}
    assert len({edge.points[-1] for edge in layout.edges}) == len(layout.edges), "no two arrive at one point"


def test_plain_attention_has_no_crossing_and_a_straight_spine() -> None:
    layout = lay_out(presets.get("bert/1"))
    x = {box.op: box.x for box in layout.boxes}
    assert x["scale"] == x["softmax"] == x["matmul"] == x["output"]


def test_the_layout_is_the_same_every_time(random_graph) -> None:
    graph = random_graph(5, 25)
    assert lay_out(graph) == lay_out(AttentionGraph.from_dict(graph.to_dict()))
