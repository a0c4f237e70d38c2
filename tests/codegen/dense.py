"""A dense evaluator of the expression form, in NumPy: separates faults of the algebra from faults of emission."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.expr import (
    Contraction,
    Distance,
    Expr,
    Input,
    Keep,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    topological,
)
from codegen.pointwise import FUNCTIONS

Array = np.ndarray


def evaluate_dense(root: Use, inputs: Mapping[str, Array]) -> Array:
    """The value of ``root`` for one head without padding.

    Args:
        root: an expression of two axes.
        inputs: ``Q``, ``K``, ``V`` by name, ``[S, D]``; nothing is dropped.

    Returns:
        The matrix, float64, with the axes in the order of the frame.
    """
    shape = next(iter(inputs.values())).shape
    sizes = {"S": shape[0], "D": shape[1]}
    values: dict[Expr, Array] = {}
    for node in topological(root.node):
        values[node] = _evaluate(node, values, inputs, sizes)
    return np.transpose(values[root.node], np.argsort(root.labels))


def _evaluate(
    node: Expr, values: dict[Expr, Array], inputs: Mapping[str, Array], sizes: dict[str, int]
) -> Array:
    frame = list(range(len(node.axes)))
    match node:
        case Input(name=name):
            return np.asarray(inputs[name], np.float64)
        case Pointwise(function=function, operand=operand):
            return FUNCTIONS[function].numpy(_spread(operand, values, len(frame)))
        case Linear(axes=axes, terms=terms):
            total = np.zeros([sizes[axis] for axis in axes])
            for (number, scales), use in terms:
                total = total + number * sizes["D"] ** (-scales / 2) * _spread(use, values, len(frame))
            return total
        case Contraction(axes=axes, factors=factors, summed=summed):
            product = np.ones([sizes[axis] for axis in (*axes, *summed)])
            for use in factors:
                product = product * _spread(use, values, product.ndim)
            return product.sum(tuple(range(len(axes), product.ndim)))
        case LogSumExp(operand=operand):
            return np.logaddexp.reduce(_spread(operand, values, len(frame) + 1), axis=-1)
        case Keep(axes=axes):
            return np.ones([sizes[axis] for axis in axes])
        case Distance(left=left, right=right):
            difference = _spread(left, values, 3) - _spread(right, values, 3)
            return np.sqrt((difference**2).sum(-1))
    raise TypeError(f"not an expression node: {type(node).__name__}")


def _spread(use: Use, values: dict[Expr, Array], rank: int) -> Array:
    """The value of ``use`` with its axes at the places of their labels among ``rank`` axes."""
    array = np.transpose(values[use.node], np.argsort(use.labels))
    return np.expand_dims(array, [label for label in range(rank) if label not in use.labels])
