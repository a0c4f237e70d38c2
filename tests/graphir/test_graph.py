"""The graph as an object: types, equality, the networkx view, copies."""

import copy
import json
import pickle

import networkx as nx
import pytest

from graphir import EXTENDED_OPERATIONS, AttentionGraph, AttentionLayer, Backbone, ConvLayer, Node


def test_types_are_inferred() -> None:
    graph = AttentionGraph.from_expression("(Q.T @ Q @ K.T).T")
    assert graph.types[graph.output] == ("S", "D")
    assert {graph.types[node.id] for node in graph.nodes} == {("D", "S"), ("D", "D"), ("S", "D")}


@pytest.mark.parametrize("seed", range(30))
def test_the_networkx_view_holds_the_whole_graph(random_graph, seed: int) -> None:
    graph = random_graph(seed, 15, EXTENDED_OPERATIONS)
    view = graph.nx
    assert nx.is_directed_acyclic_graph(view)
    assert set(view) == set(graph.types)
    for node in graph.nodes:
        edges = view.in_edges(node.id, data="operands")
        operands = {int(p): source for source, _, positions in edges for p in positions.split(",")}
        assert tuple(operands[i] for i in sorted(operands)) == node.inputs, f"seed {seed}"
        assert view.nodes[node.id]["op"] == node.op
        assert tuple(view.nodes[node.id]["type"].split(" x ")) == graph.types[node.id]
    assert view.graph["output"] == graph.output
    # frozen: the graph behind it cannot be changed through the view
    with pytest.raises(nx.NetworkXError, match=r"[Ff]rozen"):
        view.add_edge("Q", "new")


WRITERS = {
    "JSON": (
        lambda view, path: path.write_text(json.dumps(nx.node_link_data(view))),
        lambda path: nx.node_link_graph(json.loads(path.read_text())),
    ),
    "GML": (nx.write_gml, nx.read_gml),
    "GraphML": (nx.write_graphml, nx.read_graphml),
    "GEXF": (nx.write_gexf, nx.read_gexf),
}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("seed", range(3))
def test_every_writer_of_networkx_takes_the_view_of_a_graph_and_of_a_backbone(
    tmp_path, random_graph, form, seed
) -> None:
    write, read = WRITERS[form]
    graph = random_graph(seed, 15, EXTENDED_OPERATIONS)
    for view in (
        graph.nx,
        Backbone((AttentionLayer(graph), ConvLayer(3), AttentionLayer(graph)), 8, 2, 8).nx,
    ):
        write(view, tmp_path / "view")
        back = read(tmp_path / "view")
        assert set(back.edges) == set(view.edges), f"seed {seed}"
        for name, attributes in view.nodes(data=True):
            kept = {key: back.nodes[name][key] for key in attributes}
            assert kept == attributes, f"seed {seed}"
        for source, target, attributes in view.edges(data=True):
            kept = {key: back.edges[source, target][key] for key in attributes}
            assert kept == attributes, f"seed {seed}"


def test_equality_is_that_of_nodes_and_not_of_names() -> None:
    one = AttentionGraph.from_expression("softmax(Q @ K.T) @ V", name="one")
    two = one.renamed("two")
    assert one == two
    assert hash(one) == hash(two)
    assert two.name == "two"
    assert one != AttentionGraph.from_expression("softmax(K @ Q.T) @ V")
    assert one != "softmax(Q @ K.T) @ V"


def test_the_name_of_a_value_used_twice_is_kept_at_both_positions() -> None:
    graph = AttentionGraph(
        [Node("a", "euclidean_distance", ("Q", "Q")), Node("b", "matmul", ("a", "Q"))], "b"
    )
    assert graph.nx.edges["Q", "a"]["operands"] == "0,1"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_a_graph_can_be_copied_and_sent_to_another_process(copied) -> None:
    graph = AttentionGraph.from_expression("softmax(Q @ K.T) @ V", name="plain")
    other = copied(graph)
    assert other == graph
    assert (other.name, dict(other.types)) == (graph.name, dict(graph.types))


def test_an_unknown_style_of_equation_is_refused() -> None:
    with pytest.raises(ValueError, match="'text' or 'latex'"):
        AttentionGraph.from_expression("Q").equation("html")
