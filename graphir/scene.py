"""`Scene`: a picture as data. Rectangles, lines and texts with places in points, y downwards; `graphir.svg` prints it.

What a shape means stands in its *look*, a name. The looks have colours here; a page may give them others, for dark
mode say, since an SVG carries the names as classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from graphir.layout import Point

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 13.0, 10.0, 7.5
INK, FAINT, EDGE_INK = "#1e293b", "#64748b", "#94a3b8"

LOOKS = {
    "plain": ("#f8fafc", "#94a3b8"),
    "input": ("#dbeafe", "#3b82f6"),
    "output": ("#dcfce7", "#22c55e"),
    "product": ("#ffedd5", "#f97316"),
    "norm": ("#f3e8ff", "#a855f7"),
    "conv": ("#fef9c3", "#ca8a04"),
    "attention": ("#e0e7ff", "#6366f1"),
    "added": ("#bbf7d0", "#15803d"),
    "removed": ("#fecaca", "#b91c1c"),
    "changed": ("#fde68a", "#b45309"),
    "rewired": ("#f8fafc", "#b45309"),
}
"""Fill and border of each look. Operations that mix rows or columns stand out; others share one."""
INKS = {"ink": INK, "faint": FAINT, "edge": EDGE_INK, "added": "#15803d", "removed": "#b91c1c"}
"""Colours of lines and texts."""


@dataclass(frozen=True)
class Rectangle:
    """A box with round corners. ``look`` is one of `LOOKS`."""

    x: float
    y: float
    width: float
    height: float
    look: str


@dataclass(frozen=True)
class Arrow:
    """A smooth line that leaves and arrives upright, through ``points``. ``ink`` is one of `INKS`."""

    points: tuple[Point, ...]
    ink: str = "edge"


@dataclass(frozen=True)
class Label:
    """One line of text; ``x`` is its middle or its left end, ``y`` its middle. ``ink`` is one of `INKS`."""

    x: float
    y: float
    text: str
    size: float = TEXT_SIZE
    ink: str = "ink"
    align: Literal["center", "left"] = "center"
    bold: bool = False
    monospace: bool = False


Shape = Rectangle | Arrow | Label


@dataclass(frozen=True)
class Scene:
    """A picture.

    Attributes:
        title: what it shows, for who cannot see it.
        width, height: in points.
        shapes: from the back to the front.
    """

    title: str
    width: float
    height: float
    shapes: tuple[Shape, ...]


def curve(points: Sequence[Point]) -> Iterator[tuple[Point, ...]]:
    """The parts of the line of an `Arrow` after its first point: three points for a Bézier curve, one for a line."""
    for index, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if index % 2:  # past the boxes of a rank
            yield ((x1, y1),)
        else:
            middle = (y0 + y1) / 2
            yield (x0, middle), (x1, middle), (x1, y1)
