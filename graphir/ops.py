"""The operations: one declarative table.

An entry says what an operation *is*: its name, arity, shape rule, and its meaning and gradient in NumPy.
How it is lowered or printed is the business of other modules; a test fails if one of them lacks an entry.

Conventions of the table:

- A value is a matrix ``[..., a, b]`` and its type names the two axes, e.g. ``("S", "D")``.
- ``meaning(head_dim, *operands)`` gives the result, ``gradient(head_dim, grad, result, *operands)`` gives one
  gradient per operand (a vector-Jacobian product). Arrays hold *real* positions only: the reference
  evaluator removes padding first, so no entry here knows of masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
ValueType = tuple[str, str]

SEQ_BY_HEAD: ValueType = ("S", "D")
HEAD_BY_SEQ: ValueType = ("D", "S")
SEQ_BY_SEQ: ValueType = ("S", "S")
HEAD_BY_HEAD: ValueType = ("D", "D")
VALUE_TYPES = (SEQ_BY_HEAD, HEAD_BY_SEQ, SEQ_BY_SEQ, HEAD_BY_HEAD)

COSINE_EPS = 1e-12
"""Squared norms under cosine_similarity are clamped to at least this."""
RMS_NORM_EPS = 1e-6
"""Added to the mean square under rms_norm."""


@dataclass(frozen=True)
class Operation:
    """One primitive operation.

    Attributes:
        name: the name used in graph files and expressions.
        arity: number of operands.
        shape: operand types -> result type, or None where the operands do not fit.
        rule: the shape rule in words, for error messages.
        meaning: ``(head_dim, *operands) -> result``.
        gradient: ``(head_dim, grad, result, *operands) -> one gradient per operand``.
        commutative: whether the order of the operands is irrelevant.
        extended: True for operations beyond the paper's set.
    """

    name: str
    arity: int
    shape: Callable[..., ValueType | None]
    rule: str
    meaning: Callable[..., Array]
    gradient: Callable[..., tuple[Array, ...]]
    commutative: bool = False
    extended: bool = False


def transposed(x: Array) -> Array:
    """Swap the last two axes."""
    return np.swapaxes(x, -1, -2)


def _softmax(d: int, x: Array) -> Array:
    if x.shape[-1] == 0:
        return x
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax_gradient(d: int, g: Array, p: Array, x: Array) -> tuple[Array]:
    return (p * (g - (g * p).sum(-1, keepdims=True)),)


def _unit_rows(x: Array) -> tuple[Array, Array, Array]:
    """Rows divided by their clamped norms, the norms, and where the clamp was not active."""
    square = (x * x).sum(-1, keepdims=True)
    norm = np.sqrt(np.maximum(square, COSINE_EPS))
    return x / norm, norm, square > COSINE_EPS


def _cosine(d: int, x: Array, y: Array) -> Array:
    return _unit_rows(x)[0] @ transposed(_unit_rows(y)[0])


def _cosine_gradient(d: int, g: Array, out: Array, x: Array, y: Array) -> tuple[Array, Array]:
    (ux, nx, free_x), (uy, ny, free_y) = _unit_rows(x), _unit_rows(y)
    gx, gy = g @ uy, transposed(g) @ ux
    gx = gx - free_x * ux * (gx * ux).sum(-1, keepdims=True)
    gy = gy - free_y * uy * (gy * uy).sum(-1, keepdims=True)
    return gx / nx, gy / ny


def _differences(x: Array, y: Array) -> Array:
    return x[..., :, None, :] - y[..., None, :, :]


def _euclidean(d: int, x: Array, y: Array) -> Array:
    return np.sqrt((_differences(x, y) ** 2).sum(-1))


def _euclidean_gradient(d: int, g: Array, out: Array, x: Array, y: Array) -> tuple[Array, Array]:
    weight = np.divide(g, out, out=np.zeros_like(out), where=out > 0)[..., None] * _differences(x, y)
    return weight.sum(-2), -weight.sum(-3)


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))


def _rms_norm(d: int, x: Array) -> Array:
    if x.shape[-1] == 0:
        return x
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + RMS_NORM_EPS)


def _rms_norm_gradient(d: int, g: Array, y: Array, x: Array) -> tuple[Array]:
    if x.shape[-1] == 0:
        return (g,)
    root = np.sqrt((x * x).mean(-1, keepdims=True) + RMS_NORM_EPS)
    return ((g - y * (g * y).mean(-1, keepdims=True)) / root,)


def _same(a: ValueType) -> ValueType:
    return a


def _flipped(a: ValueType) -> ValueType:
    return (a[1], a[0])


def _equal(a: ValueType, b: ValueType) -> ValueType | None:
    return a if a == b else None


def _product(a: ValueType, b: ValueType) -> ValueType | None:
    return (a[0], b[1]) if a[1] == b[0] else None


def _pairwise(a: ValueType, b: ValueType) -> ValueType | None:
    return (a[0], b[0]) if a[1] == b[1] else None


_UNARY = "any one matrix"
_EQUAL = "two operands of equal type"
_PAIRWISE = "operands of types (a, c) and (b, c)"


def _pointwise(
    name: str,
    meaning: Callable[[Array], Array],
    gradient: Callable[[Array, Array, Array], Array],
    extended: bool = False,
) -> Operation:
    """An elementwise operation; ``gradient(grad, result, x)``."""
    return Operation(
        name,
        1,
        _same,
        _UNARY,
        lambda d, x: meaning(x),
        lambda d, g, y, x: (gradient(g, y, x),),
        extended=extended,
    )


_TABLE = (
    _pointwise("neg", lambda x: -x, lambda g, y, x: -g),
    Operation(
        "transpose", 1, _flipped, _UNARY, lambda d, x: transposed(x), lambda d, g, y, x: (transposed(g),)
    ),
    Operation("scale", 1, _same, _UNARY, lambda d, x: x / np.sqrt(d), lambda d, g, y, x: (g / np.sqrt(d),)),
    Operation("softmax", 1, _same, _UNARY, _softmax, _softmax_gradient),
    _pointwise("logsigmoid", lambda x: -np.logaddexp(0.0, -x), lambda g, y, x: g * _sigmoid(-x)),
    _pointwise("softsign", lambda x: x / (1 + np.abs(x)), lambda g, y, x: g / (1 + np.abs(x)) ** 2),
    Operation(
        "add", 2, _equal, _EQUAL, lambda d, x, y: x + y, lambda d, g, out, x, y: (g, g), commutative=True
    ),
    Operation(
        "matmul",
        2,
        _product,
        "operands of types (a, c) and (c, b)",
        lambda d, x, y: x @ y,
        lambda d, g, out, x, y: (g @ transposed(y), transposed(x) @ g),
    ),
    Operation("cosine_similarity", 2, _pairwise, _PAIRWISE, _cosine, _cosine_gradient),
    Operation("euclidean_distance", 2, _pairwise, _PAIRWISE, _euclidean, _euclidean_gradient),
    Operation(
        "mul",
        2,
        _equal,
        _EQUAL,
        lambda d, x, y: x * y,
        lambda d, g, out, x, y: (g * y, g * x),
        commutative=True,
        extended=True,
    ),
    Operation(
        "sub", 2, _equal, _EQUAL, lambda d, x, y: x - y, lambda d, g, out, x, y: (g, -g), extended=True
    ),
    _pointwise("relu", lambda x: np.maximum(x, 0), lambda g, y, x: g * (x > 0), extended=True),
    _pointwise(
        "relu_squared",
        lambda x: np.maximum(x, 0) ** 2,
        lambda g, y, x: g * 2 * np.maximum(x, 0),
        extended=True,
    ),
    _pointwise("sigmoid", _sigmoid, lambda g, y, x: g * y * (1 - y), extended=True),
    _pointwise("tanh", np.tanh, lambda g, y, x: g * (1 - y * y), extended=True),
    _pointwise("exp", np.exp, lambda g, y, x: g * y, extended=True),
    _pointwise("abs", np.abs, lambda g, y, x: g * np.sign(x), extended=True),
    Operation("rms_norm", 1, _same, _UNARY, _rms_norm, _rms_norm_gradient, extended=True),
)

OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
"""Every operation by name."""

PAPER_OPERATIONS: tuple[str, ...] = tuple(op.name for op in _TABLE if not op.extended)
"""The paper's set, the default of a search (the two distances: assumed)."""

EXTENDED_OPERATIONS: tuple[str, ...] = tuple(op.name for op in _TABLE)
"""The paper's set and everything else that the table holds."""
