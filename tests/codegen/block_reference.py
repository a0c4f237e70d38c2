"""What the blocks mean, by plain arithmetic in float64, and how far kernels are from it beside PyTorch's own calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from runtime.accuracy import allowed_errors, relative_errors

EPS = 1e-12


@dataclass(frozen=True)
class Case:
    """One call of a block.

    Attributes:
        block: name of its function in the module of the kernels.
        tensors: what is differentiated, in the order of the arguments.
        grad: of the result.
        extra: the arguments behind the tensors.
        kept: for a LayerNorm with dropout, the factor of every entry of x.
    """

    block: str
    tensors: tuple[Tensor, ...]
    grad: Tensor
    extra: tuple = ()
    kept: Tensor | None = None

    def run(self, function: Callable[..., Tensor], dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """The result and all gradients of a function, in another type where one is given."""
        leaves = [x.detach().to(dtype or x.dtype, copy=True).requires_grad_() for x in self.tensors]
        out = function(*leaves, *self.extra)
        return out.detach(), *torch.autograd.grad(out, leaves, self.grad.to(out.dtype))

    def ratio(self, kernels, dtype: torch.dtype) -> float:
        """The largest error of the kernels as a part of what they may have: design.md, "Numbers"."""
        truth = self.run(lambda *x: TRUTHS[self.block](*x, kept=self.kept), torch.float64)
        eager = relative_errors(self.run(lambda *x: EAGER[self.block](*x, kept=self.kept)), truth)
        found = relative_errors(self.run(getattr(kernels, self.block)), truth)
        return max(mine / may for mine, may in zip(found, allowed_errors(eager, dtype), strict=True))


# -- by plain arithmetic


def true_layer_norm(x, residual, weight, bias, eps, dropout_p=0.0, kept=None):
    h = residual + (x if kept is None else x * kept)
    size = h.shape[-1]
    mean = h.sum(-1, keepdim=True) / size
    variance = ((h - mean) * (h - mean)).sum(-1, keepdim=True) / size
    return (h - mean) / torch.sqrt(variance + eps) * weight + bias


def true_bias_gelu(x, bias, kept=None):
    z = x + bias
    return z * (1 + torch.erf(z / 2**0.5)) / 2


def true_light_conv(gate, kernel, key_mask=None, kept=None):
    batch, tokens, width = gate.shape
    heads, taps = kernel.shape
    u = gate[..., : width // 2] / (1 + torch.exp(-gate[..., width // 2 :]))
    real = torch.ones(batch, tokens, dtype=torch.bool) if key_mask is None else key_mask
    u = torch.where(real[..., None], u, 0.0)
    exponentials = torch.exp(kernel)
    weights = exponentials / exponentials.sum(1, keepdim=True)
    by_channel = weights.repeat_interleave(width // 2 // heads, 0)
    rows = []
    for token in range(tokens):
        row = torch.zeros(batch, width // 2, dtype=gate.dtype)
        for tap in range(taps):
            if 0 <= token + tap - taps // 2 < tokens:
                row = row + by_channel[:, tap] * u[:, token + tap - taps // 2]
        rows.append(row)
    return torch.where(real[..., None], torch.stack(rows, 1), 0.0)


TRUTHS = {"layer_norm": true_layer_norm, "bias_gelu": true_bias_gelu, "light_conv": true_light_conv}


# -- as PyTorch computes it: the calls of a generated model


def eager_layer_norm(x, residual, weight, bias, eps, dropout_p=0.0, kept=None):
    h = residual + (x if kept is None else x * kept.to(x.dtype))
    return F.layer_norm(h, x.shape[-1:], weight.to(h.dtype), bias.to(h.dtype), eps)


def eager_bias_gelu(x, bias, kept=None):
    return F.gelu(x + bias)


def eager_light_conv(gate, kernel, key_mask=None, kept=None):
    x = F.glu(gate, -1)
    if key_mask is not None:
        x = torch.where(key_mask[..., None], x, 0.0)
    batch, tokens, channels = x.shape
    x = x.unflatten(-1, (len(kernel), -1)).permute(0, 3, 2, 1).flatten(0, 1)
    weight = torch.softmax(kernel, -1).unsqueeze(1)
    x = F.conv1d(x, weight, padding=weight.shape[-1] // 2, groups=len(kernel))
    x = x.unflatten(0, (batch, -1)).permute(0, 3, 2, 1).reshape(batch, tokens, channels)
    return x if key_mask is None else torch.where(key_mask[..., None], x, 0.0)


EAGER = {"layer_norm": eager_layer_norm, "bias_gelu": eager_bias_gelu, "light_conv": eager_light_conv}


# -- inputs


def draw(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def norm_case(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Case:
    """Rows of different size, round different means; weights round 1, biases round 0.5."""
    x, residual, weight, bias, grad, scale = draw(
        seed, shape, shape, shape[-1:], shape[-1:], shape, (*shape[:-1], 1)
    )
    tensors = (x * (1 + scale.abs()), residual + 3 * scale, 1 + weight / 4, 0.5 + bias / 4)
    return Case("layer_norm", tuple(t.to(dtype) for t in tensors), grad.to(dtype), (EPS,))


def gelu_case(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Case:
    x, bias, grad = draw(seed, shape, shape[-1:], shape, dtype=dtype)
    return Case("bias_gelu", (2 * x, bias), grad)


def conv_case(
    seed: int,
    tokens: int,
    channels: int,
    heads: int,
    kernel_size: int,
    dtype: torch.dtype = torch.float32,
    masked: bool = True,
) -> Case:
    """Two sequences: with a mask the first has padding in its middle, the second behind its first token."""
    gate, kernel, grad = draw(
        seed, (2, tokens, 2 * channels), (heads, kernel_size), (2, tokens, channels), dtype=dtype
    )
    key_mask = None
    if masked:
        key_mask = torch.ones(2, tokens, dtype=torch.bool)
        key_mask[0, tokens // 3 : tokens // 2] = False
        key_mask[1, 1:] = False
        grad = torch.where(key_mask[..., None], grad, 0.0)
    return Case("light_conv", (gate, kernel), grad, (key_mask,))


def with_nan_in_padding(case: Case) -> Case:
    """The same convolution with NaN at every padded token of the gate and of the gradient."""
    gate, kernel = case.tensors
    (key_mask,) = case.extra
    poisoned = torch.where(key_mask[..., None], gate, torch.nan)
    return replace(
        case, tensors=(poisoned, kernel), grad=case.grad.masked_fill(~key_mask[..., None], torch.nan)
    )


# -- dropout


def recovered_keep(kernels, seed: int, shape: tuple[int, ...], dropout_p: float) -> Tensor:
    """Which entries of x the forward keeps with a seed, read off its results.

    Where x is 1 and one column of it 0, entries of a row that are above that column were kept.
    """
    kept = torch.zeros(shape, dtype=torch.bool)
    residual, one, zero = torch.zeros(shape), torch.ones(shape[-1]), torch.zeros(shape[-1])
    for column in (0, shape[-1] - 1):
        x = torch.ones(shape)
        x[..., column] = 0.0
        torch.manual_seed(seed)
        out = kernels.layer_norm(x, residual, one, zero, EPS, dropout_p)
        kept |= out > out[..., column : column + 1]
    return kept


def dropped_case(kernels, seed: int, shape: tuple[int, ...], dropout_p: float) -> Case:
    """A LayerNorm whose kernels, after ``torch.manual_seed(seed)``, drop what the case says."""
    kept = recovered_keep(kernels, seed, shape, dropout_p) / (1 - dropout_p)
    case = norm_case(seed, shape)
    return replace(case, extra=(EPS, dropout_p), kept=kept)
