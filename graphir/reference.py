"""The float64 NumPy reference: the judge of what a graph means.

Padding is removed *before* anything is computed, sequence by sequence, so that it cannot matter. Slow and
plain on purpose; nothing here is shared with the compiler.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from graphir.errors import InputError
from graphir.graph import AttentionGraph
from graphir.ops import OPERATIONS, Array
from graphir.validation import INPUT_NAMES

_ROUNDING = 1e-13
"""A result below this is the rounding error of a difference that is zero."""


def evaluate(
    graph: AttentionGraph,
    q: Array | None,
    k: Array | None,
    v: Array | None,
    key_mask: Array | None = None,
) -> Array:
    """The result of ``graph``.

    Args:
        graph: the graph.
        q, k, v: ``[B, H, S, D]``; those that the graph does not use may be None.
        key_mask: bool ``[B, S]``, True = real token; None means that all are real.

    Returns:
        ``[B, H, S, D]`` float64; rows at padded positions are zero.
    """
    inputs = _used_inputs(graph, q, k, v)
    out = np.zeros_like(next(iter(inputs.values())))
    for batch, real in _sequences(out, key_mask):
        values = _forward(graph, {name: x[batch][:, real] for name, x in inputs.items()}, out.shape[-1])
        out[batch][:, real] = values[graph.output]
    return out


def gradients(
    graph: AttentionGraph,
    grad: Array,
    q: Array | None,
    k: Array | None,
    v: Array | None,
    key_mask: Array | None = None,
) -> dict[str, Array]:
    """Gradients of ``sum(grad * evaluate(...))`` with respect to each input that the graph uses.

    Args:
        graph: the graph.
        grad: ``[B, H, S, D]``, the gradient of the result; rows at padded positions are ignored.
        q, k, v, key_mask: as in `evaluate`.

    Returns:
        By input name, ``[B, H, S, D]`` float64; rows at padded positions are zero.
    """
    inputs = _used_inputs(graph, q, k, v)
    result = {name: np.zeros_like(x) for name, x in inputs.items()}
    head_dim = grad.shape[-1]
    for batch, real in _sequences(grad, key_mask):
        values = _forward(graph, {name: x[batch][:, real] for name, x in inputs.items()}, head_dim)
        grads: dict[str, Array] = {graph.output: np.asarray(grad, np.float64)[batch][:, real]}
        for node in reversed(graph.nodes):
            operands = [values[name] for name in node.inputs]
            node_grads = OPERATIONS[node.op].gradient(head_dim, grads[node.id], values[node.id], *operands)
            for name, g in zip(node.inputs, node_grads, strict=True):
                grads[name] = grads[name] + g if name in grads else g
        for name in inputs:
            result[name][batch][:, real] = grads[name]
    return result


def fingerprint(graph: AttentionGraph, digits: int = 8) -> str:
    """A digest of the result on fixed random inputs: equal for graphs that compute the same function.

    Two sizes are tried, one with fewer tokens than the head dimension and one with more. Values are rounded
    to ``digits`` significant digits of the result's scale; a result that is zero but for rounding is zero.
    """
    digest = hashlib.blake2b(digest_size=16)
    for seq_len, head_dim in ((3, 5), (6, 2)):
        rng = np.random.default_rng(seq_len)
        q, k, v = rng.standard_normal((3, 1, 1, seq_len, head_dim))
        with np.errstate(over="ignore", invalid="ignore"):
            out = evaluate(graph, q, k, v)
        scale = np.abs(out).max() if np.isfinite(out).all() else 1.0
        if scale < _ROUNDING:
            out, scale = np.zeros_like(out), 0.0
        rounded = np.round(out / (scale or 1.0), digits) + 0.0
        digest.update(rounded.tobytes())
        digest.update(f"{scale:.{digits - 2}e}".encode())
    return digest.hexdigest()


def _used_inputs(graph: AttentionGraph, *operands: Array | None) -> dict[str, Array]:
    given = dict(zip(INPUT_NAMES, operands, strict=True))
    inputs: dict[str, Array] = {}
    for name in graph.inputs:
        array = given[name]
        if array is None:
            raise InputError(f"the graph uses {name}, which is None")
        inputs[name] = np.asarray(array, np.float64)
    return inputs


def _sequences(like: Array, key_mask: Array | None) -> Iterator[tuple[int, Array]]:
    """Each batch index with the positions of its real tokens."""
    batch, seq_len = like.shape[0], like.shape[-2]
    for index in range(batch):
        yield index, np.arange(seq_len) if key_mask is None else np.flatnonzero(key_mask[index])


def _forward(graph: AttentionGraph, inputs: dict[str, Array], head_dim: int) -> dict[str, Array]:
    values = dict(inputs)
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        values[node.id] = OPERATIONS[node.op].meaning(head_dim, *operands)
    return values
