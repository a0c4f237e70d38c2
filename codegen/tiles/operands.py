"""Tiles in the frame of an expression: the order of their dimensions, their masks, and products of them.

The dimensions of a tile are ordered with the parallel index first. Products of matrices take narrow operands and give
wide results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from codegen.tiles.program import Dot, Instances, Masked, Product, Reduce, Spread, Transpose, Value


class Part(NamedTuple):
    """A tile in the frame of an expression: the label of each dimension, the labels along which it is known to be zero
    at padded places, and whether it is float32."""

    value: Value
    labels: tuple[int, ...]
    zeros: frozenset[int]
    wide: bool = True


def aligned(part: Part, labels: Sequence[int]) -> Value:
    """The part with the dimensions ``labels`` (at most two), broadcast along those that it lacks."""
    dims = [labels.index(label) for label in part.labels]
    if len(labels) == 2 and dims == [1, 0]:
        return Transpose(part.value)
    if len(labels) == 2 and len(dims) == 1:
        return Spread(part.value, dims[0])
    return part.value


def masked(part: Part, label: int, instance: str) -> Part:
    """The part with zero at the padded places along ``label``."""
    value = Masked(part.value, instance, part.labels.index(label))
    return Part(value, part.labels, part.zeros | {label}, part.wide)


def is_matmul(parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int]) -> bool:
    """Whether a product is one of matrices."""
    if len(parts) != 2 or len(summed) != 1 or len(target) != 2:
        return False
    one, two = parts if target[0] in parts[0].labels else parts[::-1]
    return set(one.labels) == {target[0], summed[0]} and set(two.labels) == {summed[0], target[1]}


def contract(
    parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int], instances: Mapping[int, str]
) -> Value:
    """The product of ``parts`` with dimensions ``target``, summed over ``summed``."""
    if is_matmul(parts, target, summed):
        one, two = parts if target[0] in parts[0].labels else parts[::-1]
        return Dot(aligned(one, (target[0], summed[0])), aligned(two, (summed[0], target[1])))
    space = product_space(parts, target, summed)
    value: Value = Product(tuple(aligned(part, space) for part in parts), axes_of(space, instances))
    for label in reversed(summed):
        value = Reduce(value, space.index(label))
        space = tuple(other for other in space if other != label)
    return value


def product_space(parts: Sequence[Part], target: tuple[int, ...], summed: Sequence[int]) -> tuple[int, ...]:
    """The dimensions of a product entry by entry before it is summed: as its matrices stand, where all agree."""
    space = (*target, *summed)
    laid = {part.labels for part in parts if len(part.labels) == 2}
    return space[::-1] if len(space) == 2 and len(target) == 1 and laid == {space[::-1]} else space


def axes_of(labels: Sequence[int], instances: Mapping[int, str]) -> Instances:
    """The instance of each dimension of a tile."""
    return tuple(instances[label] for label in labels)
