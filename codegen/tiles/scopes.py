"""Scopes: the statements of one depth, and the tiles that are known there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.schedule import Read
from codegen.tiles.program import Statement, Tile

RESERVED = (
    "own",
    "other",
    "loop",
    "columns",
    "head",
    "heads",
    "batch",
    "tokens",
    "start",
    "block",
    "chunk",
    "first",
    "program",
)
"""Names that printed kernels use for something else."""


@dataclass
class Scope:
    """Statements of one depth, and the tiles that are known there."""

    parent: Scope | None = None
    body: list[Statement] = field(default_factory=list)
    tiles: dict[Read, Held] = field(default_factory=dict)
    casts: dict[tuple[Tile, bool], Tile] = field(default_factory=dict)

    def known(self, read: Read) -> Held | None:
        """The tile of a value that is known here or further out."""
        return self.tiles.get(read) or (self.parent.known(read) if self.parent else None)


class Held(NamedTuple):
    """A value's tile: ``order[n]`` is the axis of the value that its dimension ``n`` holds; ``home`` is the scope that
    it stands in."""

    tile: Tile
    order: tuple[int, ...]
    home: Scope

    @property
    def zeros(self) -> frozenset[int]:
        """The axes of the value at whose padded places it is known to be zero."""
        return frozenset(self.order[dimension] for dimension in self.tile.zeros)
