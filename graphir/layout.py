"""A layered layout (Sugiyama's method): ranks by longest path, few crossings, no box over another.

An edge over more than one rank runs through *bends*, invisible places that keep it clear of the boxes.
Lengths are in points; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from graphir.ops import OPERATIONS
from graphir.validation import show_type

if TYPE_CHECKING:
    from graphir.graph import AttentionGraph

BOX_HEIGHT = 34.0
RANK_GAP = 30.0
"""Free height between two ranks, where edges turn."""
BOX_GAP = 24.0
"""Free width between two boxes of a rank."""
BEND_WIDTH = 8.0
MIN_BOX_WIDTH = 74.0
CHAR_WIDTH = 7.0
"""A generous width of a letter of a label."""
OUTPUT = "/output"
"""Name of the box that stands for the result; no node can be called so."""
SWEEPS = 12

Point = tuple[float, float]
Key = str | tuple[int, int]  # a value's name, or a bend: (edge, rank)


@dataclass(frozen=True)
class Box:
    """A value in the drawing.

    Attributes:
        name: the input or node, or `OUTPUT`.
        op: its operation; "input" and "output" for the ends.
        label: what is written large.
        detail: what is written small, the type.
        x, y: the centre.
        width, height: the size.
    """

    name: str
    op: str
    label: str
    detail: str
    x: float
    y: float
    width: float
    height: float = BOX_HEIGHT


@dataclass(frozen=True)
class Edge:
    """The way from a value to where it is used.

    Attributes:
        source: name of the value.
        target: name of its user.
        points: where it leaves, its bends (two a rank that it crosses), and where it arrives.
        mark: the operand's number, where the order of operands counts, else empty.
    """

    source: str
    target: str
    points: tuple[Point, ...]
    mark: str = ""


@dataclass(frozen=True)
class Layout:
    """Boxes and edges, with all coordinates from 0 to ``width`` and ``height``."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float


@lru_cache(maxsize=256)  # a report shows the same graphs again and again
def lay_out(graph: AttentionGraph) -> Layout:
    """Place the inputs on top, the output at the bottom, and every operation below its operands."""
    ops = dict.fromkeys(graph.inputs, "input") | {n.id: n.op for n in graph.nodes} | {OUTPUT: "output"}
    links = [(name, node.id, i) for node in graph.nodes for i, name in enumerate(node.inputs)]
    links.append((graph.output, OUTPUT, 0))
    ranks = _ranks(graph, links)
    labels = {name: _label(name, op) for name, op in ops.items()}
    widths: dict[Key, float] = {
        name: max(MIN_BOX_WIDTH, CHAR_WIDTH * len(label) + 16) for name, label in labels.items()
    }

    # Every edge as the chain of places that it runs through, one a rank.
    chains: list[list[Key]] = []
    for number, (source, target, _) in enumerate(links):
        bends: list[Key] = [(number, rank) for rank in range(ranks[source] + 1, ranks[target])]
        widths.update(dict.fromkeys(bends, BEND_WIDTH))
        chains.append([source, *bends, target])
    neighbours = _Neighbours(chains)
    starts = [_initial_rows(graph, chains, ranks, mirrored) for mirrored in (False, True)]
    rows = min(
        (_fewer_crossings(rows, neighbours) for rows in starts), key=lambda rows: _crossings(rows, neighbours)
    )
    x = _horizontal(rows, neighbours, widths)

    boxes = {
        name: Box(name, op, labels[name], _detail(graph, name), x[name], _centre(ranks[name]), widths[name])
        for name, op in ops.items()
    }
    edges = tuple(_routes(links, chains, boxes, ranks, x))
    width = max(box.x + box.width / 2 for box in boxes.values())
    width = max([width, *(px for edge in edges for px, _ in edge.points)])
    return Layout(tuple(boxes.values()), edges, width, _centre(len(rows) - 1) + BOX_HEIGHT / 2)


def _label(name: str, op: str) -> str:
    return name if op == "input" else op.replace("_", " ")  # "output" is its own label


def _detail(graph: AttentionGraph, name: str) -> str:
    return show_type(graph.types[graph.output if name == OUTPUT else name]).replace("x", "×")


def _centre(rank: int) -> float:
    return BOX_HEIGHT / 2 + rank * (BOX_HEIGHT + RANK_GAP)


def _ranks(graph: AttentionGraph, links: Sequence[tuple[str, str, int]]) -> dict[str, int]:
    """Longest path from the inputs; then operations are pulled down to just above their first user."""
    ranks = dict.fromkeys(graph.inputs, 0)
    for node in graph.nodes:
        ranks[node.id] = 1 + max(ranks[name] for name in node.inputs)
    ranks[OUTPUT] = 1 + max(ranks.values())
    users: dict[str, list[str]] = {name: [] for name in ranks}
    for source, target, _ in links:
        users[source].append(target)
    for node in reversed(graph.nodes):
        # Pulled down only where it has one operand: then no edge becomes longer in sum.
        if len(set(node.inputs)) == 1:
            ranks[node.id] = min(ranks[user] for user in users[node.id]) - 1
    return ranks


def _initial_rows(
    graph: AttentionGraph, chains: Sequence[Sequence[Key]], ranks: dict[str, int], mirrored: bool
) -> list[list[Key]]:
    """Each rank as a walk up from the output meets it, first operand first, or last first if mirrored."""
    rows: list[list[Key]] = [[] for _ in range(ranks[OUTPUT] + 1)]
    rows[-1].append(OUTPUT)
    arriving: dict[Key, list[Sequence[Key]]] = {}
    for chain in chains:
        arriving.setdefault(chain[-1], []).append(chain)
    seen: set[Key] = set()
    waiting = list(arriving[OUTPUT])
    while waiting:
        source, *bends, _ = waiting.pop()
        for bend in bends:
            if isinstance(bend, tuple):
                rows[bend[1]].append(bend)
        if source in seen or not isinstance(source, str):
            continue
        seen.add(source)
        rows[ranks[source]].append(source)
        above = arriving.get(source, [])
        waiting.extend(above if mirrored else reversed(above))
    order = {name: position for position, name in enumerate(graph.inputs)}
    rows[0].sort(key=lambda name: order[str(name)])
    return rows


class _Neighbours:
    """For every place, the places above and below that an edge joins it to."""

    def __init__(self, chains: Sequence[Sequence[Key]]) -> None:
        self.above: dict[Key, list[Key]] = {}
        self.below: dict[Key, list[Key]] = {}
        for chain in chains:
            for upper, lower in pairwise(chain):
                self.below.setdefault(upper, []).append(lower)
                self.above.setdefault(lower, []).append(upper)

    def both(self, key: Key) -> list[Key]:
        return [*self.above.get(key, ()), *self.below.get(key, ())]


def _fewer_crossings(rows: list[list[Key]], neighbours: _Neighbours) -> list[list[Key]]:
    """Sort each rank by the mean place of its neighbours, down and up; keep the best order seen."""
    best = [list(row) for row in rows]
    fewest = _crossings(rows, neighbours)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        downwards = sweep % 2 == 0
        linked = neighbours.above if downwards else neighbours.below
        indices = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
        for index in indices:
            beside = {key: p for p, key in enumerate(rows[index - 1 if downwards else index + 1])}
            own = {key: p for p, key in enumerate(rows[index])}
            rows[index].sort(key=lambda key: _mean([beside[n] for n in linked.get(key, [])], own[key]))
            _swap_neighbours(rows, index, neighbours)
        found = _crossings(rows, neighbours)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _swap_neighbours(rows: list[list[Key]], index: int, neighbours: _Neighbours) -> None:
    """Exchange two places that stand side by side wherever that saves a crossing."""
    row = rows[index]
    for left in range(len(row) - 1):
        before = _crossings_at(rows, index, neighbours)
        row[left], row[left + 1] = row[left + 1], row[left]
        if _crossings_at(rows, index, neighbours) >= before:
            row[left], row[left + 1] = row[left + 1], row[left]


def _crossings_at(rows: list[list[Key]], index: int, neighbours: _Neighbours) -> int:
    near = rows[max(0, index - 1) : index + 2]
    return _crossings(near, neighbours)


def _crossings(rows: Sequence[Sequence[Key]], neighbours: _Neighbours) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {key: p for p, key in enumerate(lower)}
        ends = [
            sorted(place[below] for below in neighbours.below.get(key, ()) if below in place) for key in upper
        ]
        flat = [end for group in ends for end in group]
        total += sum(a > b for i, a in enumerate(flat) for b in flat[i + 1 :])
    return total


def _horizontal(
    rows: Sequence[Sequence[Key]], neighbours: _Neighbours, widths: dict[Key, float]
) -> dict[Key, float]:
    """Centres: each as near to its neighbours as the order and the widths allow, then in straight lines."""
    x: dict[Key, float] = {}
    for row in rows:
        place = 0.0
        for key in row:
            x[key] = place + widths[key] / 2
            place += widths[key] + BOX_GAP
    for sweep in range(4 * SWEEPS):
        both = sweep >= 2 * SWEEPS
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wishes, weights = [], []
            for key in row:
                near = neighbours.above.get(key, []) if sweep % 2 == 0 or both else []
                near = near + (neighbours.below.get(key, []) if sweep % 2 == 1 or both else [])
                wishes.append(_mean([x[n] for n in near], x[key]))
                # Long edges should be straight, so bends pull harder than boxes.
                weights.append((8.0 if isinstance(key, tuple) else 1.0) * max(1, len(near)))
            gaps = [(widths[a] + widths[b]) / 2 + BOX_GAP for a, b in pairwise(row)]
            x.update(zip(row, _separated(wishes, weights, gaps), strict=True))
    _straighten(rows, neighbours, widths, x)
    left = min(x[key] - widths[key] / 2 for key in x)
    return {key: value - left for key, value in x.items()}


def _straighten(
    rows: Sequence[Sequence[Key]], neighbours: _Neighbours, widths: dict[Key, float], x: dict[Key, float]
) -> None:
    """Put each line of places at one x as far as its neighbours in the ranks leave room."""
    beside: dict[Key, tuple[Key | None, Key | None]] = {}
    for row in rows:
        for left, key, right in zip([None, *row[:-1]], row, [*row[1:], None], strict=True):
            beside[key] = (left, right)

    def room(key: Key) -> tuple[float, float]:
        left, right = beside[key]
        low = x[left] + (widths[left] + widths[key]) / 2 + BOX_GAP if left is not None else -inf
        high = x[right] - (widths[right] + widths[key]) / 2 - BOX_GAP if right is not None else inf
        return low, high

    lines = _lines(rows, neighbours)
    for _ in range(SWEEPS):
        for line in lines:
            rest = list(line)
            while rest:
                low, high = room(rest[0])
                length = 1
                for key in rest[1:]:
                    narrower = max(low, room(key)[0]), min(high, room(key)[1])
                    if narrower[0] > narrower[1]:
                        break
                    (low, high), length = narrower, length + 1
                part, rest = rest[:length], rest[length:]
                near = [n for key in part for n in neighbours.both(key) if n not in part]
                wish = _mean([x[n] for n in near], x[part[0]])
                # Rounding may leave a hair's breadth less than no room; then a line stays in the middle.
                place = min(max(wish, low), high) if low <= high else (low + high) / 2
                x.update(dict.fromkeys(part, place))


def _lines(rows: Sequence[Sequence[Key]], neighbours: _Neighbours) -> list[list[Key]]:
    """Every place in one line: a long edge, or boxes that follow one another. Longest first."""
    following: dict[Key, Key] = {}
    led: set[Key] = set()
    for row in rows:
        for key in row:
            below = [k for k in neighbours.below.get(key, []) if k not in led]
            alike = [k for k in below if isinstance(k, tuple) == isinstance(key, tuple)]
            if alike:
                following[key] = alike[0]
                led.add(alike[0])
    lines = []
    for row in rows:
        for key in row:
            if key not in led:
                line = [key]
                while line[-1] in following:
                    line.append(following[line[-1]])
                lines.append(line)
    return sorted(lines, key=len, reverse=True)


def _separated(wishes: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to ``wishes`` (weighted squares) that keep their order and at least ``gaps`` apart.

    With the gaps taken off it is an isotonic regression, solved by pooling adjacent violators.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        mean, members = wish - offset, 1
        while pools and pools[-1][0] > mean:
            other, other_weight, other_members = pools.pop()
            mean = (mean * weight + other * other_weight) / (weight + other_weight)
            weight, members = weight + other_weight, members + other_members
        pools.append((mean, weight, members))
    placed = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + offset for mean, offset in zip(placed, offsets, strict=True)]


def _routes(
    links: Sequence[tuple[str, str, int]],
    chains: Sequence[Sequence[Key]],
    boxes: dict[str, Box],
    ranks: dict[str, int],
    x: dict[Key, float],
) -> Iterator[Edge]:
    """The points of each edge. Two operands arrive side by side, in the order from which they come."""
    arriving: dict[str, list[int]] = {}
    for number, (_, target, _) in enumerate(links):
        arriving.setdefault(target, []).append(number)
    for number, (source, target, position) in enumerate(links):
        box, start = boxes[target], boxes[source]
        beside = sorted(arriving[target], key=lambda n: (x[chains[n][-2]], links[n][2]))
        share = (beside.index(number) + 1) / (len(beside) + 1) - 0.5
        points = [(start.x, start.y + start.height / 2)]
        for bend in chains[number][1:-1]:
            assert isinstance(bend, tuple)
            centre = _centre(bend[1])
            points += [(x[bend], centre - BOX_HEIGHT / 2), (x[bend], centre + BOX_HEIGHT / 2)]
        points.append((box.x + share * box.width, box.y - box.height / 2))
        ordered = len(beside) > 1 and not OPERATIONS[box.op].commutative
        yield Edge(source, target, tuple(points), str(position + 1) if ordered else "")


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
