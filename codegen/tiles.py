"""Tiles: the part of a value that a program of a kernel holds, and the source of operations on them.

An S axis is held at an *instance* (the own block, the other block of a pair, the tile of a loop), a D axis whole. The
dimensions of a tile are ordered with the parallel index first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from codegen.expr import AXIS_HEAD, Coefficient
from codegen.schedule import LOOP, OTHER, OWN

ORDER = {OWN: 0, OTHER: 1, LOOP: 2, AXIS_HEAD: 3}
SIZES = {OWN: "BLOCK_OWN", OTHER: "BLOCK_OTHER", LOOP: "BLOCK_LOOP", AXIS_HEAD: "BLOCK_D"}
REAL = {OWN: "real_own", OTHER: "real_other", LOOP: "real_loop", AXIS_HEAD: "in_head"}
"""Per instance: the mask of places that are not padding."""
LOWEST = "-1.0e30"
"""Stands for minus infinity; finite, so that differences stay finite."""


class Part(NamedTuple):
    """A tile in the frame of an expression: its source, the label of each dimension, and the labels along which it is
    known to be zero at padded places."""

    source: str
    labels: tuple[int, ...]
    zeros: frozenset[int]


def aligned(part: Part, labels: Sequence[int]) -> str:
    """The part with the dimensions ``labels`` (at most two), broadcast along those that it lacks."""
    dims = [labels.index(label) for label in part.labels]
    if len(labels) == 2 and dims == [1, 0]:
        return f"tl.trans({part.source})"
    if len(labels) == 2 and len(dims) == 1:
        return f"{part.source}[:, None]" if dims == [0] else f"{part.source}[None, :]"
    return part.source


def spread_mask(instance: str, position: int, rank: int) -> str:
    """The mask of an instance as a tile of ``rank`` dimensions, of which it is number ``position``."""
    mask = REAL[instance]
    if rank < 2:
        return mask
    return f"{mask}[:, None]" if position == 0 else f"{mask}[None, :]"


def masked(part: Part, label: int, instance: str, value: str = "0.0") -> Part:
    """The part with ``value`` at the padded places along ``label``."""
    mask = spread_mask(instance, part.labels.index(label), len(part.labels))
    zeros = part.zeros | {label} if value == "0.0" else part.zeros - {label}
    return Part(f"tl.where({mask}, {part.source}, {value})", part.labels, zeros)


def contract(
    parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int], instances: Mapping[int, str]
) -> str:
    """The product of ``parts`` with dimensions ``target``, summed over ``summed``; padded places add nothing."""
    parts = list(parts)
    for label in summed:
        if not any(label in part.zeros for part in parts):
            # The smallest part that has the label is the cheapest to mask.
            position = min(
                (n for n, part in enumerate(parts) if label in part.labels),
                key=lambda n: len(parts[n].labels),
            )
            parts[position] = masked(parts[position], label, instances[label])
    if len(parts) == 2 and len(summed) == 1 and len(target) == 2:
        (label,) = summed
        one, two = parts if target[0] in parts[0].labels else parts[::-1]
        if set(one.labels) == {target[0], label} and set(two.labels) == {label, target[1]}:
            left, right = aligned(one, (target[0], label)), aligned(two, (label, target[1]))
            return f"_dot({left}, {right}, DTYPE)"
    space = (*target, *summed)
    product = " * ".join(aligned(part, space) for part in parts)
    for _ in summed:
        product = f"tl.sum({product}, {len(space) - 1})"
        space = space[:-1]
    return product


def scalar(coefficient: Coefficient) -> str:
    """Source of a coefficient; empty for one."""
    factors = ["SCALE"] * coefficient.scales
    if coefficient.number != 1:
        factors.insert(0, f"{float(coefficient.number)}")
    return " * ".join(factors)


def shape(labels: Sequence[int], instances: Mapping[int, str]) -> str:
    """The shape of a tile, e.g. ``[BLOCK_OWN, BLOCK_D]``."""
    return f"[{', '.join(SIZES[instances[label]] for label in labels)}]"
