"""Tiles: the part of a value that a program of a kernel holds, and the source of operations on them.

An S axis is held at an *instance* (the own block, the other block of a pair, the tile of a loop), a D axis whole. The
dimensions of a tile are ordered with the parallel index first. A *narrow* tile has the type of the inputs, as it was
loaded; a *wide* one is float32. Products take narrow operands and give wide results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from codegen.expr import AXIS_HEAD, Coefficient
from codegen.schedule import LOOP, OTHER, OWN

ORDER = {OWN: 0, OTHER: 1, LOOP: 2, AXIS_HEAD: 3}
SIZES = {OWN: "BLOCK_OWN", OTHER: "BLOCK_OTHER", LOOP: "BLOCK_LOOP", AXIS_HEAD: "BLOCK_D"}
POSITIONS = {OWN: "own", OTHER: "other", LOOP: "loop", AXIS_HEAD: "columns"}
"""Per instance: the variable of the positions along the axis."""
REAL = {OWN: "real_own", OTHER: "real_other", LOOP: "real_loop", AXIS_HEAD: "real_columns"}
"""Per instance: the mask of places that are not padding."""
LOWEST = "-1.0e30"
"""Stands for minus infinity; finite, so that differences stay finite."""
HIGHEST = "1.0e30"
"""The logsumexp of nothing where weights are taken from it: they are zero, whatever the logits at padded places."""


class Part(NamedTuple):
    """A tile in the frame of an expression: its source, the label of each dimension, the labels along which it is
    known to be zero at padded places, and whether it is float32."""

    source: str
    labels: tuple[int, ...]
    zeros: frozenset[int]
    wide: bool = True


def aligned(part: Part, labels: Sequence[int]) -> str:
    """The part with the dimensions ``labels`` (at most two), broadcast along those that it lacks."""
    dims = [labels.index(label) for label in part.labels]
    if len(labels) == 2 and dims == [1, 0]:
        return f"tl.trans({part.source})"
    if len(labels) == 2 and len(dims) == 1:
        return spread(part.source, dims[0], 2)
    return part.source


def spread(source: str, position: int, rank: int) -> str:
    """A vector as a tile of ``rank`` dimensions, of which it is number ``position``."""
    if rank < 2:
        return source
    return f"{source}[:, None]" if position == 0 else f"{source}[None, :]"


def masked(part: Part, label: int, instance: str, value: str = "0.0") -> Part:
    """The part with ``value`` at the padded places along ``label``."""
    mask = spread(REAL[instance], part.labels.index(label), len(part.labels))
    zeros = part.zeros | {label} if value == "0.0" else part.zeros - {label}
    return Part(f"tl.where({mask}, {part.source}, {value})", part.labels, zeros, part.wide)


def is_matmul(parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int]) -> bool:
    """Whether a product is one of matrices."""
    if len(parts) != 2 or len(summed) != 1 or len(target) != 2:
        return False
    one, two = parts if target[0] in parts[0].labels else parts[::-1]
    return set(one.labels) == {target[0], summed[0]} and set(two.labels) == {summed[0], target[1]}


def contract(
    parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int], total: str | None = None
) -> str:
    """The product of ``parts`` with dimensions ``target``, summed over ``summed`` and added to ``total``."""
    if is_matmul(parts, target, summed):
        one, two = parts if target[0] in parts[0].labels else parts[::-1]
        left, right = aligned(one, (target[0], summed[0])), aligned(two, (summed[0], target[1]))
        added = f", {total}" if total else ""
        return f"tl.dot({left}, {right}{added}, input_precision=PRECISION)"
    space = product_space(parts, target, summed)
    product = " * ".join(aligned(part, space) for part in parts)
    for label in reversed(summed):
        product = f"tl.sum({product}, {space.index(label)})"
        space = tuple(other for other in space if other != label)
    return f"{total} + {product}" if total else product


def product_space(parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int]) -> tuple[int, ...]:
    """The dimensions of a product element by element before it is summed: as its matrices stand, where all agree."""
    space = (*target, *summed)
    laid = {part.labels for part in parts if len(part.labels) == 2}
    return space[::-1] if len(space) == 2 and len(target) == 1 and laid == {space[::-1]} else space


def scalar(coefficient: Coefficient) -> str:
    """Source of a coefficient of positive number; empty for one."""
    factors = ["SCALE"] * coefficient.scales
    if coefficient.number != 1:
        factors.insert(0, f"{float(coefficient.number)}")
    return " * ".join(factors)


def shape(labels: Sequence[int], instances: Mapping[int, str]) -> str:
    """The shape of a tile, e.g. ``[BLOCK_OWN, BLOCK_D]``."""
    return f"[{', '.join(SIZES[instances[label]] for label in labels)}]"
