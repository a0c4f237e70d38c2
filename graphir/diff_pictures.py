"""A difference in one picture: the old one at the left, the new one at the right, what changed in colour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphir.errors import InputError
from graphir.layout import OUTPUT, Box, Edge
from graphir.matching import aligned_layers, image, match_nodes
from graphir.ops import OPERATIONS
from graphir.pictures import (
    LAYER_GAP,
    LAYER_HEIGHT,
    LAYER_WIDTH,
    LINE_HEIGHT,
    MARGIN,
    MIN_TEXT_WIDTH,
    PANEL_GAP,
    TITLE_CHAR_WIDTH,
    InkOfEdge,
    LookOfBox,
    Panel,
    layer_label,
    layer_shapes,
    shelves,
)
from graphir.scene import TITLE_SIZE, Arrow, Label, Rectangle, Scene, Shape

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph

LEGEND = (
    ("plain", "the same"),
    ("added", "added"),
    ("removed", "removed"),
    ("changed", "changed"),
    ("rewired", "other operands"),
)
"""Each look with what it means, in the order of the legend."""
_KEY_WIDTH, _KEY_HEIGHT, _KEY_STEP = 18.0, 12.0, 118.0
_HEAD = MARGIN + 2.6 * LINE_HEIGHT


def difference_scene(before: AttentionGraph | Backbone, after: AttentionGraph | Backbone) -> Scene:
    """The picture of two graphs, or of two backbones."""
    from graphir.graph import AttentionGraph

    if isinstance(before, AttentionGraph) and isinstance(after, AttentionGraph):
        return graphs_scene(before, after)
    if isinstance(before, AttentionGraph) or isinstance(after, AttentionGraph):
        raise InputError(
            "a picture shows two graphs or two backbones: one of these is a graph, the other a backbone"
        )
    return backbones_scene(before, after)


def graphs_scene(before: AttentionGraph, after: AttentionGraph) -> Scene:
    """Both graphs side by side, nodes and edges coloured by what became of them."""
    old, new = _panels(before, after, f"old: {before.name}", f"new: {after.name}")
    title = f"{before.name} -> {after.name}"
    width = max(old.width + new.width, _legend_width(), _title_width(title))
    shapes = (
        *_head(title),
        *old.shapes(0.0, _HEAD),
        *new.shapes(old.width, _HEAD),
    )
    return Scene(title, width, _HEAD + max(old.height, new.height), shapes)


def backbones_scene(before: Backbone, after: Backbone) -> Scene:
    """Both stacks of layers, equal ones beside each other, and each pair of graphs that differ."""
    title = f"{before.name} -> {after.name}"
    right_stack = MARGIN + LAYER_WIDTH + PANEL_GAP
    left = right_stack + LAYER_WIDTH + PANEL_GAP
    shapes = [*_head(title), *_sizes(before, MARGIN), *_sizes(after, right_stack)]
    panels: list[Panel] = []
    y = _HEAD + 3 * LINE_HEIGHT
    ends: dict[float, float] = {}
    for i, j in aligned_layers(before, after):
        old = before.layers[i] if i is not None else None
        new = after.layers[j] if j is not None else None
        look = _look_of_pair(old, new)
        for x, number, layer in ((MARGIN, i, old), (right_stack, j, new)):
            if layer is None or number is None:
                continue
            if x in ends:
                shapes.append(Arrow(((x + LAYER_WIDTH / 2, ends[x]), (x + LAYER_WIDTH / 2, y))))
            shapes += layer_shapes(x, y, str(number + 1), layer_label(layer), look, arrow=False)
            ends[x] = y + LAYER_HEIGHT
        if look == "changed" and old is not None and new is not None and i is not None and j is not None:
            panels += _graphs_of_pair(old, new, i + 1, j + 1)
        y += LAYER_HEIGHT + LAYER_GAP
    placed, right, bottom = shelves(panels, left, _HEAD, multiple=2)
    for panel, x, top in placed:
        shapes += panel.shapes(x, top)
    width = max(right, right_stack + LAYER_WIDTH + MARGIN, _legend_width(), _title_width(title))
    return Scene(title, width, max(bottom, y) + MARGIN, tuple(shapes))


def _panels(before: AttentionGraph, after: AttentionGraph, *titles: str) -> tuple[Panel, Panel]:
    pairs = match_nodes(before, after)
    back = {new: old for old, new in pairs.items()}
    old_title, new_title = titles
    return (
        Panel(before, old_title, *_coloured(before, after, pairs, "removed")),
        Panel(after, new_title, *_coloured(after, before, back, "added")),
    )


def _coloured(
    graph: AttentionGraph, other: AttentionGraph, partner: dict[str, str], alone: str
) -> tuple[LookOfBox, InkOfEdge]:
    """The look of each node and the ink of each edge of ``graph``.

    Args:
        graph: what is painted.
        other: what it is compared with.
        partner: its nodes' partners in ``other``.
        alone: the look and ink of what has none.
    """
    theirs = {node.id: node for node in other.nodes}
    mine = {node.id: node.inputs for node in graph.nodes} | {OUTPUT: (graph.output,)}

    def counterparts(target: str) -> tuple[str, ...]:
        """The operands of the partner of ``target``."""
        if target == OUTPUT:
            return (other.output,)
        return theirs[partner[target]].inputs if target in partner else ()

    def look(box: Box) -> str:
        if box.op == "input":
            return "plain"
        if box.name != OUTPUT:
            if box.name not in partner:
                return alone
            if theirs[partner[box.name]].op != box.op:
                return "changed"
        before, after = [image(partner, name) for name in mine[box.name]], [*counterparts(box.name)]
        if box.name != OUTPUT and OPERATIONS[box.op].commutative:
            before, after = sorted(before), sorted(after)
        return "plain" if before == after else "rewired"

    def ink(edge: Edge) -> str:
        return "edge" if image(partner, edge.source) in counterparts(edge.target) else alone

    return look, ink


def _look_of_pair(old: Layer | None, new: Layer | None) -> str:
    if old is None or new is None:
        return "added" if old is None else "removed"
    if old.kind == "attention" and new.kind == "attention":
        return "changed" if old.graph.diff(new.graph) else "plain"
    return "plain" if old == new else "changed"


def _graphs_of_pair(old: Layer, new: Layer, old_number: int, new_number: int) -> tuple[Panel, ...]:
    """Old and new graph of a layer; a convolution has none, and then there is nothing to set side by side."""
    if old.kind == "attention" and new.kind == "attention":
        return _panels(old.graph, new.graph, f"old: layer {old_number}", f"new: layer {new_number}")
    return ()


def _head(title: str) -> Iterator[Shape]:
    """The title, and the legend below it."""
    yield Label(MARGIN, MARGIN, title, TITLE_SIZE, align="left", bold=True)
    y = MARGIN + 1.6 * LINE_HEIGHT
    for number, (look, meaning) in enumerate(LEGEND):
        x = MARGIN + number * _KEY_STEP
        yield Rectangle(x, y - _KEY_HEIGHT / 2, _KEY_WIDTH, _KEY_HEIGHT, look)
        yield Label(x + _KEY_WIDTH + 6, y, meaning, align="left")


def _sizes(backbone: Backbone, x: float) -> Iterator[Shape]:
    sizes = f"hidden {backbone.hidden_size}, {backbone.heads} heads, feed-forward {backbone.ffn_size}"
    yield Label(x, _HEAD + 0.6 * LINE_HEIGHT, sizes, 7.5, "faint", align="left")
    yield Label(x, _HEAD + 1.6 * LINE_HEIGHT, "old" if x == MARGIN else "new", align="left", bold=True)


def _title_width(title: str) -> float:
    return max(MIN_TEXT_WIDTH, TITLE_CHAR_WIDTH * len(title)) + 2 * MARGIN


def _legend_width() -> float:
    return 2 * MARGIN + len(LEGEND) * _KEY_STEP
