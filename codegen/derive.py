"""Differentiation in index notation: the backward of an expression is an expression like any other.

One rule a kind of node, one slope a pointwise function. Nothing is known of softmax or attention here; that the row
term of softmax's backward is ``rowsum(dO O)`` is found by the order search (`codegen.contraction_order`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from codegen.algebra import Builder
from codegen.expr import (
    ONE,
    Axes,
    Coefficient,
    Contraction,
    Distance,
    Expr,
    Input,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    children,
    own_labels,
    topological,
)

GRADIENT = "G"
"""Name of the input that holds the gradient of the result, ``[i, d]``."""

Slope = Callable[[Builder, Use, Use, Axes], Use]
"""``(builder, x, f(x), axes) -> f'(x)``."""


def derive(root: Use, builder: Builder) -> dict[str, Use]:
    """The gradient of ``sum(G * root)`` with respect to each input of ``root``, by name, each ``[i, d]``."""
    gradient = builder.input(GRADIENT)
    adjoints: dict[Expr, list[tuple[Coefficient, Use]]] = {root.node: [(ONE, _in_frame_of(root, gradient))]}
    result: dict[str, Use] = {}
    order = topological(root.node)
    varying: set[Expr] = set()
    for node in order:
        if isinstance(node, Input) or any(use.node in varying for use in children(node)):
            varying.add(node)
    for node in reversed(order):
        if node not in adjoints or node not in varying:
            continue
        total = builder.linear(adjoints.pop(node), node.axes)
        if isinstance(node, Input):
            result[node.name] = total
            continue
        for operand, contribution in _contributions(node, total, builder):
            adjoints.setdefault(operand, []).append((ONE, contribution))
    return result


def _contributions(node: Expr, total: Use, builder: Builder) -> Iterator[tuple[Expr, Use]]:
    """What ``node``, whose adjoint is ``total``, adds to the adjoint of each operand, in the operand's frame."""
    match node:
        case Pointwise(axes=axes, function=function, operand=operand):
            slope = SLOPES[function](builder, operand, Use(node, own_labels(axes)), axes)
            yield operand.node, _in_frame_of(operand, builder.contraction([total, slope], axes, ()))
        case Linear(axes=axes, terms=terms):
            for coefficient, use in terms:
                yield (
                    use.node,
                    builder.scaled(coefficient, _summed_to(use, [total], axes, builder), use.node.axes),
                )
        case Contraction(axes=axes, factors=factors, summed=summed):
            for position, use in enumerate(factors):
                others = [total, *factors[:position], *factors[position + 1 :]]
                yield use.node, _summed_to(use, others, (*axes, *summed), builder)
        case LogSumExp(axes=axes, operand=operand, summed=axis):
            kinds = (*axes, axis)
            statistic = Use(node, own_labels(axes))
            weights = builder.pointwise(
                "exp", builder.linear([(ONE, operand), (Coefficient(-1), statistic)], kinds), kinds
            )
            yield operand.node, _in_frame_of(operand, builder.contraction([total, weights], kinds, ()))
        case Distance(axes=axes, left=left, right=right, summed=axis):
            kinds = (*axes, axis)
            inverse = builder.pointwise("inverse_or_zero", Use(node, (0, 1)), axes)
            weight = builder.contraction([total, inverse], axes, ())
            for use, other in ((left, right), (right, left)):
                near = _summed_to(use, [weight, use], kinds, builder)
                far = _summed_to(use, [weight, other], kinds, builder)
                yield use.node, builder.linear([(ONE, near), (Coefficient(-1), far)], use.node.axes)


def _in_frame_of(operand: Use, value: Use) -> Use:
    """``value``, given in the frame in which ``operand`` is read, in the operand's own frame."""
    place = {label: axis for axis, label in enumerate(operand.labels)}
    return Use(value.node, tuple(place[label] for label in value.labels))


def _summed_to(operand: Use, factors: list[Use], kinds: Axes, builder: Builder) -> Use:
    """The product of ``factors``, summed over all labels but those of ``operand``, in the operand's own frame.

    ``kinds`` are the axes of all labels of the frame in which operand and factors are read.
    """
    axes = operand.node.axes
    involved = {label for use in factors for label in use.labels}
    kept = [label for label in operand.labels if label in involved]
    summed = sorted(involved - set(kept))
    place = {label: n for n, label in enumerate([*kept, *summed])}
    local = [Use(use.node, tuple(place[label] for label in use.labels)) for use in factors]
    kept_axes = tuple(kinds[label] for label in kept)
    product = builder.contraction(local, kept_axes, tuple(kinds[label] for label in summed))
    spread = Use(product.node, tuple(operand.labels.index(kept[label]) for label in product.labels))
    # The operand may have a label that no factor has: the adjoint is then constant along it.
    return spread if len(kept) == len(axes) else builder.linear([(ONE, spread)], axes)


def _function_of_operand(name: str) -> Slope:
    return lambda builder, x, y, axes: builder.pointwise(name, x, axes)


SLOPES: dict[str, Slope] = {
    "logsigmoid": lambda builder, x, y, axes: builder.pointwise(
        "sigmoid", builder.linear([(Coefficient(-1), x)], axes), axes
    ),
    "softsign": _function_of_operand("softsign_slope"),
    "relu": _function_of_operand("step"),
    "sigmoid": lambda builder, x, y, axes: builder.linear(
        [(ONE, y), (Coefficient(-1), builder.contraction([y, y], axes, ()))], axes
    ),
    "tanh": _function_of_operand("tanh_slope"),
    "exp": lambda builder, x, y, axes: y,
    "abs": _function_of_operand("sign"),
    "inverse_norm": _function_of_operand("inverse_norm_slope"),
    "inverse_root": _function_of_operand("inverse_root_slope"),
}
"""The slope of every pointwise function that depends on an input."""
