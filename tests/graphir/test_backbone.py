"""Backbones: sizes, files, formulas and the networkx view."""

from pathlib import Path

import networkx as nx
import pytest

from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, GraphError

PLAIN = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="plain")
SMALL = Backbone((ConvLayer(3), AttentionLayer(PLAIN), ConvLayer(65)), 8, 2, 16, "small")


def test_a_backbone_survives_dict_and_file(tmp_path: Path) -> None:
    assert Backbone.from_dict(SMALL.to_dict()) == SMALL
    SMALL.save(tmp_path / "b.json")
    assert Backbone.load(tmp_path / "b.json") == SMALL


def test_the_file_form_is_version_1() -> None:
    data = SMALL.to_dict()
    assert {key: data[key] for key in data if key != "layers"} == {
        "format": "opnas.backbone/1", "name": "small", "hidden_size": 8, "heads": 2, "ffn_size": 16,
    }  # fmt: skip
    assert data["layers"][0] == {"kind": "conv", "kernel_size": 3}
    assert data["layers"][1] == {"kind": "attention", "graph": PLAIN.to_dict()}


def test_the_head_dimension_and_the_graphs_are_at_hand() -> None:
    assert SMALL.head_dim == 4
    assert SMALL.graphs == (PLAIN,)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"hidden_size": 9}, "hidden_size 9 must be a multiple of heads 2"),
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1 to 65536, not 0"),
        ({"heads": -1}, "heads must be a whole number"),
        ({"heads": True}, "heads must be a whole number"),
        ({"ffn_size": 2.5}, "ffn_size must be a whole number from 1 to 65536, not 2.5"),
        ({"ffn_size": "16"}, "not '16'"),
        ({"ffn_size": 10**5000}, "not a huge number"),
        ({"name": '"; import os'}, "is not allowed"),
        ({"layers": ()}, "1 to 128 layers, not 0"),
        ({"layers": (ConvLayer(3),) * 129}, "1 to 128 layers, not 129"),
        ({"layers": (ConvLayer(4),)}, "layer 1: kernel_size must be odd, not 4"),
        ({"layers": (ConvLayer(3), ConvLayer(1025))}, "layer 2: kernel_size must be a whole number from 1"),
        ({"layers": (PLAIN,)}, "layer 1: expected ConvLayer or AttentionLayer, not AttentionGraph"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, object], words: str) -> None:
    fine = {"layers": (ConvLayer(3),), "hidden_size": 8, "heads": 2, "ffn_size": 16}
    with pytest.raises(GraphError) as caught:
        Backbone(**(fine | sizes))
    assert words in str(caught.value)


def test_a_resized_backbone_keeps_its_layers_and_says_its_size() -> None:
    large = SMALL.resized("large")
    assert (large.hidden_size, large.heads, large.ffn_size, large.layers) == (1024, 16, 4096, SMALL.layers)
    assert large.name == "small-large"
    assert large.resized("base").name == "small-base"  # one size, not two
    assert len(Backbone(SMALL.layers, name="n" * 80).resized("small").name) == 80
    with pytest.raises(GraphError, match="size must be one of small, base, large, not 'tiny'"):
        SMALL.resized("tiny")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"kind": "conv", "kernel_size": 3, "x": 1}, "the layer 1 has unknown keys 'x'"),
        ({"kind": "conv"}, "the layer 1 lacks kernel_size"),
        ({"kind": "pool"}, "kind must be 'conv' or 'attention', not 'pool'"),
        ({}, "kind must be"),
        ("conv", "kind must be"),
        ({"kind": "attention", "graph": []}, "layer 1: a graph file holds one JSON object"),
        ({"kind": "attention", "graph": PLAIN.to_dict() | {"output": "n9"}}, "layer 1: the output 'n9'"),
    ],
)
def test_a_layer_that_is_none_is_refused(layer: object, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        Backbone.from_dict(SMALL.to_dict() | {"layers": [layer]})
    assert words in str(caught.value)


def test_a_fault_inside_a_graph_names_layer_and_node() -> None:
    bad = PLAIN.to_dict()
    bad["nodes"][0]["op"] = "negate"
    data = SMALL.to_dict() | {
        "layers": [{"kind": "conv", "kernel_size": 3}, {"kind": "attention", "graph": bad}]
    }
    with pytest.raises(GraphError, match="layer 2: node 'n0': unknown operation") as caught:
        Backbone.from_dict(data)
    assert caught.value.node == "n0"


def test_a_graph_file_is_no_backbone() -> None:
    with pytest.raises(GraphError, match=r"unknown format 'opnas\.graph/1'"):
        Backbone.from_dict(PLAIN.to_dict())
    with pytest.raises(GraphError, match=r"unknown format 'opnas\.backbone/1'"):
        AttentionGraph.from_dict(SMALL.to_dict())


def test_the_formula_has_a_line_a_layer() -> None:
    assert SMALL.equation() == "1: conv(3)\n2: softmax(scale(Q @ K.T)) @ V\n3: conv(65)"
    assert SMALL.equation("latex").splitlines()[0] == r"1: \mathrm{conv}_{3}"


def test_the_networkx_view_joins_the_layers() -> None:
    view = SMALL.nx
    assert nx.is_directed_acyclic_graph(view)
    assert view.nodes["layer3/conv"]["kernel_size"] == 65
    assert len(view) == 2 + len(PLAIN.nx)
    assert set(view.successors("layer1/conv")) == {"layer2/Q", "layer2/K", "layer2/V"}
    assert set(view.predecessors("layer3/conv")) == {f"layer2/{PLAIN.output}"}
    with pytest.raises(nx.NetworkXError):
        view.remove_node("layer1/conv")
