"""Graphs and backbones in the languages of Graphviz and Mermaid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphir.ops import OPERATIONS
from graphir.validation import show_type

if TYPE_CHECKING:
    from graphir.backbone import Backbone
    from graphir.graph import AttentionGraph

INPUT_FILL, OUTPUT_FILL, NODE_FILL = "#dbeafe", "#dcfce7", "#f8fafc"

_DOT_STYLE = (
    '  node [shape=box, style="rounded,filled", fillcolor="#f8fafc", fontname="Helvetica"];',
    '  edge [fontname="Helvetica", fontsize=10];',
)
_MERMAID_STYLE = (
    f"    classDef input fill:{INPUT_FILL},stroke:#3b82f6",
    f"    classDef output fill:{OUTPUT_FILL},stroke:#22c55e",
)


def graph_to_dot(graph: AttentionGraph) -> str:
    """The graph in DOT. Edges carry the operand's number where the order counts.

    Example:
        >>> from graphir import presets
        >>> print(graph_to_dot(presets.get("linear-cosine-attention")).splitlines()[0])
        digraph "linear-cosine-attention" {
    """
    return "\n".join(
        [f"digraph {dot_string(graph.name)} {{", *_DOT_STYLE, *_dot_body(graph, "", "  "), "}", ""]
    )


def backbone_to_dot(backbone: Backbone) -> str:
    """All layers in DOT, a cluster each."""
    lines = [f"digraph {dot_string(backbone.name)} {{", "  compound=true;", *_DOT_STYLE]
    previous: list[str] = []
    for number, layer in enumerate(backbone.layers, 1):
        prefix = f"layer{number}/"
        lines.append(f"  subgraph {dot_string(f'cluster_{number}')} {{")
        if layer.kind == "conv":
            lines.append(f"    label={dot_string(f'layer {number}: convolution')};")
            lines.append(
                f"    {dot_string(prefix + 'conv')} [label={dot_string(f'conv, kernel size {layer.kernel_size}')}];"
            )
            first, last = [prefix + "conv"], prefix + "conv"
        else:
            lines.append(f"    label={dot_string(f'layer {number}: {layer.graph.name}')};")
            lines += _dot_body(layer.graph, prefix, "    ")
            first, last = [prefix + name for name in layer.graph.inputs], prefix + "/output"
        lines.append("  }")
        lines += [
            f"  {dot_string(source)} -> {dot_string(name)} [style=dashed];"
            for source in previous
            for name in first
        ]
        previous = [last]
    return "\n".join([*lines, "}", ""])


def graph_to_mermaid(graph: AttentionGraph) -> str:
    """The graph as a Mermaid flowchart.

    Example:
        >>> from graphir import presets
        >>> print(graph_to_mermaid(presets.get("linear-cosine-attention")).splitlines()[3])
        flowchart TD
    """
    return "\n".join([*_mermaid_head(graph.name), *_mermaid_body(graph, "v_", "    "), *_MERMAID_STYLE, ""])


def backbone_to_mermaid(backbone: Backbone) -> str:
    """All layers as a Mermaid flowchart, a subgraph each."""
    lines = _mermaid_head(backbone.name)
    for number, layer in enumerate(backbone.layers, 1):
        prefix = f"l{number}_"
        title = "convolution" if layer.kind == "conv" else layer.graph.name
        lines.append(f"    subgraph layer{number}[{mermaid_string(f'layer {number}: {title}')}]")
        if layer.kind == "conv":
            lines.append(f"        {prefix}conv[{mermaid_string(f'conv, kernel size {layer.kernel_size}')}]")
        else:
            lines += _mermaid_body(layer.graph, prefix, "        ")
        lines.append("    end")
        if number > 1:
            lines.append(f"    layer{number - 1} -.-> layer{number}")
    return "\n".join([*lines, *_MERMAID_STYLE, ""])


def dot_string(text: str) -> str:
    """A quoted string of DOT."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n") + '"'


def _dot_body(graph: AttentionGraph, prefix: str, indent: str) -> list[str]:
    lines = []
    for name in graph.inputs:
        label = dot_string(f"{name}\n{show_type(graph.types[name])}")
        lines.append(f'{indent}{dot_string(prefix + name)} [label={label}, fillcolor="{INPUT_FILL}"];')
    for node in graph.nodes:
        label = dot_string(f"{node.op}\n{show_type(graph.types[node.id])}")
        lines.append(f"{indent}{dot_string(prefix + node.id)} [label={label}];")
        for position, name in enumerate(node.inputs, 1):
            ordered = len(node.inputs) > 1 and not OPERATIONS[node.op].commutative
            mark = f' [headlabel="{position}", labeldistance=1.6]' if ordered else ""
            lines.append(f"{indent}{dot_string(prefix + name)} -> {dot_string(prefix + node.id)}{mark};")
    end = dot_string(f"{prefix}/output")  # no node can be called so
    label = dot_string(f"output\n{show_type(graph.types[graph.output])}")
    lines.append(f'{indent}{end} [label={label}, fillcolor="{OUTPUT_FILL}"];')
    return [*lines, f"{indent}{dot_string(prefix + graph.output)} -> {end};"]


def _mermaid_head(name: str) -> list[str]:
    return ["---", f"title: {mermaid_string(name)}", "---", "flowchart TD"]


def mermaid_string(text: str) -> str:
    """A quoted label of Mermaid, which writes special characters as entities."""
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", "<br/>")):
        text = text.replace(character, entity)
    return f'"{text}"'


def _mermaid_body(graph: AttentionGraph, prefix: str, indent: str) -> list[str]:
    """Ids carry a prefix, because words such as ``end`` are Mermaid's own."""
    lines = []
    for name in graph.inputs:
        label = mermaid_string(f"{name}\n{show_type(graph.types[name])}")
        lines.append(f"{indent}{prefix}{name}([{label}]):::input")
    for node in graph.nodes:
        label = mermaid_string(f"{node.op}\n{show_type(graph.types[node.id])}")
        lines.append(f"{indent}{prefix}{node.id}[{label}]")
        for position, name in enumerate(node.inputs, 1):
            ordered = len(node.inputs) > 1 and not OPERATIONS[node.op].commutative
            arrow = f"-->|{position}|" if ordered else "-->"
            lines.append(f"{indent}{prefix}{name} {arrow} {prefix}{node.id}")
    label = mermaid_string(f"output\n{show_type(graph.types[graph.output])}")
    end = prefix.rstrip("_") + "output"  # no node has it: they keep the underscore
    return [*lines, f"{indent}{end}([{label}]):::output", f"{indent}{prefix}{graph.output} --> {end}"]
