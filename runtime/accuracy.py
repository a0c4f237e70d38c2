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

from graphir import AttentionGraph, OpnasError, reference
from graphir.validation import INPUT_NAMES
from runtime.eager import evaluate_eager

Attention = Callable[..., Tensor]
"""``(q, k, v, key_mask) -> out``."""


@dataclass(frozen=True)
class Allowance:
    """What a form may lose, largest of two: a multiple of plain eager's error, or some roundings.

    Attributes:
        eager_errors: how many times the error of plain eager PyTorch.
        roundings: how many times the machine epsilon of the result's scale.
    """

    eager_errors: float
    roundings: float


WIDE = Allowance(eager_errors=2.0, roundings=16.0)
"""For float32 and wider."""
HALF = Allowance(eager_errors=1.1, roundings=2.0)
"""For 16-bit types, where the inputs' own rounding counts most."""

WRONG = 4.0
"""An error of more than this many times what is allowed is no rounding any more. Fused attention lies between
now and then: its backward takes the weights anew from rounded logits, so its error grows with the logits."""

JUDGE_TOLERANCE = 1e-9
"""Largest distance of the judge from the reference, relative to the result's scale: both are float64."""

JUDGED_SCORES = 2**24
"""Largest number of entries of one S x S value that the judge holds at once: 128 MB in float64."""

NOISE = 1e-12
"""A float64 array whose entries are below this part of the others' is zero but for rounding."""


class JudgeError(OpnasError, RuntimeError):
    """The judge is wrong itself."""


class IncomparableError(OpnasError, RuntimeError):
    """Nothing can be said about this graph on these inputs in this type: it overflows, or loses all digits."""


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
    device: torch.device | str = "cpu",
) -> Inputs:
    """Standard normal inputs of ``[B, H, S, D]`` from a seed, drawn on ``device``.

    With ``masked``, the lengths fall evenly from S for the first sequence of the batch to three quarters of S
    for the last; a batch of one is cut to three quarters.
    """
    batch, _, seq_len, _ = shape
    generator = torch.Generator(device).manual_seed(seed)
    drawn = {
        name: torch.randn(shape, generator=generator, device=device).to(dtype)
        for name in (*INPUT_NAMES, "grad")
    }
    key_mask = None
    if masked:
        cuts = [index / (batch - 1) if batch > 1 else 1.0 for index in range(batch)]
        lengths = torch.tensor([max(1, round(seq_len * (1 - cut / 4))) for cut in cuts])
        key_mask = (torch.arange(seq_len) < lengths[:, None]).to(device)
        drawn["grad"] = drawn["grad"] * key_mask[:, None, :, None]
    return Inputs({name: drawn[name].requires_grad_() for name in graph.inputs}, key_mask, drawn["grad"])


def judge(graph: AttentionGraph, inputs: Inputs, judged_heads: int | None = None) -> tuple[Tensor, ...]:
    """The result and every gradient in float64, a few heads of one sequence at a time to bound memory.

    Args:
        graph: the graph.
        inputs: what it is called with.
        judged_heads: of how many heads, the first ones; None for all.

    Raises:
        IncomparableError: where one of them is not finite.
    """
    inputs = part_of(inputs, slice(None), slice(judged_heads))
    truth = tuple(torch.zeros_like(inputs.grad) for _ in range(1 + len(inputs.tensors)))
    batch, heads, seq_len, _ = inputs.grad.shape
    step = max(1, JUDGED_SCORES // seq_len**2)
    for b in range(batch):
        for first in range(0, heads, step):
            at = slice(b, b + 1), slice(first, first + step)
            part = part_of(inputs, *at)
            for whole, piece in zip(truth, part.forward_backward(_eager(graph)), strict=True):
                whole[at] = piece.detach()
    _check_finite(truth)
    return truth


def check_judge(graph: AttentionGraph, masked: bool = True, seed: int = 0) -> None:
    """Compare `runtime.eager` in float64 with the NumPy reference on a small input.

    Raises:
        JudgeError: where the result or a gradient differs.
        IncomparableError: where one of them is not finite.
    """
    inputs = draw_inputs(graph, (2, 1, 12, 5), torch.float64, masked, seed)
    q, k, v = (None if t is None else t.detach().numpy() for t in inputs.operands)
    mask = None if inputs.key_mask is None else inputs.key_mask.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = [
            reference.evaluate(graph, q, k, v, mask),
            *reference.gradients(graph, inputs.grad.numpy(), q, k, v, mask).values(),
        ]
    truth = tuple(map(torch.from_numpy, wanted))
    _check_finite(truth)
    errors = relative_errors(inputs.forward_backward(_eager(graph)), truth)
    if not max(errors) <= JUDGE_TOLERANCE:
        raise JudgeError(
            f"plain eager evaluation in float64 is off from the NumPy reference by {max(errors):.1e} "
            f"of the result's scale: at most {JUDGE_TOLERANCE:.0e} is right"
        )


def relative_errors(found: tuple[Tensor, ...], truth: tuple[Tensor, ...]) -> tuple[float, ...]:
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

    What eager itself loses beyond half of the digits excuses nobody.
    """
    may = HALF if torch.finfo(dtype).bits <= 16 else WIDE
    lowest = may.roundings * torch.finfo(dtype).eps
    return tuple(max(may.eager_errors * min(error, eager_limit(dtype)), lowest) for error in eager)


def check_comparable(eager: tuple[float, ...], dtype: torch.dtype) -> None:
    """Refuse inputs on which plain eager evaluation itself, with errors ``eager``, is of no use.

    Raises:
        IncomparableError: where it loses more than half of the digits.
    """
    limit = eager_limit(dtype)
    if not max(eager) <= limit:
        raise IncomparableError(
            f"{str(dtype).removeprefix('torch.')} does not carry this graph: plain eager evaluation is off by "
            f"{max(eager):.1e} of the scale of a result, and above {limit:.1e} there is nothing to compare with"
        )


def eager_limit(dtype: torch.dtype) -> float:
    """The largest error of plain eager evaluation: half of the digits, what `torch.cdist` keeps of near-equal rows."""
    return math.sqrt(torch.finfo(dtype).eps)


def part_of(inputs: Inputs, batch: slice, heads: slice, dtype: torch.dtype = torch.float64) -> Inputs:
    """Some sequences and heads of ``inputs``, as leaves of their own."""
    tensors = {
        name: tensor.detach()[batch, heads].to(dtype, copy=True).requires_grad_()
        for name, tensor in inputs.tensors.items()
    }
    mask = None if inputs.key_mask is None else inputs.key_mask[batch]
    return Inputs(tensors, mask, inputs.grad[batch, heads].to(dtype))


def _check_finite(truth: tuple[Tensor, ...]) -> None:
    if not all(bool(torch.isfinite(t).all()) for t in truth):
        raise IncomparableError(
            "the exact result or a gradient overflows on these inputs: nothing to compare with"
        )


def _eager(graph: AttentionGraph) -> Attention:
    return lambda q, k, v, key_mask: evaluate_eager(graph, q, k, v, key_mask)
