"""Plain eager evaluation of a graph in PyTorch, operation by operation, as a user would write it.

This is the baseline that compiled attention is measured against, so it must be fair: the quickest form that
eager PyTorch has for each operation, and a mask only where padding would otherwise count. To know where that
is, every value remembers along which of its axes padded positions are zero already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from graphir import AttentionGraph, ValueType
from graphir.ops import COSINE_EPS, RMS_NORM_EPS, SEQ_BY_HEAD

ROWS, COLUMNS = 0, 1
Zeros = frozenset[int]
NOWHERE: Zeros = frozenset()


class Call(NamedTuple):
    """What all operations of one call share; without a key mask the last three are None.

    Attributes:
        head_dim: D.
        real: bool ``[B, S]``, True = real token.
        bias: ``[B, 1, 1, S]``, zero at real positions and lower than any logit elsewhere.
        tokens: ``[B, 1, 1, 1]``, the number of real tokens, at least 1.
    """

    head_dim: int
    real: Tensor | None = None
    bias: Tensor | None = None
    tokens: Tensor | None = None

    def zeroed(self, tensor: Tensor, axis: int) -> Tensor:
        """``[B, H, a, b]`` with zero at the padded positions of ``axis``, whatever stood there."""
        if self.real is None:
            return tensor
        real = self.real[:, None, :, None] if axis == ROWS else self.real[:, None, None, :]
        return torch.where(real, tensor, 0.0)


class Value(NamedTuple):
    """A matrix ``[B, H, a, b]``, its type, and the axes at whose padded positions it is zero."""

    tensor: Tensor
    type: ValueType
    zeros: Zeros

    def contracted(self, call: Call) -> Tensor:
        """The matrix, ready for a sum over its columns in which no other factor is zero at call."""
        if self.type[COLUMNS] != "S" or COLUMNS in self.zeros:
            return self.tensor
        return call.zeroed(self.tensor, COLUMNS)


Rule = Callable[..., tuple[Tensor, Zeros]]
"""``(call, *operands) -> (result, the axes at whose padded positions it is zero)``."""


def evaluate_eager(
    graph: AttentionGraph,
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor | None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """The result of ``graph``, differentiable.

    Args:
        graph: the graph.
        q, k, v: ``[B, H, S, D]``, floating point; those that the graph does not use may be None.
        key_mask: bool ``[B, S]``, True = real token; None means that all are real.

    Returns:
        ``[B, H, S, D]``; rows at padded positions are zero.

    Raises:
        ValueError: where an input that the graph uses is None.
    """
    return eager_function(graph)(q, k, v, key_mask)


def eager_function(graph: AttentionGraph) -> Callable[..., Tensor]:
    """`evaluate_eager` for one graph, as ``(q, k, v, key_mask=None) -> out`` that `torch.compile` takes whole.

    Example:
        >>> plain = eager_function(AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V"))
        >>> q, k, v = torch.randn(3, 1, 2, 5, 4)
        >>> torch.allclose(plain(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6)
        True
    """
    # Everything about the graph is looked up here, so that a call is nothing but tensor operations.
    inputs, output = graph.inputs, graph.output
    steps = [(node.id, RULES[node.op], node.inputs, graph.types[node.id]) for node in graph.nodes]

    def attention(
        q: Tensor | None, k: Tensor | None, v: Tensor | None, key_mask: Tensor | None = None
    ) -> Tensor:
        given = {"Q": q, "K": k, "V": v}
        values: dict[str, Value] = {}
        call: Call | None = None
        for name in inputs:
            tensor = given[name]
            if tensor is None:
                raise ValueError(f"the graph uses {name}: pass a tensor for {name.lower()}, not None")
            call = call or _shared(tensor, key_mask)
            values[name] = Value(call.zeroed(tensor, ROWS), SEQ_BY_HEAD, frozenset({ROWS}))
        if call is None:
            raise ValueError("the graph uses no input")
        for name, rule, operands, value_type in steps:
            tensor, zeros = rule(call, *[values[operand] for operand in operands])
            values[name] = Value(tensor, value_type, zeros)
        return call.zeroed(values[output].tensor, ROWS)

    return attention


def _shared(like: Tensor, key_mask: Tensor | None) -> Call:
    dtype, head_dim = like.dtype, like.shape[-1]
    if key_mask is None:
        return Call(head_dim)
    # To add a bias is quicker than masked_fill: one pass over the logits forward and none backward, where the
    # other needs two and two. Half of the lowest number, so that the sum stays finite.
    bias = torch.zeros_like(key_mask, dtype=dtype).masked_fill(~key_mask, torch.finfo(dtype).min / 2)
    tokens = key_mask.sum(-1).clamp(min=1)
    return Call(head_dim, key_mask, bias[:, None, None, :], tokens[:, None, None, None])


def _pointwise(function: Callable[[Tensor], Tensor], keeps_zero: bool = False) -> Rule:
    return lambda call, x: (function(x.tensor), x.zeros if keeps_zero else NOWHERE)


def _transpose(call: Call, x: Value) -> tuple[Tensor, Zeros]:
    return x.tensor.mT, frozenset(1 - axis for axis in x.zeros)


def _softmax(call: Call, x: Value) -> tuple[Tensor, Zeros]:
    if x.type[COLUMNS] != "S":
        return torch.softmax(x.tensor, -1), NOWHERE
    logits = x.tensor if call.bias is None else x.tensor + call.bias
    return torch.softmax(logits, -1), frozenset({COLUMNS})


def _matmul(call: Call, x: Value, y: Value) -> tuple[Tensor, Zeros]:
    left, right = x.tensor, y.tensor
    if x.type[COLUMNS] == "S" and COLUMNS not in x.zeros and ROWS not in y.zeros:
        # One factor that is zero at padding is enough; the one with fewer S axes is the smaller.
        if x.type.count("S") < y.type.count("S"):
            left = call.zeroed(left, COLUMNS)
        else:
            right = call.zeroed(right, ROWS)
    return left @ right, (x.zeros & {ROWS}) | (y.zeros & {COLUMNS})


def _cosine_similarity(call: Call, x: Value, y: Value) -> tuple[Tensor, Zeros]:
    # Norms are clamped where squared norms are in the definition, hence the root.
    x_rows, y_rows = (F.normalize(o.contracted(call), dim=-1, eps=math.sqrt(COSINE_EPS)) for o in (x, y))
    return x_rows @ y_rows.mT, (x.zeros & {ROWS}) | frozenset({COLUMNS} if ROWS in y.zeros else ())


def _euclidean_distance(call: Call, x: Value, y: Value) -> tuple[Tensor, Zeros]:
    dtype = x.tensor.dtype
    # torch.cdist has no 16-bit form. By default it squares through a matmul, which loses half of the digits
    # where two rows are nearly equal; float64 is used to judge others, so there it takes differences.
    wide = torch.promote_types(dtype, torch.float32)
    mode = "donot_use_mm_for_euclid_dist" if dtype == torch.float64 else "use_mm_for_euclid_dist_if_necessary"
    x_rows, y_rows = (o.contracted(call).to(wide) for o in (x, y))
    return torch.cdist(x_rows, y_rows, compute_mode=mode).to(dtype), NOWHERE


def _rms_norm(call: Call, x: Value) -> tuple[Tensor, Zeros]:
    if x.type[COLUMNS] != "S" or call.tokens is None:
        return F.rms_norm(x.tensor, x.tensor.shape[-1:], eps=RMS_NORM_EPS), x.zeros
    mean = x.contracted(call).square().sum(-1, keepdim=True) / call.tokens
    return x.tensor * torch.rsqrt(mean + RMS_NORM_EPS), x.zeros


RULES: dict[str, Rule] = {
    "neg": _pointwise(torch.neg, keeps_zero=True),
    "transpose": _transpose,
    "scale": lambda call, x: (x.tensor / math.sqrt(call.head_dim), x.zeros),
    "softmax": _softmax,
    "logsigmoid": _pointwise(F.logsigmoid),
    "softsign": _pointwise(F.softsign, keeps_zero=True),
    "add": lambda call, x, y: (x.tensor + y.tensor, x.zeros & y.zeros),
    "matmul": _matmul,
    "cosine_similarity": _cosine_similarity,
    "euclidean_distance": _euclidean_distance,
    "mul": lambda call, x, y: (x.tensor * y.tensor, x.zeros | y.zeros),
    "sub": lambda call, x, y: (x.tensor - y.tensor, x.zeros & y.zeros),
    "relu": _pointwise(torch.relu, keeps_zero=True),
    "relu_squared": _pointwise(lambda x: torch.relu(x).square(), keeps_zero=True),
    "sigmoid": _pointwise(torch.sigmoid),
    "tanh": _pointwise(torch.tanh, keeps_zero=True),
    "exp": _pointwise(torch.exp),
    "abs": _pointwise(torch.abs, keeps_zero=True),
    "rms_norm": _rms_norm,
}
"""One rule for each operation of `graphir.OPERATIONS`."""
