"""How far a form of a graph is from the truth, and how far it may be.

The judge of large inputs is `runtime.eager` in float64, which `check_judge` first compares with the NumPy
reference of `graphir` on a small one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphir import AttentionGraph, reference
from graphir.validation import INPUT_NAMES
from runtime.eager import evaluate_eager

Attention = Callable[..., Tensor]
"""``(q, k, v, key_mask) -> out``."""

ROUNDINGS = 16
"""An error within this many times the machine epsilon of the result's scale is always allowed."""

JUDGE_TOLERANCE = 1e-9
"""Largest distance of the judge from the reference, relative to the result's scale: both are float64."""

NOISE = 1e-12
"""A float64 array whose entries are below this part of the others' is zero but for rounding."""


class JudgeError(RuntimeError):
    """The judge cannot tell right from wrong for this graph."""


@dataclass(frozen=True)
class Inputs:
    """What a graph is called with.

    Attributes:
        tensors: by name, ``[B, H, S, D]``, leaves that require gradients; those that the graph uses.
        key_mask: bool ``[B, S]`` or None.
        grad: ``[B, H, S, D]``, gradient of the result, zero at padded rows.
    """

    tensors: dict[str, Tensor]
    key_mask: Tensor | None
    grad: Tensor

    @property
    def operands(self) -> tuple[Tensor | None, ...]:
        """q, k and v, None where unused."""
        return tuple(self.tensors.get(name) for name in INPUT_NAMES)

    def forward_backward(self, attention: Attention) -> tuple[Tensor, ...]:
        """The result and the gradient of every used input."""
        out = attention(*self.operands, self.key_mask)
        return out, *torch.autograd.grad(out, list(self.tensors.values()), self.grad)


def draw_inputs(
    graph: AttentionGraph,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.float32,
    masked: bool = True,
    seed: int = 0,
) -> Inputs:
    """Standard normal inputs of ``[B, H, S, D]`` from a seed.

    With ``masked``, the lengths fall evenly from S for the first sequence of the batch to three quarters of S
    for the last; a batch of one is cut to three quarters.
    """
    batch, _, seq_len, _ = shape
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator).to(dtype) for name in (*INPUT_NAMES, "grad")}
    key_mask = None
    if masked:
        cuts = [index / (batch - 1) if batch > 1 else 1.0 for index in range(batch)]
        lengths = torch.tensor([max(1, round(seq_len * (1 - cut / 4))) for cut in cuts])
        key_mask = torch.arange(seq_len) < lengths[:, None]
        drawn["grad"] = drawn["grad"] * key_mask[:, None, :, None]
    return Inputs({name: drawn[name].requires_grad_() for name in graph.inputs}, key_mask, drawn["grad"])


def judge(graph: AttentionGraph, inputs: Inputs) -> tuple[Tensor, ...]:
    """The result and every gradient in float64, one head of one sequence at a time to bound memory.

    Raises:
        JudgeError: where one of them is not finite.
    """
    truth = tuple(torch.zeros_like(inputs.grad, dtype=torch.float64) for _ in range(1 + len(inputs.tensors)))
    batch, heads = inputs.grad.shape[:2]
    for b in range(batch):
        for h in range(heads):
            part = _part(inputs, slice(b, b + 1), slice(h, h + 1))
            for whole, piece in zip(truth, part.forward_backward(_eager(graph)), strict=True):
                whole[b, h] = piece.detach()[0, 0]
    if not all(torch.isfinite(t).all() for t in truth):
        raise JudgeError("the exact result or a gradient overflows on these inputs: nothing to compare with")
    return truth


def check_judge(graph: AttentionGraph, masked: bool = True, seed: int = 0) -> None:
    """Compare `runtime.eager` in float64 with the NumPy reference on a small input.

    Raises:
        JudgeError: where the result or a gradient differs.
    """
    inputs = draw_inputs(graph, (2, 1, 12, 5), torch.float64, masked, seed)
    q, k, v = (None if t is None else t.detach().numpy() for t in inputs.operands)
    mask = None if inputs.key_mask is None else inputs.key_mask.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = [
            reference.evaluate(graph, q, k, v, mask),
            *reference.gradients(graph, inputs.grad.numpy(), q, k, v, mask).values(),
        ]
    errors = relative_errors(inputs.forward_backward(_eager(graph)), [torch.from_numpy(w) for w in wanted])
    if not max(errors) <= JUDGE_TOLERANCE:
        raise JudgeError(
            f"plain eager evaluation in float64 is off from the NumPy reference by {max(errors):.1e} "
            f"of the result's scale: at most {JUDGE_TOLERANCE:.0e} is right"
        )


def relative_errors(found: tuple[Tensor, ...], truth: tuple[Tensor, ...] | list[Tensor]) -> tuple[float, ...]:
    """For each pair the largest difference as a part of the largest true entry; infinite for NaN.

    An array of nothing but rounding noise, such as a gradient that is zero, counts on the scale of the largest.
    """
    scales = [right.abs().max().item() for right in truth]
    largest = max(scales) or 1.0
    errors = []
    for mine, right, own in zip(found, truth, scales, strict=True):
        scale = own if own > NOISE * largest else largest
        error = (mine.detach().double() - right).abs().max().item() / scale
        errors.append(math.inf if math.isnan(error) else error)
    return tuple(errors)


def allowed_errors(eager: tuple[float, ...], dtype: torch.dtype) -> tuple[float, ...]:
    """The largest error that another form may have where plain eager PyTorch has ``eager``.

    1.1 times eager's in 16 bits, 2 times in wider types, or `ROUNDINGS` roundings of the result's scale,
    whichever is larger. What eager itself loses beyond half of the digits excuses nobody.
    """
    eps = torch.finfo(dtype).eps
    factor = 1.1 if torch.finfo(dtype).bits <= 16 else 2.0
    return tuple(max(factor * min(error, eager_limit(dtype)), ROUNDINGS * eps) for error in eager)


def eager_limit(dtype: torch.dtype) -> float:
    """The largest error of plain eager evaluation: half of the digits, what `torch.cdist` keeps of near-equal rows."""
    return math.sqrt(torch.finfo(dtype).eps)


def _eager(graph: AttentionGraph) -> Attention:
    return lambda q, k, v, key_mask: evaluate_eager(graph, q, k, v, key_mask)


def _part(inputs: Inputs, batch: slice, heads: slice) -> Inputs:
    """Some sequences and heads of ``inputs``, in float64, as leaves of their own."""
    tensors = {
        name: tensor.detach()[batch, heads].double().requires_grad_()
        for name, tensor in inputs.tensors.items()
    }
    mask = None if inputs.key_mask is None else inputs.key_mask[batch]
    return Inputs(tensors, mask, inputs.grad[batch, heads].double())
