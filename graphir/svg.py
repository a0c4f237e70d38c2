"""Scenes as SVG: text stays text, and every shape has its look as a class. The same scene gives the same text."""

from __future__ import annotations

from html import escape

from graphir.layout import Point
from graphir.scene import EDGE_INK, INK, INKS, LOOKS, TEXT_SIZE, Arrow, Label, Rectangle, Scene, Shape, curve

ROUNDING = 6.0
"""Radius of a corner."""
HEAD_LENGTH, HEAD_WIDTH = 5.5, 5.0
"""Of an arrow."""
BASELINE = 0.35
"""How far the middle of a line of text stands above its baseline, in sizes of the font (DejaVu Sans)."""
FONT = "DejaVu Sans, Verdana, sans-serif"
MONOSPACE = "DejaVu Sans Mono, Menlo, Consolas, monospace"


def to_svg(scene: Scene) -> str:
    """The scene as one ``svg`` element, for a file or to stand in a page. It has no ids, so that many may stand there.

    Example:
        >>> print(to_svg(Scene("a & b", 40, 20, (Label(20, 10, "x < y"),))))
        <svg xmlns="http://www.w3.org/2000/svg" class="drawing" width="40" height="20" viewBox="0 0 40 20" role="img"
        font-family="DejaVu Sans, Verdana, sans-serif" font-size="10" text-anchor="middle" fill="#1e293b">
        <title>a &amp; b</title>
        <rect class="paper" width="40" height="20" fill="#ffffff"/>
        <text x="20" y="13.5">x &lt; y</text>
        </svg>
    """
    width, height = _number(scene.width), _number(scene.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img"',
        f'font-family="{FONT}" font-size="{_number(TEXT_SIZE)}" text-anchor="middle" fill="{INK}">',
        f"<title>{escape(scene.title)}</title>",
        f'<rect class="paper" width="{width}" height="{height}" fill="#ffffff"/>',
        *map(_shape, scene.shapes),
        "</svg>",
    ]
    return "\n".join(lines)


def _shape(shape: Shape) -> str:
    match shape:
        case Rectangle():
            return _rectangle(shape)
        case Arrow():
            return _arrow(shape)
        case Label():
            return _label(shape)


def _rectangle(box: Rectangle) -> str:
    fill, border = LOOKS[box.look]
    place = " ".join(f'{name}="{_number(getattr(box, name))}"' for name in ("x", "y", "width", "height"))
    return f'<rect class="{box.look}" {place} rx="{_number(ROUNDING)}" fill="{fill}" stroke="{border}"/>'


def _arrow(arrow: Arrow) -> str:
    """The line ends within the head: a blunt end would stand out beside its tip."""
    *before, (x, y) = arrow.points
    line = f"M{_point(arrow.points[0])}"
    for part in curve((*before, (x, y - HEAD_LENGTH / 2))):
        line += ("C" if len(part) == 3 else "L") + " ".join(map(_point, part))
    top, left, right = y - HEAD_LENGTH, x - HEAD_WIDTH / 2, x + HEAD_WIDTH / 2
    head = f"M{_point((x, y))}L{_point((left, top))}L{_point((right, top))}z"
    colour = INKS.get(arrow.ink, EDGE_INK)
    kind = f"line {arrow.ink}"
    return (
        f'<path class="{kind}" d="{line}" fill="none" stroke="{colour}" stroke-width="1.2"/>'
        f'<path class="head {arrow.ink}" d="{head}" fill="{colour}"/>'
    )


def _label(label: Label) -> str:
    attributes = f'x="{_number(label.x)}" y="{_number(label.y + BASELINE * label.size)}"'
    if label.size != TEXT_SIZE:
        attributes += f' font-size="{_number(label.size)}"'
    if label.align == "left":
        attributes += ' text-anchor="start"'
    if label.bold:
        attributes += ' font-weight="bold"'
    if label.monospace:
        # Spaces at the beginning of a line indent it.
        attributes += f' font-family="{MONOSPACE}" xml:space="preserve"'
    if label.ink != "ink":
        attributes += f' class="{label.ink}" fill="{INKS[label.ink]}"'
    return f"<text {attributes}>{escape(label.text, quote=False)}</text>"


def _point(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    """A length with at most one digit behind the point: a tenth of a point is finer than any screen."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
