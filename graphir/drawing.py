"""Pictures as files: SVG is written here, PNG is painted by matplotlib, which is loaded only then."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphir.errors import InputError, OpnasError
from graphir.files import write_whole
from graphir.pictures import backbone_scene, graph_scene
from graphir.scene import INK, INKS, LOOKS, Arrow, Label, Rectangle, Scene, Shape, curve
from graphir.svg import to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from graphir.backbone import Backbone
    from graphir.graph import AttentionGraph

__all__ = ["INK", "DrawingError", "canvas", "check_suffix", "draw_backbone", "draw_graph", "draw_scene"]

SUFFIXES = (".svg", ".png")
POINTS_PER_INCH = 72.0
PNG_DPI = 144.0
MAX_PIXELS = 20_000.0
"""Longest side of a PNG; a larger drawing is scaled down to it."""


def draw_graph(graph: AttentionGraph, path: str | Path) -> None:
    """Draw a graph with its name and formula, inputs on top and the output at the bottom.

    Args:
        graph: the graph.
        path: an ``.svg`` or ``.png`` file. Text stays text in an SVG; the same graph gives the same bytes.

    Raises:
        InputError: for another suffix.
        DrawingError: where a PNG is asked for and matplotlib cannot be loaded.
        OSError: where the file cannot be written.
    """
    check_suffix(path)
    draw_scene(graph_scene(graph), path)


def draw_backbone(backbone: Backbone, path: str | Path) -> None:
    """Draw the stack of layers, and beside it each different attention structure once. Raises as `draw_graph` does."""
    check_suffix(path)
    draw_scene(backbone_scene(backbone), path)


def draw_scene(scene: Scene, path: str | Path) -> None:
    """Write any picture. Raises as `draw_graph` does."""
    if check_suffix(path) == ".svg":
        write_whole(path, (to_svg(scene) + "\n").encode())
        return
    with canvas(path, scene.width, scene.height) as axes:
        for shape in scene.shapes:
            _paint(axes, shape)


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


# -- matplotlib


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


def _paint(axes: Axes, shape: Shape) -> None:
    match shape:
        case Rectangle():
            _paint_rectangle(axes, shape)
        case Arrow():
            _paint_arrow(axes, shape)
        case Label():
            font = {
                "fontsize": shape.size,
                "color": INKS[shape.ink],
                "fontweight": "bold" if shape.bold else "normal",
                "family": "monospace" if shape.monospace else "sans-serif",
            }
            axes.text(shape.x, shape.y, shape.text, font, ha=shape.align, va="center", zorder=4)


def _paint_rectangle(axes: Axes, box: Rectangle) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, border = LOOKS[box.look]
    style = "round,pad=0,rounding_size=6"
    patch = FancyBboxPatch(
        (box.x, box.y), box.width, box.height, boxstyle=style, facecolor=fill, edgecolor=border, zorder=3
    )
    axes.add_patch(patch)


def _paint_arrow(axes: Axes, arrow: Arrow) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    vertices, codes = [arrow.points[0]], [Curve.MOVETO]
    for part in curve(arrow.points):
        vertices += part
        codes += [Curve.CURVE4 if len(part) == 3 else Curve.LINETO] * len(part)
    patch = FancyArrowPatch(
        path=Curve(vertices, codes),
        arrowstyle="-|>,head_length=4.5,head_width=2.4",
        color=INKS[arrow.ink],
        linewidth=1.2,
        shrinkA=0,
        shrinkB=0,
        capstyle="butt",
        joinstyle="miter",
    )
    axes.add_patch(patch)
