"""The kernels of the blocks beside attention: their numbers, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from codegen.block_kernels import load_blocks
from tests.codegen.block_jury import BLOCKS, load, objection, with_fault
from tests.codegen.block_reference import (
    EPS,
    conv_case,
    draw,
    dropped_case,
    gelu_case,
    norm_case,
    recovered_keep,
    with_nan_in_padding,
)

DTYPES = [torch.float32, torch.float16]
KERNELS = load_blocks()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 1, 24), (2, 37, 100), (70, 96), (2, 768)], ids=str)
def test_layer_norm_is_as_right_as_pytorch(shape, dtype, fresh_seed):
    assert norm_case(fresh_seed, shape, dtype).ratio(KERNELS, dtype) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 1, 24), (2, 37, 100), (70, 96), (2, 768)], ids=str)
def test_bias_gelu_is_as_right_as_pytorch(shape, dtype, fresh_seed):
    assert gelu_case(fresh_seed, shape, dtype).ratio(KERNELS, dtype) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("tokens", "channels", "heads", "kernel_size"),
    [(1, 24, 2, 7), (37, 48, 4, 3), (70, 48, 2, 65), (33, 26, 1, 19), (9, 100, 2, 9)],
)
@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
def test_light_conv_is_as_right_as_pytorch(tokens, channels, heads, kernel_size, masked, dtype, fresh_seed):
    case = conv_case(fresh_seed, tokens, channels, heads, kernel_size, dtype, masked)
    assert case.ratio(KERNELS, dtype) <= 1.0


def test_nan_in_padding_reaches_nothing(fresh_seed):
    case = conv_case(fresh_seed, 70, 24, 2, 65)
    clean, poisoned = (c.run(KERNELS.light_conv) for c in (case, with_nan_in_padding(case)))
    assert all(torch.equal(one, two) for one, two in zip(clean, poisoned, strict=True))
    out, dgate, _ = poisoned
    padded = ~case.extra[0]
    assert (out[padded] == 0).all()
    assert (dgate[padded] == 0).all()


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_up_what_it_keeps(dropout_p, fresh_seed):
    kept = recovered_keep(KERNELS, fresh_seed, (64, 96), dropout_p)
    allowed = 6 * (dropout_p * (1 - dropout_p) / kept.numel()) ** 0.5  # six standard deviations
    assert abs(kept.double().mean().item() - (1 - dropout_p)) <= allowed


@pytest.mark.parametrize("shape", [(2, 19, 24), (3, 100)], ids=str)
def test_the_backward_drops_what_the_forward_dropped(shape, fresh_seed):
    case = dropped_case(KERNELS, fresh_seed, shape, 0.4)
    torch.manual_seed(
        fresh_seed
    )  # the case draws no numbers of its own, and PyTorch's form is given the mask
    assert case.ratio(KERNELS, torch.float32) <= 1.0


def test_another_seed_drops_other_entries_and_no_dropout_draws_no_seed(fresh_seed):
    one, other = (recovered_keep(KERNELS, fresh_seed + n, (64, 96), 0.5) for n in (0, 1))
    # Two independent masks of 6,144 entries agree in half of them, plus or minus 39: six deviations.
    assert abs((one == other).sum().item() - 3072) <= 6 * 40
    case = norm_case(fresh_seed, (3, 24))
    state = torch.get_rng_state()
    case.run(KERNELS.layer_norm)
    assert torch.equal(state, torch.get_rng_state())


def test_types_of_x_and_residual_may_differ_as_under_autocast(fresh_seed):
    case = norm_case(fresh_seed, (2, 9, 24))
    x, *others = (t.clone().requires_grad_() for t in case.tensors)
    x = x.detach().half().requires_grad_()
    out = KERNELS.layer_norm(x, *others, EPS, 0.25)
    assert out.dtype == torch.float32
    gradients = torch.autograd.grad(out, [x, *others], case.grad)
    assert [g.dtype for g in gradients] == [torch.float16, *[torch.float32] * 3]
    with torch.autocast("cpu", torch.float16):
        assert KERNELS.layer_norm(x, x, *others[1:], EPS).dtype == torch.float32
        assert KERNELS.bias_gelu(x, others[1]).dtype == torch.float16


@pytest.mark.parametrize("block", BLOCKS)
def test_the_jury_accepts_what_is_written(block):
    assert objection(KERNELS, block) == ""


FAULTS = {
    "no eps": ("layer_norm", "/ COLUMNS + eps)", "/ COLUMNS)"),
    "columns beyond the last count in the variance": (
        "layer_norm",
        "centred = tl.where(real_column[None, :], h - mean[:, None], 0.0)",
        "centred = h - mean[:, None]",
    ),
    "mean over the tile": (
        "layer_norm",
        "mean = tl.sum(h, 1) / COLUMNS",
        "mean = tl.sum(h, 1) / BLOCK_COLUMNS",
    ),
    "the residual's gradient lacks the term of the mean": (
        "layer_norm",
        "p - common[:, None] - normal",
        "p - normal",
    ),
    "the residual's gradient lacks the term of the variance": (
        "layer_norm",
        " - normal * along[:, None])",
        ")",
    ),
    "the gradient of the residual is lost": (
        "layer_norm",
        "return dx, dresidual, dweight, dbias, None",
        "return dx, 0.0 * dresidual, dweight, dbias, None",
    ),
    "the gradient of weight is that of the first program": (
        "layer_norm",
        "dweights.sum(0)",
        "dweights[0]",
    ),
    "weight does not scale the gradient": ("layer_norm", "p = g * weight[None, :]", "p = g"),
    "x's gradient is the residual's though entries are dropped": (
        "dropout",
        "dropout_p > 0.0 or x.dtype != residual.dtype",
        "x.dtype != residual.dtype",
    ),
    "what is kept is not scaled": (
        "dropout",
        "dropout_p, 1.0 / (1.0 - dropout_p), 0.0)",
        "dropout_p, 1.0, 0.0)",
    ),
    "the backward does not drop": ("dropout", "dresidual * kept, mask", "dresidual, mask"),
    "the backward forgets what the forward dropped": (
        "dropout",
        "other=0.0).to(tl.float32) * kept",
        "other=0.0).to(tl.float32)",
    ),
    "four columns share one number": (
        "dropout",
        "tl.join(first, third), tl.join(second, fourth)",
        "tl.join(first, first), tl.join(first, first)",
    ),
    "all rows drop the same": (
        "dropout",
        "tl.load(seed_ptr), row, group",
        "tl.load(seed_ptr), row * 0, group",
    ),
    "it keeps what it should drop": ("dropout", "(drawn) >= dropout_p", "(drawn) < dropout_p"),
    "tanh for the error function": (
        "bias_gelu",
        "tl.erf(x * 0.7071067811865476)",
        "2.0 * tl.sigmoid(1.5957691216 * (x + 0.044715 * x * x * x)) - 1.0",
    ),
    "the slope lacks the density": ("bias_gelu", " + z * tl.exp(-0.5 * z * z) * INVERSE_ROOT)", ")"),
    "the backward forgets the bias": (
        "bias_gelu",
        "z = tl.load(x_ptr + place, mask=real, other=0.0).to(tl.float32) + bias[None, :]\n        g",
        "z = tl.load(x_ptr + place, mask=real, other=0.0).to(tl.float32)\n        g",
    ),
    "the gradient of bias is that of the slopes alone": ("bias_gelu", "dbias += dx", "dbias += dx / g"),
    "the convolution is shifted by one": (
        "light_conv",
        "span = start - KERNEL // 2 + tl.arange(0, BLOCK_SPAN)\n    real",
        "span = start - KERNEL // 2 + 1 + tl.arange(0, BLOCK_SPAN)\n    real",
    ),
    "the backward is shifted by one": (
        "light_conv",
        "span = start - KERNEL // 2 + tl.arange(0, BLOCK_SPAN)\n        real",
        "span = start - KERNEL // 2 + 1 + tl.arange(0, BLOCK_SPAN)\n        real",
    ),
    "the backward does not flip the weights": (
        "light_conv",
        "KERNEL, True, BLOCK_OWN, BLOCK_SPAN).to(DTYPE)",
        "KERNEL, False, BLOCK_OWN, BLOCK_SPAN).to(DTYPE)",
    ),
    "the gradient of the weights is flipped": (
        "light_conv",
        "tap = _taps(KERNEL, True, BLOCK_OWN",
        "tap = _taps(KERNEL, False, BLOCK_OWN",
    ),
    "padding is read": (
        "light_conv",
        "real = real & (tl.load(mask_ptr + batch * tokens + position, mask=real, other=0) != 0)",
        "pass",
    ),
    "gradients reach padding": (
        "light_conv",
        "du = tl.where(real, tl.dot(band, g",
        "du = tl.where(counted, tl.dot(band, g",
    ),
    "a block has tokens that read beyond its span": (
        "light_conv",
        "min(own, span - kernel + 1)",
        "own",
    ),
    "the gate and the value change places": (
        "light_conv",
        "u = (value * _sigmoid(gate)).to(DTYPE)",
        "u = (gate * _sigmoid(value)).to(DTYPE)",
    ),
    "the weights of the first head serve all": (
        "light_conv",
        "_band(weight_ptr + head * KERNEL, KERNEL, False",
        "_band(weight_ptr, KERNEL, False",
    ),
    "the kernel is not normalised": ("light_conv", "torch.softmax(kernel.float(), -1)", "kernel.float()"),
    "a program's sum begins with its second block": (
        "light_conv",
        "for unit in range(first, tl.minimum",
        "for unit in range(first + 1, tl.minimum",
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # faulty kernels divide by zero
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_caught(name):
    block, old, new = FAULTS[name]
    assert objection(load(with_fault(old, new)), block)


def test_large_numbers_stay_finite():
    x, bias = torch.tensor([[-1e4, -50.0, 0.0, 50.0, 1e4]]).requires_grad_(), torch.zeros(5)
    out = KERNELS.bias_gelu(x, bias)
    assert out.tolist() == [[0.0, 0.0, 0.0, 50.0, 1e4]]
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]
    (gate,) = draw(0, (1, 4, 16))
    gate[..., 8:] = torch.tensor([-1e4, 1e4, -100.0, 100.0, -1e4, 1e4, 0.0, 1.0])
    assert KERNELS.light_conv(gate, torch.zeros(2, 3)).isfinite().all()
