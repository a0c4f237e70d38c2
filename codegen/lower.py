"""Lowering: one rule an operation, from the graph's primitives to index notation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.algebra import Builder, transpose
from codegen.expr import AXIS_HEAD, AXIS_SEQ, ONE, Axes, Coefficient, Use
from graphir import AttentionGraph

Rule = Callable[..., Use]
"""``(builder, axes of the result, *operands) -> result``."""


def lower(graph: AttentionGraph, builder: Builder, rules: Mapping[str, Rule] | None = None) -> Use:
    """The graph's result ``[i, d]`` in index notation, by `RULES` or by others."""
    rules = RULES if rules is None else rules
    values = {name: builder.input(name) for name in graph.inputs}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        values[node.id] = rules[node.op](builder, graph.types[node.id], *operands)
    return values[graph.output]


def _pointwise(function: str) -> Rule:
    return lambda builder, axes, x: builder.pointwise(function, x, axes)


def _linear(*coefficients: Coefficient) -> Rule:
    return lambda builder, axes, *xs: builder.linear(list(zip(coefficients, xs, strict=True)), axes)


def _softmax(builder: Builder, axes: Axes, x: Use) -> Use:
    weights = builder.softmax(x, axes)
    # Attention dropout multiplies every softmax over S.
    return builder.pointwise("dropout", weights, axes) if axes[1] == AXIS_SEQ else weights


def _softmax_with_factor(builder: Builder, axes: Axes, x: Use) -> Use:
    """For kernels: dropout is a factor, so that it has a gradient."""
    weights = builder.softmax(x, axes)
    return builder.contraction([weights, builder.keep(weights)], axes, ()) if axes[1] == AXIS_SEQ else weights


def _matmul(builder: Builder, axes: Axes, x: Use, y: Use) -> Use:
    return builder.contraction([x.relabelled((0, 2)), y.relabelled((2, 1))], axes, (_axis(x, 1),))


def _axis(use: Use, label: int) -> str:
    """The kind of the axis that ``use`` labels with ``label``."""
    return use.node.axes[use.labels.index(label)]


def _mul(builder: Builder, axes: Axes, x: Use, y: Use) -> Use:
    return builder.contraction([x, y], axes, ())


def _relu_squared(builder: Builder, axes: Axes, x: Use) -> Use:
    rectified = builder.pointwise("relu", x, axes)
    return builder.contraction([rectified, rectified], axes, ())


def _square_sum(builder: Builder, x: Use, axes: Axes) -> Use:
    """``sum_c x[i, c]^2``, of one axis."""
    row = x.relabelled((0, 1))
    return builder.contraction([row, row], axes[:1], axes[1:])


def _unit_rows(builder: Builder, x: Use) -> Use:
    axes = (_axis(x, 0), _axis(x, 1))
    inverse = builder.pointwise("inverse_norm", _square_sum(builder, x, axes), axes[:1])
    return builder.contraction([x, inverse], axes, ())


def _cosine_similarity(builder: Builder, axes: Axes, x: Use, y: Use) -> Use:
    return _matmul(builder, axes, _unit_rows(builder, x), transpose(_unit_rows(builder, y)))


def _euclidean_distance(builder: Builder, axes: Axes, x: Use, y: Use) -> Use:
    return builder.distance(x.relabelled((0, 2)), y.relabelled((1, 2)), axes, _axis(x, 1))


def _rms_norm(builder: Builder, axes: Axes, x: Use) -> Use:
    square = _square_sum(builder, x, axes)
    if axes[1] == AXIS_HEAD:
        mean = builder.linear([(Coefficient(1, 2), square)], axes[:1])
    else:
        count = builder.pointwise("inverse_count", builder.product([], (), (AXIS_SEQ,)), ())
        mean = builder.contraction([square, count], axes[:1], ())
    return builder.contraction([x, builder.pointwise("inverse_root", mean, axes[:1])], axes, ())


RULES: dict[str, Rule] = {
    "neg": _linear(Coefficient(-1)),
    "transpose": lambda builder, axes, x: transpose(x),
    "scale": _linear(Coefficient(1, 1)),
    "softmax": _softmax,
    "logsigmoid": _pointwise("logsigmoid"),
    "softsign": _pointwise("softsign"),
    "add": _linear(ONE, ONE),
    "matmul": _matmul,
    "cosine_similarity": _cosine_similarity,
    "euclidean_distance": _euclidean_distance,
    "mul": _mul,
    "sub": _linear(ONE, Coefficient(-1)),
    "relu": _pointwise("relu"),
    "relu_squared": _relu_squared,
    "sigmoid": _pointwise("sigmoid"),
    "tanh": _pointwise("tanh"),
    "exp": _pointwise("exp"),
    "abs": _pointwise("abs"),
    "rms_norm": _rms_norm,
}
"""One rule for each operation of `graphir.OPERATIONS`."""

KERNEL_RULES = RULES | {"softmax": _softmax_with_factor}
"""The rules of the Triton form, which is differentiated in index notation."""
