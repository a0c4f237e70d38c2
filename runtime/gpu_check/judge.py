"""Whether what a form returned on a device is right: small inputs as a whole, large ones at two heads.

The truth is plain evaluation in float64. It needs whole S x S values, so beyond `FLOAT64_TOKENS` tokens the PyTorch
form in float32 takes its place, for one head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codegen import compile_attention
from graphir import AttentionGraph
from runtime.accuracy import (
    JUDGED_SCORES,
    Attention,
    IncomparableError,
    Inputs,
    allowed_errors,
    check_comparable,
    check_judge,
    draw_inputs,
    judge,
    part_of,
    relative_errors,
)
from runtime.bench import DTYPES, Measurement, Setting, verdict
from runtime.eager import eager_function

FLOAT64_TOKENS = 2**14
"""Up to here the truth is computed in float64: an S x S value of one head then takes 2 GiB."""

STORED_TOKENS = 2**15
"""Up to here a PyTorch form that stores S x S values can be the truth: each then takes 4 GiB in float32."""


@dataclass(frozen=True)
class Judge:
    """The truth about some heads of some sequences.

    Attributes:
        inputs: everything that a form is called with.
        parts: the judged slices of batch and heads.
        truth: float64 result and gradients of each part.
        allowed: for the result and each gradient, the error that a form may have relative to its scale.
    """

    inputs: Inputs
    parts: tuple[tuple[slice, slice], ...]
    truth: tuple[tuple[Tensor, ...], ...]
    allowed: tuple[float, ...]

    def measure(self, found: tuple[Tensor, ...]) -> Measurement:
        """The error of a form's result and gradients ``[B, H, S, D]``.

        Rows of the result at padded positions count as zero: forms may leave there what they like.
        """
        mask = self.inputs.key_mask
        out, *gradients = (tensor.detach() for tensor in found)
        if mask is not None:
            out = torch.where(mask[:, None, :, None], out, 0.0)
        tensors = (out, *gradients)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            return Measurement(problem="wrong: the result or a gradient is not finite", wrong=True)
        errors = [
            relative_errors(tuple(tensor[at] for tensor in tensors), right)
            for at, right in zip(self.parts, self.truth, strict=True)
        ]
        return verdict(_worst(errors), self.allowed, self.inputs)


def hard_inputs(graph: AttentionGraph, setting: Setting, device: str) -> Inputs:
    """Inputs with NaN at padded positions: at the end of the first sequence, scattered, and everywhere in the last."""
    inputs = setting_inputs(graph, setting, device)
    generator = torch.Generator().manual_seed(setting.seed)
    mask = torch.rand(setting.batch, setting.seq_len, generator=generator) < 0.5
    mask[:, 0] = True
    mask[0] = torch.arange(setting.seq_len) < 3 * setting.seq_len / 4
    mask[-1] = False
    mask = mask.to(device)
    rows = mask[:, None, :, None]
    tensors = {
        name: torch.where(rows, tensor.detach(), torch.nan).requires_grad_()
        for name, tensor in inputs.tensors.items()
    }
    return Inputs(tensors, mask, torch.where(rows, inputs.grad, 0.0))


def setting_inputs(graph: AttentionGraph, setting: Setting, device: str) -> Inputs:
    """Inputs of a benchmark on a device."""
    return draw_inputs(graph, setting.shape, DTYPES[setting.dtype], setting.masked, setting.seed, device)


def make_judge(graph: AttentionGraph, inputs: Inputs) -> Judge:
    """Compute the truth and what plain evaluation in the type of ``inputs`` loses.

    Raises:
        IncomparableError: where the graph overflows, its type does not carry it, or it is too long for any truth.
        JudgeError: where the judge disagrees with the NumPy reference.
    """
    check_judge(graph)
    seq_len = inputs.grad.shape[2]
    dtype = inputs.grad.dtype
    plain: Attention
    if seq_len <= FLOAT64_TOKENS:
        parts, plain = _parts(inputs), eager_function(graph)
        truth = tuple(judge(graph, part_of(inputs, *at)) for at in parts)
    else:
        compiled = compile_attention(graph, "torch")
        if seq_len > STORED_TOKENS and compiled.plan.quadratic_values:
            raise IncomparableError(
                f"at {seq_len:,} tokens S x S values do not fit, so that nothing can judge it"
            )
        parts, plain = (_LAST,), compiled
        truth = (_widened(part_of(inputs, *_LAST, torch.float32).forward_backward(compiled)),)
    lost = [
        relative_errors(part_of(inputs, *at, dtype).forward_backward(plain), right)
        for at, right in zip(parts, truth, strict=True)
    ]
    eager = _worst(lost)
    check_comparable(eager, dtype)
    return Judge(inputs, parts, truth, allowed_errors(eager, dtype))


_FIRST = slice(0, 1), slice(0, 1)
_LAST = slice(-1, None), slice(-1, None)


def _parts(inputs: Inputs) -> tuple[tuple[slice, slice], ...]:
    """All heads together where they are few enough; else the first of the first sequence and the last of the last."""
    batch, heads, seq_len, _ = inputs.grad.shape
    if batch * heads * seq_len**2 <= JUDGED_SCORES:
        return ((slice(None), slice(None)),)
    return _FIRST, _LAST


def _worst(errors: list[tuple[float, ...]]) -> tuple[float, ...]:
    """For the result and each gradient, the largest error of all parts."""
    return tuple(map(max, zip(*errors, strict=True)))


def _widened(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().double() for tensor in tensors)
