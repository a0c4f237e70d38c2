"""DOT and Mermaid, read back by small parsers of the quoting rules."""

import re
from itertools import pairwise

import pytest

from graphir import EXTENDED_OPERATIONS, AttentionGraph, AttentionLayer, Backbone, ConvLayer, Node, presets
from graphir.markup import dot_string, mermaid_string

# Words that mean something in one of the two languages.
AWKWARD = ["end", "graph", "node", "edge", "subgraph", "digraph", "strict", "output", "style", "click"]


def awkward_graph() -> AttentionGraph:
    nodes = [Node(AWKWARD[0], "neg", ("Q",))]
    nodes += [Node(name, "neg", (before,)) for before, name in pairwise(AWKWARD)]
    return AttentionGraph(nodes, AWKWARD[-1], name="end")


def dot_edges(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r'^ *"([^"]+)" -> "([^"]+)"', text, re.MULTILINE))


@pytest.mark.parametrize("seed", range(20))
def test_both_hold_every_node_and_edge(random_graph, seed: int) -> None:
    graph = random_graph(seed, 20, EXTENDED_OPERATIONS)
    wanted = set(graph.nx.edges) | {(graph.output, "/output")}
    assert dot_edges(graph.to_dot()) == wanted, f"seed {seed}"
    mermaid = graph.to_mermaid()
    found = set(re.findall(r"^ +v_(\w+) -->(?:\|\d\|)? v_(\w+)$", mermaid, re.MULTILINE))
    assert found == set(graph.nx.edges), f"seed {seed}"
    for node in graph.nodes:
        kind = " x ".join(graph.types[node.id])
        assert f'"{node.id}" [label="{node.op}\\n{kind}"]' in graph.to_dot(), f"seed {seed}"
        assert f'v_{node.id}["{node.op}<br/>{kind}"]' in mermaid, f"seed {seed}"


def test_operands_are_numbered_where_their_order_counts() -> None:
    graph = AttentionGraph.from_expression("softmax(Q @ K.T) @ (Q + V)")
    assert graph.to_dot().count('headlabel="1"') == graph.to_dot().count('headlabel="2"') == 2
    assert graph.to_mermaid().count("|1|") == graph.to_mermaid().count("|2|") == 2


def test_reserved_words_as_node_names_do_no_harm() -> None:
    graph = awkward_graph()
    assert dot_edges(graph.to_dot()) == set(graph.nx.edges) | {(graph.output, "/output")}
    for line in graph.to_mermaid().splitlines()[4:]:
        assert re.match(r" +(v_|voutput|classDef)", line), line


@pytest.mark.parametrize("text", ['say "x"', "back\\slash", '\\"', "two\nlines", "]; evil -> x [", "#quot;"])
def test_quoting_keeps_every_character_inside_the_string(text: str) -> None:
    quoted = dot_string(text)
    # DOT: a string ends at the first quote that no backslash stands before
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', quoted)
    assert (
        quoted[1:-1].replace("\\\\", "\0").replace('\\"', '"').replace("\\n", "\n").replace("\0", "\\")
        == text
    )
    escaped = mermaid_string(text)
    assert re.fullmatch(r'"[^"\n]*"', escaped)
    plain = escaped[1:-1].replace("<br/>", "\n").replace("#quot;", '"').replace("#lt;", "<")
    assert plain.replace("#gt;", ">").replace("#35;", "#") == text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a<br/>b"])
def test_html_in_a_label_is_escaped(text: str) -> None:
    assert "<" not in mermaid_string(text)


def test_a_backbone_has_a_cluster_a_layer() -> None:
    backbone = presets.get("autobert-zero")
    dot, mermaid = backbone.to_dot(), backbone.to_mermaid()
    assert dot.count("subgraph") == mermaid.count("subgraph layer") == 12
    assert dot.count("conv, kernel size 7") == mermaid.count("conv, kernel size 7") == 2
    assert dot.count("{") == dot.count("}")
    assert mermaid.count("-.->") == 11


def test_layers_are_joined_from_the_output_to_every_input() -> None:
    plain = AttentionGraph.from_expression("softmax(Q @ K.T) @ V")
    backbone = Backbone((ConvLayer(3), AttentionLayer(plain), ConvLayer(5)), 8, 2, 16)
    edges = dot_edges(backbone.to_dot())
    assert {("layer1/conv", f"layer2/{name}") for name in "QKV"} < edges
    assert ("layer2//output", "layer3/conv") in edges
