"""Pictures of graphs and backbones, as SVG or PNG. matplotlib is loaded only when something is drawn."""

from __future__ import annotations

import io
import os
import string
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphir.errors import InputError, OpnasError
from graphir.files import write_whole
from graphir.layout import Box, Edge, Layout, lay_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from graphir.backbone import Backbone
    from graphir.graph import AttentionGraph

SUFFIXES = (".svg", ".png")
POINTS_PER_INCH = 72.0
PNG_DPI = 144.0
MAX_PIXELS = 20_000.0
"""Longest side of a PNG; a larger drawing is scaled down to it."""
MARGIN = 22.0
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 13.0, 10.0, 7.5
LINE_HEIGHT = 14.0
FORMULA_CHAR_WIDTH = 6.1
MIN_TEXT_WIDTH = 300.0

INK, FAINT, EDGE_INK = "#1e293b", "#64748b", "#94a3b8"

# Fill and border of a box. Operations that mix rows or columns stand out; all others share one look.
_PLAIN = ("#f8fafc", "#94a3b8")
_COLOURS = {
    "input": ("#dbeafe", "#3b82f6"),
    "output": ("#dcfce7", "#22c55e"),
    "matmul": ("#ffedd5", "#f97316"),
    "cosine_similarity": ("#ffedd5", "#f97316"),
    "euclidean_distance": ("#ffedd5", "#f97316"),
    "softmax": ("#f3e8ff", "#a855f7"),
    "rms_norm": ("#f3e8ff", "#a855f7"),
}
_CONV = ("#fef9c3", "#ca8a04")
_ATTENTION = ("#e0e7ff", "#6366f1")

# The stack of layers at the left of a backbone's drawing.
_LAYER_WIDTH, _LAYER_HEIGHT, _LAYER_GAP = 178.0, 30.0, 16.0
_PANEL_GAP = 46.0
ASPECT = 1.6
"""Width to height that the drawing of a backbone comes near to."""


def draw_graph(graph: AttentionGraph, path: str | Path) -> None:
    """Draw a graph with its name and formula, inputs on top and the output at the bottom.

    Args:
        graph: the graph.
        path: an ``.svg`` or ``.png`` file. Text stays text in an SVG; the same graph gives the same bytes.

    Raises:
        InputError: for another suffix.
        DrawingError: where matplotlib cannot be loaded.
        OSError: where the file cannot be written.
    """
    panel = _Panel(graph, graph.name)
    with canvas(path, panel.width, panel.height) as axes:
        panel.paint(axes, 0.0, 0.0)


def draw_backbone(backbone: Backbone, path: str | Path) -> None:
    """Draw the stack of layers, and beside it each different attention structure once.

    Raises:
        InputError: for a suffix other than ``.svg`` and ``.png``.
        DrawingError: where matplotlib cannot be loaded.
        OSError: where the file cannot be written.
    """
    numbers: dict[AttentionGraph, list[int]] = {}
    for number, layer in enumerate(backbone.layers, 1):
        if layer.kind == "attention":
            numbers.setdefault(layer.graph, []).append(number)
    letters = dict(zip(numbers, _letters(), strict=False))
    panels = [_Panel(g, f"{letters[g]}: {_show_numbers(found)}") for g, found in numbers.items()]

    stack_height = len(backbone.layers) * (_LAYER_HEIGHT + _LAYER_GAP) + _LAYER_HEIGHT
    left = MARGIN + _LAYER_WIDTH + _PANEL_GAP
    top = MARGIN + 3 * LINE_HEIGHT
    placed, right, bottom = min(
        (_shelves(panels, left, top, columns) for columns in range(1, max(1, len(panels)) + 1)),
        key=lambda shelves: max(shelves[1] / ASPECT, shelves[2]),
    )
    width = max(right, left + MIN_TEXT_WIDTH)
    height = max(bottom, top + stack_height) + MARGIN
    with canvas(path, width, height) as axes:
        write(axes, MARGIN, MARGIN + 4, backbone.name, TITLE_SIZE, weight="bold", align="left")
        sizes = (
            f"{len(backbone.layers)} layers, hidden size {backbone.hidden_size}, {backbone.heads} heads, "
            f"feed-forward size {backbone.ffn_size} (a feed-forward block after every layer)"
        )
        write(axes, MARGIN, MARGIN + 4 + 1.5 * LINE_HEIGHT, sizes, TEXT_SIZE, FAINT, align="left")
        _paint_stack(axes, backbone, letters, top)
        for panel, x, y in placed:
            panel.paint(axes, x, y)


class _Panel:
    """One graph with a title and its formula, ready to be painted anywhere."""

    def __init__(self, graph: AttentionGraph, title: str) -> None:
        self.layout = lay_out(graph)
        self.title = title
        inner = max(self.layout.width, MIN_TEXT_WIDTH, 9.0 * len(title))
        self.formula = _wrapped(graph.equation(), int(inner / FORMULA_CHAR_WIDTH))
        self.width = inner + 2 * MARGIN
        self.head = MARGIN + LINE_HEIGHT * (1.7 + len(self.formula))
        self.height = self.head + self.layout.height + MARGIN

    def paint(self, axes: Axes, x: float, y: float) -> None:
        middle = x + self.width / 2
        write(axes, middle, y + MARGIN, self.title, TITLE_SIZE, weight="bold")
        for number, line in enumerate(self.formula):
            place = y + MARGIN + LINE_HEIGHT * (1.4 + number)
            write(axes, middle, place, line, TEXT_SIZE - 1, FAINT, family="monospace")
        _paint_layout(axes, self.layout, middle - self.layout.width / 2, y + self.head)


def _paint_layout(axes: Axes, layout: Layout, x: float, y: float) -> None:
    for edge in layout.edges:
        _paint_edge(axes, edge, x, y)
    for box in layout.boxes:
        _paint_box(axes, box, x, y)


def _paint_box(axes: Axes, box: Box, x: float, y: float) -> None:
    left, top = x + box.x - box.width / 2, y + box.y - box.height / 2
    _rectangle(axes, left, top, box.width, box.height, _COLOURS.get(box.op, _PLAIN))
    write(axes, x + box.x, y + box.y - 5.5, box.label, TEXT_SIZE)
    write(axes, x + box.x, y + box.y + 8.5, box.detail, SMALL_SIZE, FAINT)


def _paint_edge(axes: Axes, edge: Edge, x: float, y: float) -> None:
    """A smooth line: upright where it leaves, passes a rank and arrives."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    points = [(x + px, y + py) for px, py in edge.points]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for index, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if index % 2:  # past the boxes of a rank
            vertices.append((x1, y1))
            codes.append(Curve.LINETO)
            continue
        middle = (y0 + y1) / 2
        vertices += [(x0, middle), (x1, middle), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    arrow = FancyArrowPatch(
        path=Curve(vertices, codes),
        arrowstyle="-|>,head_length=4.5,head_width=2.4",
        color=EDGE_INK,
        linewidth=1.2,
        shrinkA=0,
        shrinkB=0,
        capstyle="butt",
        joinstyle="miter",
    )
    axes.add_patch(arrow)
    if edge.mark:
        end_x, end_y = points[-1]
        side = 1 if points[-2][0] <= end_x else -1  # where the line does not come from
        write(axes, end_x + side * 7, end_y - 5.5, edge.mark, SMALL_SIZE, FAINT)


def _paint_stack(axes: Axes, backbone: Backbone, letters: dict[AttentionGraph, str], top: float) -> None:
    """The layers from the first at the top to the last, each with the letter of its structure."""
    step = _LAYER_HEIGHT + _LAYER_GAP
    middle = MARGIN + _LAYER_WIDTH / 2
    for index, layer in enumerate(backbone.layers):
        y = top + LINE_HEIGHT + index * step
        if layer.kind == "conv":
            label, colours = f"convolution, kernel {layer.kernel_size}", _CONV
        else:
            label, colours = f"attention {letters[layer.graph]}", _ATTENTION
        _rectangle(axes, MARGIN, y, _LAYER_WIDTH, _LAYER_HEIGHT, colours)
        write(axes, MARGIN + 12, y + _LAYER_HEIGHT / 2, str(index + 1), SMALL_SIZE, FAINT)
        write(axes, middle + 6, y + _LAYER_HEIGHT / 2, label, TEXT_SIZE)
        if index:
            _paint_edge(axes, Edge("", "", ((middle, y - _LAYER_GAP), (middle, y))), 0.0, 0.0)


def _shelves(
    panels: Sequence[_Panel], left: float, top: float, columns: int
) -> tuple[list[tuple[_Panel, float, float]], float, float]:
    """Panels in rows of ``columns``; with the right and the bottom end of all."""
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
    import textwrap

    lines = []
    for part in formula.split("; "):
        lines += textwrap.wrap(part, max(20, columns), break_long_words=True, subsequent_indent="  ")
    return lines


# -- matplotlib


class DrawingError(OpnasError, RuntimeError):
    """Nothing can be drawn here: the message says what is wrong with matplotlib."""


def check_suffix(path: str | Path) -> str:
    """The suffix of a drawing's name, in lower case.

    Raises:
        InputError: where it is neither ``.svg`` nor ``.png``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        name = Path(path).name
        raise InputError(f"cannot draw to {name!r}: use a name that ends in {' or '.join(SUFFIXES)}")
    return suffix


@contextmanager
def canvas(path: str | Path, width: float, height: float) -> Iterator[Axes]:
    """Axes in points, y downwards, saved to ``path`` at the end. No setting of the user's matplotlib counts.

    Raises:
        InputError: for another suffix than ``.svg`` and ``.png``.
        DrawingError: where matplotlib cannot be loaded.
        OSError: where the file cannot be written.
    """
    suffix = check_suffix(path)
    matplotlib = _load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        with warnings.catch_warnings(action="ignore"):  # some settings are deprecated, whoever looks at them
            matplotlib.rcParams.update(
                {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
            )
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), facecolor="white")
        drawn = FigureCanvasSVG(figure) if suffix == ".svg" else FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0.0, width)
        axes.set_ylim(height, 0.0)
        axes.axis("off")
        yield axes
        dpi = min(PNG_DPI, MAX_PIXELS * POINTS_PER_INCH / max(width, height))
        # No date and no version: the same graph gives the same file.
        metadata = {"Date": None, "Creator": None} if suffix == ".svg" else {"Software": None}
        picture = io.BytesIO()
        drawn.print_figure(picture, format=suffix[1:], dpi=dpi, metadata=metadata)
    write_whole(path, picture.getvalue())


_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.monospace": ["DejaVu Sans Mono"],
    "svg.fonttype": "none",  # text stays text: it can be searched, selected and read aloud
    "svg.hashsalt": "opnas",
    "text.parse_math": False,
}
"""What differs from matplotlib's own defaults."""


def _load_matplotlib() -> Any:
    """Import matplotlib as if MPLBACKEND were not set: it refuses to load where the backend named there is missing."""
    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"]
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except Exception as error:  # whatever a settings file or a broken installation leads to
        raise DrawingError(f"matplotlib cannot be loaded, so nothing is drawn: {error}") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        # Who plots beside us gets the backend that was asked for.
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


def _rectangle(
    axes: Axes, left: float, top: float, width: float, height: float, colours: tuple[str, str]
) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, border = colours
    style = "round,pad=0,rounding_size=6"
    axes.add_patch(
        FancyBboxPatch((left, top), width, height, boxstyle=style, facecolor=fill, edgecolor=border, zorder=3)
    )


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str = INK,
    align: str = "center",
    weight: str = "normal",
    family: str = "sans-serif",
) -> None:
    font = {"fontsize": size, "color": colour, "fontweight": weight, "family": family}
    axes.text(x, y, text, font, ha=align, va="center", zorder=4)
