"""`Backbone`: a stack of attention and convolution layers, immutable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import networkx as nx

from graphir.checks import check_whole, excerpt
from graphir.errors import GraphError
from graphir.files import read_json, require_format, require_keys, write_json
from graphir.graph import AttentionGraph
from graphir.validation import MAX_NAME, check_name

if TYPE_CHECKING:
    from graphir.cost import Cost
    from graphir.diff import Difference

BACKBONE_FORMAT = "opnas.backbone/1"
MAX_LAYERS = 128
MAX_SIZE = 65_536
"""Largest hidden or feed-forward size."""
MAX_KERNEL_SIZE = 1_023

SIZES = {
    "small": {"hidden_size": 256, "heads": 4, "ffn_size": 1024},
    "base": {"hidden_size": 768, "heads": 12, "ffn_size": 3072},
    "large": {"hidden_size": 1024, "heads": 16, "ffn_size": 4096},
}
"""The usual sizes of BERT's family, all with heads of 64; the layers stay as they are."""


@dataclass(frozen=True)
class ConvLayer:
    """A lightweight convolution over the sequence, ``kernel_size`` tokens wide (odd)."""

    kernel_size: int
    kind: Literal["conv"] = field(default="conv", init=False)


@dataclass(frozen=True)
class AttentionLayer:
    """An attention structure, applied per head and followed by a linear map."""

    graph: AttentionGraph
    kind: Literal["attention"] = field(default="attention", init=False)


Layer = ConvLayer | AttentionLayer


@dataclass(frozen=True)
class Backbone:
    """Layers with the sizes that they share. Every layer is followed by a feed-forward block (post-LN).

    Attributes:
        layers: attention and convolution layers, first to last.
        hidden_size: width of a token; a multiple of ``heads``.
        heads: number of heads; the head dimension is ``hidden_size // heads``.
        ffn_size: inner width of the feed-forward blocks.
        name: a display name.

    Raises:
        GraphError: for sizes that do not fit or are out of bounds.
    """

    layers: tuple[Layer, ...]
    hidden_size: int = 768
    heads: int = 12
    ffn_size: int = 3072
    name: str = "backbone"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        check_name(self.name)
        for what in ("hidden_size", "heads", "ffn_size"):
            check_whole(getattr(self, what), what, high=MAX_SIZE, error=GraphError)
        if self.hidden_size % self.heads:
            raise GraphError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise GraphError(f"a backbone has 1 to {MAX_LAYERS} layers, not {len(self.layers)}")
        for number, layer in enumerate(self.layers, 1):
            if isinstance(layer, ConvLayer):
                what = f"layer {number}: kernel_size"
                check_whole(layer.kernel_size, what, high=MAX_KERNEL_SIZE, error=GraphError)
                if layer.kernel_size % 2 == 0:
                    raise GraphError(f"layer {number}: kernel_size must be odd, not {layer.kernel_size}")
            elif not isinstance(layer, AttentionLayer):
                raise GraphError(
                    f"layer {number}: expected ConvLayer or AttentionLayer, not {type(layer).__name__}"
                )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.heads

    def resized(self, size: str) -> Backbone:
        """The same layers in a usual size; ``-small``, ``-base`` or ``-large`` ends its name.

        Raises:
            GraphError: for an unknown size.

        Example:
            >>> from graphir import presets
            >>> small = presets.get("autobert-zero").resized("small")
            >>> small.name, small.hidden_size, small.heads, small.ffn_size
            ('autobert-zero-small', 256, 4, 1024)
        """
        if size not in SIZES:
            raise GraphError(f"size must be one of {', '.join(SIZES)}, not {excerpt(size)}")
        stem = self.name
        for suffix in SIZES:
            stem = stem.removesuffix(f"-{suffix}")
        name = f"{stem[: MAX_NAME - len(size) - 1]}-{size}"
        return Backbone(self.layers, **SIZES[size], name=name)

    @property
    def graphs(self) -> tuple[AttentionGraph, ...]:
        """The graphs of the attention layers, first to last."""
        return tuple(layer.graph for layer in self.layers if isinstance(layer, AttentionLayer))

    @cached_property
    def nx(self) -> nx.DiGraph:
        """All layers as one frozen `networkx.DiGraph`.

        Names are prefixed ``layer<number>/``; nodes carry ``layer`` and what `AttentionGraph.nx` gives them,
        a convolution is one node with ``op="conv"`` and ``kernel_size``. Edges between layers have no
        ``operands``: the result of a layer, after its feed-forward block, feeds every input of the next.
        """
        graph = nx.DiGraph(name=self.name)
        previous = ""
        for number, layer in enumerate(self.layers, 1):
            prefix = f"layer{number}/"
            if isinstance(layer, ConvLayer):
                first, last = [prefix + "conv"], prefix + "conv"
                graph.add_node(last, op="conv", kernel_size=layer.kernel_size, layer=number)
            else:
                first = [prefix + name for name in layer.graph.inputs]
                last = prefix + layer.graph.output
                for name, attributes in layer.graph.nx.nodes(data=True):
                    graph.add_node(prefix + name, layer=number, **attributes)
                for source, target, attributes in layer.graph.nx.edges(data=True):
                    graph.add_edge(prefix + source, prefix + target, **attributes)
            if previous:
                graph.add_edges_from((previous, name) for name in first)
            previous = last
        return nx.freeze(graph)

    # -- in and out

    @classmethod
    def from_dict(
        cls, data: Any, read_graph: Callable[[Any], AttentionGraph] = AttentionGraph.from_dict
    ) -> Backbone:
        """Read the file form (``opnas.backbone/1``).

        Args:
            data: what stands in the file.
            read_graph: reads the graph of a layer; who reads many backbones may know it already.

        Raises:
            GraphError: for anything else.
        """
        require_format(data, BACKBONE_FORMAT, "backbone")
        require_keys(data, {"format", "name", "hidden_size", "heads", "ffn_size", "layers"}, "backbone")
        if not isinstance(data["layers"], list):
            raise GraphError("'layers' must be a list")
        layers = tuple(
            _layer_from_dict(entry, number, read_graph) for number, entry in enumerate(data["layers"], 1)
        )
        return cls(layers, data["hidden_size"], data["heads"], data["ffn_size"], data["name"])

    def to_dict(self) -> dict[str, Any]:
        """The file form, ready for JSON."""
        return {
            "format": BACKBONE_FORMAT,
            "name": self.name,
            "hidden_size": self.hidden_size,
            "heads": self.heads,
            "ffn_size": self.ffn_size,
            "layers": [_layer_to_dict(layer) for layer in self.layers],
        }

    @classmethod
    def load(cls, path: str | Path) -> Backbone:
        """Read a backbone file. Raises `GraphError` or `OSError` as `AttentionGraph.load` does."""
        return cls.from_dict(read_json(path))

    def save(self, path: str | Path) -> None:
        """Write the file form as JSON."""
        write_json(path, self.to_dict())

    # -- looking at it

    def canonical_hash(self) -> str:
        """A hex digest: equal for equal sizes, kernel sizes and canonical attention graphs."""
        from graphir.canonical import backbone_hash

        return backbone_hash(self)

    def equation(self, style: Literal["text", "latex"] = "text") -> str:
        """The formula of every layer, a line each."""
        lines = []
        for number, layer in enumerate(self.layers, 1):
            if isinstance(layer, ConvLayer):
                formula = (
                    f"conv({layer.kernel_size})"
                    if style == "text"
                    else rf"\mathrm{{conv}}_{{{layer.kernel_size}}}"
                )
            else:
                formula = layer.graph.equation(style)
            lines.append(f"{number}: {formula}")
        return "\n".join(lines)

    def summary(self) -> str:
        """A table of the layers for a terminal."""
        from graphir.summary import summarize_backbone

        return summarize_backbone(self)

    def cost(self, seq_len: int = 512, batch: int = 1) -> Cost:
        """Operations, parameters and bytes of a forward pass through all layers, without embeddings, head."""
        from graphir.cost import backbone_cost

        return backbone_cost(self, seq_len=seq_len, batch=batch)

    def diff(self, other: Backbone) -> Difference:
        """What must change to turn this backbone into ``other``."""
        from graphir.diff import diff_backbones

        return diff_backbones(self, other)

    def to_dot(self) -> str:
        """All layers in Graphviz's DOT language, a cluster each."""
        from graphir.markup import backbone_to_dot

        return backbone_to_dot(self)

    def to_mermaid(self) -> str:
        """All layers as a Mermaid flowchart, a subgraph each."""
        from graphir.markup import backbone_to_mermaid

        return backbone_to_mermaid(self)

    def to_svg(self) -> str:
        """All layers as one ``svg`` element."""
        from graphir.pictures import backbone_scene
        from graphir.svg import to_svg

        return to_svg(backbone_scene(self))

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.to_svg()

    def _repr_latex_(self) -> str:
        """For notebooks and what is made of them in LaTeX: a line for every layer."""
        lines = [line.split(": ", 1) for line in self.equation("latex").splitlines()]
        rows = r" \\ ".join(rf"{number}&: {formula}" for number, formula in lines)
        return rf"$\begin{{aligned}}{rows}\end{{aligned}}$"

    def draw(self, path: str | Path) -> None:
        """Draw all layers to ``path``, an ``.svg`` or ``.png`` file."""
        from graphir.drawing import draw_backbone

        draw_backbone(self, path)


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, ConvLayer):
        return {"kind": "conv", "kernel_size": layer.kernel_size}
    return {"kind": "attention", "graph": layer.graph.to_dict()}


def _layer_from_dict(entry: Any, number: int, read_graph: Callable[[Any], AttentionGraph]) -> Layer:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind == "conv":
        require_keys(entry, {"kind", "kernel_size"}, f"layer {number}")
        return ConvLayer(entry["kernel_size"])
    if kind == "attention":
        require_keys(entry, {"kind", "graph"}, f"layer {number}")
        try:
            return AttentionLayer(read_graph(entry["graph"]))
        except GraphError as error:
            refused = GraphError(f"layer {number}: {error}")
            refused.node = error.node
            raise refused from error
    raise GraphError(f"layer {number}: kind must be 'conv' or 'attention', not {excerpt(kind)}")
