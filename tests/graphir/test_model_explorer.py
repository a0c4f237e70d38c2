"""Model Explorer's graphs JSON: its fields, edges that lead somewhere, and the graph that can be read out of it."""

from __future__ import annotations

import pytest

from graphir import AttentionGraph, Backbone, ConvLayer, presets
from graphir.model_explorer import to_model_explorer

FIELDS = {"id", "label", "namespace", "attrs", "incomingEdges", "outputsMetadata"}
"""Of the interface GraphNode, those that are written."""
EDGE = {"sourceNodeId", "sourceNodeOutputId", "targetNodeInputId"}


def nodes_of(target):
    written = to_model_explorer(target)
    assert set(written) == {"label", "graphs"}
    (graph,) = written["graphs"]
    assert set(graph) == {"id", "nodes"}
    return {node["id"]: node for node in graph["nodes"]}, graph["nodes"]


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_has_the_documented_fields_with_texts_and_edges_between_its_nodes(name):
    by_id, nodes = nodes_of(presets.get(name))
    assert len(by_id) == len(nodes)
    for node in nodes:
        assert {"id", "label", "namespace"} <= set(node) <= FIELDS
        assert all(isinstance(node[field], str) for field in ("id", "label", "namespace"))
        for item in node.get("attrs", []):
            assert set(item) == {"key", "value"}
            assert isinstance(item["value"], str)
        for edge in node["incomingEdges"]:
            assert set(edge) == EDGE
            assert all(isinstance(value, str) for value in edge.values())
            assert edge["sourceNodeId"] in by_id


@pytest.mark.parametrize(
    "formula", ["softmax(scale(Q @ K.T)) @ V", "(Q + Q) @ (K.T @ V)", "K", "sub(V, softmax(V))"]
)
def test_a_graph_can_be_read_out_of_it_again(formula):
    graph = AttentionGraph.from_expression(formula)
    by_id, _ = nodes_of(graph)
    for node in graph.nodes:
        written = by_id[node.id]
        assert written["label"] == node.op
        assert tuple(edge["sourceNodeId"] for edge in written["incomingEdges"]) == node.inputs
        assert [edge["targetNodeInputId"] for edge in written["incomingEdges"]] == list(
            map(str, range(len(node.inputs)))
        )
    assert [edge["sourceNodeId"] for edge in by_id["/output"]["incomingEdges"]] == [graph.output]


def test_the_layers_of_a_backbone_are_namespaces_one_feeding_the_next():
    backbone = Backbone((ConvLayer(5), *presets.get("bert").layers[:1]), 16, 2, 24)
    by_id, _ = nodes_of(backbone)
    assert {node["namespace"] for node in by_id.values()} == {"layer1", "layer2", ""}
    assert {"key": "kernel size", "value": "5"} in by_id["layer1/conv"]["attrs"]
    for name in ("layer2/Q", "layer2/K", "layer2/V"):
        assert [edge["sourceNodeId"] for edge in by_id[name]["incomingEdges"]] == ["layer1/conv"]
