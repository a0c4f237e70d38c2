"""What a native kernel is made of, before it is text: statements on tiles, in an order that lets maps share a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegen.expr import AXIS_HEAD
from codegen.schedule import LOOP, OWN

EXTENTS = {OWN: "own", LOOP: "loop", AXIS_HEAD: "head_dim"}
"""How many places of an instance there are, in the text."""
LARGEST = {OWN: "OWN", LOOP: "LOOP", AXIS_HEAD: "head_dim"}
"""The same, at most."""
ROW_ORDER = {LOOP: 0, OWN: 1, AXIS_HEAD: 2}
"""Tiles are [loop, own], [loop, D] and [own, D]: then sums over a loop are sums of whole vectors, and of what a product
reads only the own operand is transposed, before the loop."""


class Frame(NamedTuple):
    """The instances along which a statement goes, rows first; at most two."""

    instances: tuple[str, ...]

    @property
    def rows(self) -> str | None:
        return self.instances[0] if len(self.instances) == 2 else None

    @property
    def columns(self) -> str | None:
        return self.instances[-1] if self.instances else None


class Operand(NamedTuple):
    """A tile that a map reads: ``"full"``, or a vector along its ``"rows"`` or ``"columns"``, or one ``"number"``."""

    name: str
    kind: str

    @property
    def source(self) -> str:
        return {
            "full": f"at(row_of({self.name}, r) + c)",
            "columns": f"at({self.name} + c)",
            "rows": f"all({self.name}[r])",
            "number": f"all({self.name}[0])",
        }[self.kind]


@dataclass(frozen=True)
class Map:
    """An operation element by element: ``text`` with ``{0}``, ``{1}`` for its operands."""

    target: str
    frame: Frame
    text: str
    operands: tuple[Operand, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(operand.name for operand in self.operands)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.target,)


@dataclass(frozen=True)
class Action:
    """Any other statement, as lines."""

    lines: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()


Statement = Map | Action


def arranged(statements: Sequence[Statement]) -> list[Statement]:
    """The statements in an order that keeps what each reads before it: as many maps of one frame together as can be.

    Maps that read nothing stand right before what reads them, so that they need no buffer.
    """
    free = {s.target: s for s in statements if isinstance(s, Map) and not s.operands}
    left, done = [s for s in statements if s not in free.values()], list[Statement]()

    def ready() -> list[Statement]:
        waits = {name for statement in left for name in statement.writes}
        return [s for s in left if not waits & {*s.reads} - {*s.writes}]

    def take(statement: Statement) -> None:
        left.remove(statement)
        done.extend(free.pop(name) for name in statement.reads if name in free)
        done.append(statement)

    while left:
        first = next((s for s in ready() if isinstance(s, Action)), ready()[0])
        take(first)
        while isinstance(first, Map) and (
            more := next((s for s in ready() if isinstance(s, Map) and s.frame == first.frame), None)
        ):
            take(more)
    return [*done, *free.values()]


def printed(statements: Sequence[Statement], outside: set[str]) -> tuple[list[str], set[str]]:
    """The lines of arranged statements, and the tiles that need a buffer.

    Args:
        statements: of one scope.
        outside: names that are read elsewhere.
    """
    lines: list[str] = []
    buffers: set[str] = set()
    place = 0
    while place < len(statements):
        statement = statements[place]
        if isinstance(statement, Action):
            lines += statement.lines
            place += 1
            continue
        group = [statement]
        while place + len(group) < len(statements):
            following = statements[place + len(group)]
            if not isinstance(following, Map) or following.frame != statement.frame:
                break
            group.append(following)
        place += len(group)
        later = outside | {name for s in statements[place:] for name in s.reads}
        kept = {map_.target for map_ in group} & later
        buffers |= kept
        lines += _one_pass(group, kept)
    return lines, buffers


def _one_pass(group: Sequence[Map], kept: set[str]) -> list[str]:
    """Maps of one frame as one loop, whose values stay in registers."""
    frame = group[0].frame
    columns = EXTENTS[frame.columns] if frame.columns else "1"
    lines, margin = [], ""
    if frame.rows:
        lines.append(f"for (long r = 0; r < {EXTENTS[frame.rows]}; r++)")
        margin = "    "
    lines.append(f"{margin}for (long c = 0; c < {columns}; c += WIDTH) {{")
    made: set[str] = set()
    whole = "full" if frame.rows else ("columns" if frame.columns else "number")
    for map_ in group:
        sources = [
            f"{o.name}_here" if o.name in made and o.kind == whole else o.source for o in map_.operands
        ]
        lines.append(f"{margin}    Vector {map_.target}_here = {map_.text.format(*sources)};")
        made.add(map_.target)
        if map_.target in kept:
            target = f"row_of({map_.target}, r)" if frame.rows else map_.target
            lines.append(f"{margin}    put({target} + c, {map_.target}_here);")
    lines.append(f"{margin}}}")
    return lines
