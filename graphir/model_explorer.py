"""Graphs and backbones as the "graphs JSON" of Model Explorer, which it opens as a file without an adapter.

The form is that of its interfaces ``GraphCollection``, ``Graph``, ``GraphNode`` and ``IncomingEdge``
(github.com/google-ai-edge/model-explorer): a collection has a label and graphs; a node has an id, a label, a namespace
whose levels can be folded, attributes as pairs of texts, and edges that come in, each with the number of the operand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

    from graphir.backbone import Backbone
    from graphir.graph import AttentionGraph

OUTPUT = "output"


def to_model_explorer(target: AttentionGraph | Backbone) -> dict[str, Any]:
    """A graph or backbone, ready for JSON. The nodes are those of its ``nx``, and one for the result; each layer of a
    backbone is a namespace. Feed-forward blocks, residuals and norms are not drawn, as in every view of a backbone.

    Example:
        >>> from graphir import presets
        >>> (graph,) = to_model_explorer(presets.get("linear-cosine-attention"))["graphs"]
        >>> [node["label"] for node in graph["nodes"]][:3], graph["nodes"][-1]["incomingEdges"][0]["sourceNodeId"]
        (['Q', 'K', 'V'], 'n1')
    """
    from graphir.graph import AttentionGraph

    view = target.nx
    last = target.output if isinstance(target, AttentionGraph) else _last(view, target)
    nodes = [_node(view, name) for name in view.nodes]
    nodes.append(
        {
            "id": f"/{OUTPUT}",  # no node of a graph can be called so
            "label": OUTPUT,
            "namespace": "",
            "incomingEdges": [_edge(last, 0)],
        }
    )
    return {"label": target.name, "graphs": [{"id": target.name, "nodes": nodes}]}


def _last(view: nx.DiGraph, backbone: Backbone) -> str:
    layer = backbone.layers[-1]
    prefix = f"layer{len(backbone.layers)}/"
    return prefix + ("conv" if layer.kind == "conv" else layer.graph.output)


def _node(view: nx.DiGraph, name: str) -> dict[str, Any]:
    attributes = view.nodes[name]
    layer, _, own = name.rpartition("/")
    edges = []
    for source, _, edge in view.in_edges(name, data=True):
        # Between layers there are no operands: the result of a layer is every input of the next.
        edges += [_edge(source, int(operand)) for operand in edge.get("operands", "0").split(",")]
    shown = {"type": attributes.get("type"), "kernel size": attributes.get("kernel_size"), "name": own}
    node: dict[str, Any] = {
        "id": name,
        "label": own if attributes["op"] == "input" else attributes["op"],
        "namespace": layer,
        "attrs": [{"key": key, "value": str(value)} for key, value in shown.items() if value is not None],
        "incomingEdges": sorted(edges, key=lambda edge: int(edge["targetNodeInputId"])),
    }
    if "type" in attributes:
        node["outputsMetadata"] = [{"id": "0", "attrs": [{"key": "shape", "value": attributes["type"]}]}]
    return node


def _edge(source: str, operand: int) -> dict[str, str]:
    return {"sourceNodeId": source, "sourceNodeOutputId": "0", "targetNodeInputId": str(operand)}
