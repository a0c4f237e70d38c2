"""Where the axes of a value are: the instances of its labels, and the order of its tile's dimensions."""

from __future__ import annotations

from codegen.expr import AXIS_HEAD, AXIS_SEQ, Expr, summed_axes
from codegen.schedule import LOOP, OTHER, OWN, Binding
from codegen.tiles.program import Instances

ORDER = {OWN: 0, OTHER: 1, LOOP: 2, AXIS_HEAD: 3}
"""The parallel index stands first."""


def instances_of(node: Expr, binding: Binding) -> Instances:
    """The instance of each axis of a value; D for a head axis."""
    seq = iter(binding)
    return tuple(next(seq) if axis == AXIS_SEQ else AXIS_HEAD for axis in node.axes)


def label_instances(node: Expr, binding: Binding) -> dict[int, str]:
    """The instance of every label of the node's frame, the summed ones included."""
    instances = dict(enumerate(instances_of(node, binding)))
    over = LOOP if binding else OWN
    for label, axis in zip(summed_labels(node), summed_axes(node), strict=True):
        instances[label] = over if axis == AXIS_SEQ else AXIS_HEAD
    return instances


def summed_labels(node: Expr) -> tuple[int, ...]:
    """The labels that computing a value sums over."""
    rank = len(node.axes)
    return tuple(range(rank, rank + len(summed_axes(node))))


def dimension_order(node: Expr, binding: Binding) -> tuple[int, ...]:
    """The axes of a value in the order of its tile's dimensions."""
    instances = instances_of(node, binding)
    return tuple(sorted(range(len(node.axes)), key=lambda axis: (ORDER[instances[axis]], axis)))


def tile_axes(node: Expr, binding: Binding) -> Instances:
    """The instance of each dimension of a value's tile."""
    instances = instances_of(node, binding)
    return tuple(instances[axis] for axis in dimension_order(node, binding))
