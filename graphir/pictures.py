"""What the pictures of graphs and backbones show: each as a `Scene`, to be printed or painted by others."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from graphir.layout import Box, Edge, lay_out
from graphir.scene import SMALL_SIZE, TEXT_SIZE, TITLE_SIZE, Arrow, Label, Rectangle, Scene, Shape

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph

MARGIN = 22.0
LINE_HEIGHT = 14.0
FORMULA_CHAR_WIDTH = 6.1
TITLE_CHAR_WIDTH = 9.0
MIN_TEXT_WIDTH = 300.0
ASPECT = 1.6
"""Width to height that the drawing of a backbone comes near to."""

# The stack of layers at the left of a backbone's drawing.
LAYER_WIDTH, LAYER_HEIGHT, LAYER_GAP = 178.0, 30.0, 16.0
PANEL_GAP = 46.0

_LOOK_OF = {
    "input": "input",
    "output": "output",
    "matmul": "product",
    "cosine_similarity": "product",
    "euclidean_distance": "product",
    "softmax": "norm",
    "rms_norm": "norm",
}

LookOfBox = Callable[[Box], str]
InkOfEdge = Callable[[Edge], str]


def graph_scene(graph: AttentionGraph) -> Scene:
    """A graph with its name and formula, inputs on top and the output at the bottom."""
    panel = Panel(graph, graph.name)
    return Scene(graph.name, panel.width, panel.height, tuple(panel.shapes(0.0, 0.0)))


def backbone_scene(backbone: Backbone) -> Scene:
    """The stack of layers, and beside it each different attention structure once."""
    numbers: dict[AttentionGraph, list[int]] = {}
    for number, layer in enumerate(backbone.layers, 1):
        if layer.kind == "attention":
            numbers.setdefault(layer.graph, []).append(number)
    letters = dict(zip(numbers, _letters(), strict=False))
    panels = [Panel(g, f"{letters[g]}: {_show_numbers(found)}") for g, found in numbers.items()]

    stack_height = len(backbone.layers) * (LAYER_HEIGHT + LAYER_GAP) + LAYER_HEIGHT
    left = MARGIN + LAYER_WIDTH + PANEL_GAP
    top = MARGIN + 3 * LINE_HEIGHT
    placed, right, bottom = shelves(panels, left, top)
    width = max(right, left + MIN_TEXT_WIDTH)
    height = max(bottom, top + stack_height) + MARGIN
    sizes = (
        f"{len(backbone.layers)} layers, hidden size {backbone.hidden_size}, {backbone.heads} heads, "
        f"feed-forward size {backbone.ffn_size} (a feed-forward block after every layer)"
    )
    shapes: list[Shape] = [
        Label(MARGIN, MARGIN + 4, backbone.name, TITLE_SIZE, align="left", bold=True),
        Label(MARGIN, MARGIN + 4 + 1.5 * LINE_HEIGHT, sizes, ink="faint", align="left"),
    ]
    step = LAYER_HEIGHT + LAYER_GAP
    for index, layer in enumerate(backbone.layers):
        y = top + LINE_HEIGHT + index * step
        if layer.kind == "conv":
            label, look = layer_label(layer), "conv"
        else:
            label, look = f"attention {letters[layer.graph]}", "attention"
        shapes += layer_shapes(MARGIN, y, str(index + 1), label, look, arrow=index > 0)
    for panel, x, y in placed:
        shapes += panel.shapes(x, y)
    return Scene(backbone.name, width, height, tuple(shapes))


class Panel:
    """One graph with a title and its formula, ready to stand anywhere.

    Args:
        graph: what it shows.
        title: the line above.
        look: the look of each box; by default that of its operation.
        ink: the colour of each edge.
    """

    def __init__(
        self,
        graph: AttentionGraph,
        title: str,
        look: LookOfBox | None = None,
        ink: InkOfEdge | None = None,
    ) -> None:
        self.layout = lay_out(graph)
        self.title = title
        self.look = look or (lambda box: _LOOK_OF.get(box.op, "plain"))
        self.ink = ink or (lambda edge: "edge")
        inner = max(self.layout.width, MIN_TEXT_WIDTH, TITLE_CHAR_WIDTH * len(title))
        self.formula = _wrapped(graph.equation(), int(inner / FORMULA_CHAR_WIDTH))
        self.width = inner + 2 * MARGIN
        self.head = MARGIN + LINE_HEIGHT * (1.7 + len(self.formula))
        self.height = self.head + self.layout.height + MARGIN

    def shapes(self, x: float, y: float) -> Iterator[Shape]:
        """All of it, its upper left corner at ``(x, y)``."""
        middle = x + self.width / 2
        yield Label(middle, y + MARGIN, self.title, TITLE_SIZE, bold=True)
        for number, line in enumerate(self.formula):
            place = y + MARGIN + LINE_HEIGHT * (1.4 + number)
            yield Label(middle, place, line, TEXT_SIZE - 1, "faint", monospace=True)
        left, top = middle - self.layout.width / 2, y + self.head
        for edge in self.layout.edges:
            yield from _edge_shapes(edge, left, top, self.ink(edge))
        for box in self.layout.boxes:
            yield from _box_shapes(box, left, top, self.look(box))


def _box_shapes(box: Box, x: float, y: float, look: str) -> Iterator[Shape]:
    left, top = x + box.x - box.width / 2, y + box.y - box.height / 2
    yield Rectangle(left, top, box.width, box.height, look)
    yield Label(x + box.x, y + box.y - 5.5, box.label)
    yield Label(x + box.x, y + box.y + 8.5, box.detail, SMALL_SIZE, "faint")


def _edge_shapes(edge: Edge, x: float, y: float, ink: str) -> Iterator[Shape]:
    points = tuple((x + px, y + py) for px, py in edge.points)
    yield Arrow(points, ink)
    if edge.mark:
        end_x, end_y = points[-1]
        side = 1 if points[-2][0] <= end_x else -1  # where the line does not come from
        yield Label(end_x + side * 7, end_y - 5.5, edge.mark, SMALL_SIZE, "faint")


def layer_shapes(x: float, y: float, number: str, label: str, look: str, arrow: bool) -> Iterator[Shape]:
    """A layer of a stack, with an arrow from the one above it where there is one."""
    middle = x + LAYER_WIDTH / 2
    if arrow:
        yield Arrow(((middle, y - LAYER_GAP), (middle, y)))
    yield Rectangle(x, y, LAYER_WIDTH, LAYER_HEIGHT, look)
    yield Label(x + 12, y + LAYER_HEIGHT / 2, number, SMALL_SIZE, "faint")
    yield Label(middle + 6, y + LAYER_HEIGHT / 2, label)


def layer_label(layer: Layer) -> str:
    """A layer in two or three words."""
    return f"convolution, kernel {layer.kernel_size}" if layer.kind == "conv" else "attention"


def shelves(
    panels: Sequence[Panel], left: float, top: float, multiple: int = 1
) -> tuple[list[tuple[Panel, float, float]], float, float]:
    """Panels in rows, as many in each as come nearest to `ASPECT`; with the right and the bottom end of all.

    Args:
        panels: what is placed.
        left, top: where they begin.
        multiple: so many panels stand together in a row.
    """
    most = max(1, len(panels))
    return min(
        (_rows(panels, left, top, columns) for columns in range(multiple, max(most, multiple) + 1, multiple)),
        key=lambda rows: max(rows[1] / ASPECT, rows[2]),
    )


def _rows(
    panels: Sequence[Panel], left: float, top: float, columns: int
) -> tuple[list[tuple[Panel, float, float]], float, float]:
    placed = []
    x, y, row_height, right = left, top, 0.0, left
    for number, panel in enumerate(panels):
        if number and number % columns == 0:
            x, y, row_height = left, y + row_height, 0.0
        placed.append((panel, x, y))
        x += panel.width
        row_height = max(row_height, panel.height)
        right = max(right, x)
    return placed, right, y + row_height


def _letters() -> Iterator[str]:
    """A, B, ..., Z, A2, B2, ..."""
    for number in range(1, 100):
        for letter in string.ascii_uppercase:
            yield letter if number == 1 else f"{letter}{number}"


def _show_numbers(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if len(numbers) > 3 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"layers {numbers[0]} to {numbers[-1]}"
    return f"layers {', '.join(map(str, numbers))}"


def _wrapped(formula: str, columns: int) -> list[str]:
    """The formula in lines, broken after assignments and then at spaces."""
    lines = []
    for part in formula.split("; "):
        lines += textwrap.wrap(part, max(20, columns), break_long_words=True, subsequent_indent="  ")
    return lines
