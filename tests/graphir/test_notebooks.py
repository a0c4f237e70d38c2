"""Graphs, backbones and differences as notebooks show them."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from graphir import AttentionGraph, Backbone, presets

GRAPH = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="plain")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    "shown", [GRAPH, presets.get("autobert-zero"), GRAPH.diff(presets.get("autobert-zero/2"))]
)
def test_they_are_pictures(shown) -> None:
    root = ElementTree.fromstring(shown._repr_svg_())
    assert root.tag == f"{SVG}svg"
    assert "softmax" in [text.text for text in root.iter(f"{SVG}text")]


def test_a_graph_is_its_formula() -> None:
    assert GRAPH._repr_latex_() == rf"$\displaystyle {GRAPH.equation('latex')}$"


def test_a_backbone_is_a_line_a_layer() -> None:
    backbone = presets.get("autobert-zero")
    assert isinstance(backbone, Backbone)
    latex = backbone._repr_latex_()
    assert latex.startswith(r"$\begin{aligned}1&: ")
    assert latex.endswith(r"\end{aligned}$")
    assert len(re.findall(r"\d+&: ", latex)) == len(backbone.layers)
    assert latex.count(r" \\ ") == len(backbone.layers) - 1
