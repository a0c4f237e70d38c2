"""What the body of a kernel is made of: statements, loads, stores, loops and branches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegen.expr import Expr
from codegen.tiles import POSITIONS, REAL


class Load(NamedTuple):
    """A tile that is read from memory: the value, where its axes are, the variable, whether the second axis stands
    first in it, and whether it is the second half of a logsumexp."""

    node: Expr
    instances: tuple[str, ...]
    variable: str
    transposed: bool
    second: bool = False


class Store(NamedTuple):
    """A tile that is written: the value, where its axes are, the source, and whether it is the second half of a
    logsumexp."""

    node: Expr
    instances: tuple[str, ...]
    source: str
    second: bool = False


@dataclass
class Block:
    """A loop or a branch: its first line and what stands in it."""

    header: str
    lines: list[Line]


Line = str | Load | Store | Block


def names_in(lines: Sequence[Line]) -> set[str]:
    """The names that statements and accesses to memory mention; a load does not mention its own variable."""
    found: set[str] = set()
    for line in lines:
        match line:
            case Block(header=header, lines=inner):
                found |= {*re.findall(r"\w+", header), *names_in(inner)}
            case Load(instances=instances) | Store(instances=instances):
                found |= {table[instance] for table in (POSITIONS, REAL) for instance in instances}
        if isinstance(line, Store | str):
            found.update(re.findall(r"\w+", line.source if isinstance(line, Store) else line))
    return found


def without_unread_loads(lines: Sequence[Line], read: set[str]) -> list[Line]:
    """The lines but for loads of D x D values that are read only the other way round (`TileWriter.turned`)."""
    return [
        Block(line.header, without_unread_loads(line.lines, read)) if isinstance(line, Block) else line
        for line in lines
        if not isinstance(line, Load) or line.variable in read
    ]
