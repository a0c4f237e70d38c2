"""Plain-text tables of a graph and of a backbone, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphir.validation import show_type

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph

HASH_CHARS = 12
"""How much of a hash is shown."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Left-aligned columns, two spaces apart.

    Example:
        >>> print(table(["node", "op"], [["n0", "neg"], ["n10", "add"]], indent=""))
        node  op
        n0    neg
        n10   add
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
        for line in lines
    )


def summarize_graph(graph: AttentionGraph) -> str:
    """Name, formula, nodes with types, cost at the default sizes, and the hash.

    Example:
        >>> from graphir import presets
        >>> print(summarize_graph(presets.get("linear-cosine-attention")))
        linear-cosine-attention: 2 nodes, inputs Q, K, V
        <BLANKLINE>
          node  operation          operands  type
          Q     input                        S x D
          K     input                        S x D
          V     input                        S x D
          n0    cosine_similarity  Q, K      S x S
          n1    matmul             n0, V     S x D  (output)
        <BLANKLINE>
          formula  cosine_similarity(Q, K) @ V
          cost     538 MFLOP, 1.05 M parameters, 21 MB moved, 4.19 MB if fused (5.0x less)
                   (sequence 512, heads 8, head dimension 64, batch 1)
          hash     d74ee15b37be
    """
    rows = [[name, "input", "", show_type(graph.types[name])] for name in graph.inputs]
    rows += [[n.id, n.op, ", ".join(n.inputs), show_type(graph.types[n.id])] for n in graph.nodes]
    for row in rows:
        if row[0] == graph.output:
            row[3] += "  (output)"
    count = f"{len(graph)} node{'' if len(graph) == 1 else 's'}"
    facts = [
        ["formula", graph.equation()],
        ["cost", str(graph.cost(seq_len=512, head_dim=64, heads=8, batch=1))],
        ["", "(sequence 512, heads 8, head dimension 64, batch 1)"],
        ["hash", graph.canonical_hash()[:HASH_CHARS]],
    ]
    return "\n".join(
        [
            f"{graph.name}: {count}, input{'' if len(graph.inputs) == 1 else 's'} {', '.join(graph.inputs)}",
            "",
            table(["node", "operation", "operands", "type"], rows),
            "",
            table(facts[0], facts[1:]),
        ]
    )


def summarize_backbone(backbone: Backbone) -> str:
    """Name, sizes, a line per layer, cost at 512 tokens, and the hash."""
    rows = [_layer_row(number, layer) for number, layer in enumerate(backbone.layers, 1)]
    attentions = len(backbone.graphs)
    facts = [
        ["cost", str(backbone.cost(seq_len=512, batch=1))],
        ["", "(sequence 512, batch 1; without embeddings and head)"],
        ["hash", backbone.canonical_hash()[:HASH_CHARS]],
    ]
    return "\n".join(
        [
            f"{backbone.name}: {len(backbone.layers)} layers, {attentions} of attention, "
            f"{len(backbone.layers) - attentions} of convolution",
            f"  hidden size {backbone.hidden_size}, heads {backbone.heads} of {backbone.head_dim}, "
            f"feed-forward size {backbone.ffn_size}",
            "",
            table(["layer", "kind", "inputs", "nodes", "formula"], rows),
            "",
            table(facts[0], facts[1:]),
        ]
    )


def _layer_row(number: int, layer: Layer) -> list[str]:
    if layer.kind == "conv":
        return [str(number), "conv", "", "", f"kernel size {layer.kernel_size}"]
    graph = layer.graph
    return [str(number), "attention", " ".join(graph.inputs), str(len(graph)), graph.equation()]
