"""Tiles of a native kernel: their names, the scopes that they stand in, and statements on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.cpp.statements import EXTENTS, LARGEST, ROW_ORDER, Action, Frame, Map, Operand, Statement
from codegen.expr import AXIS_HEAD, AXIS_SEQ, Expr, summed_axes
from codegen.schedule import LOOP, OWN, Binding, Read, ScheduleError


class Tile(NamedTuple):
    """A variable: ``axes[n]`` is the axis of the value that its dimension ``n`` holds, rows first; ``instances`` are
    where they are; ``depth`` is 0 outside of the loop and 1 in it."""

    name: str
    axes: tuple[int, ...]
    instances: tuple[str, ...]
    depth: int


class Part(NamedTuple):
    """A tile in the frame of an expression: the label of each dimension."""

    tile: Tile
    labels: tuple[int, ...]


@dataclass
class Scope:
    """Statements of one depth, and the tiles that are known there."""

    depth: int
    parent: Scope | None = None
    statements: list[Statement] = field(default_factory=list)
    tiles: dict[Read, Tile] = field(default_factory=dict)

    def known(self, read: Read) -> Tile | None:
        """The tile of a value that is known here or further out."""
        return self.tiles.get(read) or (self.parent.known(read) if self.parent else None)


class Tiles:
    """Writes values down as statements.

    Args:
        names: the name of each value that stands in memory.
        in_memory: what earlier kernels and the caller have stored.
        own: values that this kernel computes: they are never loaded.
    """

    def __init__(
        self,
        names: Mapping[Expr, str],
        in_memory: frozenset[Expr],
        narrow: frozenset[Expr],
        own: frozenset[Expr],
    ) -> None:
        self.names, self.in_memory, self.narrow, self.computed_here = names, in_memory, narrow, own
        self.top = Scope(0)
        self.inner: Scope | None = None
        self.loads: dict[Expr, None] = {}
        self.buffers: dict[str, tuple[str, ...]] = {}
        """Instances of every variable that may need memory of its own."""
        self.needed: set[str] = set()
        """Those that need it whatever reads them."""
        self.rests: dict[str, str] = {}
        self.turned: dict[str, str] = {}
        self.count: Counter[str] = Counter()
        self.uses_dropout = False

    # -- names and scopes

    def fresh(self, stem: str, instances: Sequence[str] | None = None, needed: bool = False) -> str:
        """A variable that is not taken; with ``instances`` one that has a buffer of that size, if anything reads it."""
        self.count[stem] += 1
        name = stem if self.count[stem] == 1 else f"{stem}_{self.count[stem]}"
        if instances is not None:
            self.buffers[name] = tuple(instances)
            if needed:
                self.needed.add(name)
        return name

    def scope_of(self, binding: Binding) -> Scope:
        if LOOP not in binding:
            return self.top
        if self.inner is None:
            raise ScheduleError("a value at the loop's instance is read outside of a loop")
        return self.inner

    def home(self, tile: Tile) -> Scope:
        """The scope that a tile stands in."""
        return self.inner if tile.depth and self.inner else self.top

    # -- statements

    def map(
        self,
        stem: str,
        text: str,
        parts: Sequence[Part],
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
    ) -> str:
        """One operation element by element on the frame ``labels``."""
        operands = tuple(self.operand(part, labels) for part in parts)
        frame = Frame(tuple(instances[label] for label in labels))
        name = self.fresh(stem, frame.instances)
        scope.statements.append(Map(name, frame, text, operands))
        return name

    def operand(self, part: Part, labels: tuple[int, ...]) -> Operand:
        if part.labels == labels:
            return Operand(part.tile.name, {2: "full", 1: "columns", 0: "number"}[len(labels)])
        if len(part.labels) == 2:
            return Operand(self.transposed(part.tile), "full")
        if not part.labels:
            return Operand(part.tile.name, "number")
        return Operand(part.tile.name, "rows" if part.labels[0] == labels[0] else "columns")

    def transposed(self, tile: Tile) -> str:
        """The tile with its dimensions the other way round, made once, where the tile itself stands."""
        name = self.turned.get(tile.name)
        if name is None:
            turned = tile.instances[::-1]
            name = self.turned[tile.name] = self.fresh(f"{tile.name}_columns", turned, needed=True)
            rows, columns = (EXTENTS[instance] for instance in tile.instances)
            line = f"transpose({rows}, {columns}, {tile.name}, {name});"
            self.home(tile).statements.append(Action((line,), (tile.name,), (name,)))
        return name

    def here(self, name: str, labels: Sequence[int], instances: Mapping[int, str], scope: Scope) -> Tile:
        """A variable as a tile of the frame in which it was made."""
        return Tile(name, tuple(labels), tuple(instances[label] for label in labels), scope.depth)

    # -- labels

    def instances(self, node: Expr, binding: Binding) -> tuple[str, ...]:
        """The instance of each axis of a value; D for a head axis."""
        seq = iter(binding)
        return tuple(next(seq) if axis == AXIS_SEQ else AXIS_HEAD for axis in node.axes)

    def label_instances(self, node: Expr, binding: Binding) -> dict[int, str]:
        """The instance of every label of the node's frame, the summed ones included."""
        instances = dict(enumerate(self.instances(node, binding)))
        over = LOOP if binding else OWN
        for label, axis in zip(self.summed_labels(node), summed_axes(node), strict=True):
            instances[label] = over if axis == AXIS_SEQ else AXIS_HEAD
        return instances

    def summed_labels(self, node: Expr) -> tuple[int, ...]:
        rank = len(node.axes)
        return tuple(range(rank, rank + len(summed_axes(node))))

    def ordered(self, labels: Sequence[int], instances: Mapping[int, str]) -> tuple[int, ...]:
        return tuple(sorted(labels, key=lambda label: (ROW_ORDER[instances[label]], label)))

    def target(self, node: Expr, binding: Binding) -> tuple[int, ...]:
        """The axes of a value in the order of its tile's dimensions."""
        return self.ordered(range(len(node.axes)), dict(enumerate(self.instances(node, binding))))

    def layout(self, node: Expr, binding: Binding) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """`target`, and the instance of each of its dimensions."""
        axes, instances = self.target(node, binding), self.instances(node, binding)
        return axes, tuple(instances[axis] for axis in axes)


def size_of(instances: Sequence[str]) -> str:
    """The arguments of `take` for a buffer."""
    return ", ".join(LARGEST[instance] for instance in instances) or "1"
