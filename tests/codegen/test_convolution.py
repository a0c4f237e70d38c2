"""The convolution of generated models on a CPU: as products of banded matrices it is what F.conv1d gives."""

import pytest
import torch
from torch.nn import functional as F

from codegen import backbone_source
from codegen.generated import load_source
from graphir import Backbone, ConvLayer


@pytest.fixture(scope="module")
def module():
    """The module of a generated model."""
    return load_source(backbone_source(Backbone((ConvLayer(3),), 8, 2, 8, name="one"), 10, 8), "backbone")


def by_definition(x, weight):
    """Every channel for itself, by PyTorch."""
    heads, kernel = weight.shape
    channels = weight.repeat_interleave(x.shape[-1] // heads, 0)[:, None]
    return F.conv1d(x.mT, channels, padding=kernel // 2, groups=x.shape[-1]).mT


@pytest.mark.parametrize("tokens", [1, 5, 32, 33, 100])
@pytest.mark.parametrize("kernel", [1, 3, 9, 11, 65])
def test_results_and_gradients_are_those_of_pytorch_in_float64(module, tokens, kernel, fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    x, grad = (torch.randn(2, tokens, 12, generator=generator) for _ in range(2))
    weight = torch.softmax(torch.randn(3, kernel, generator=generator), -1)
    x.requires_grad_(), weight.requires_grad_()
    found = module._convolve(x, weight)
    assert ("LongConvolution" in found.grad_fn.name()) == (kernel > 9)
    exact = by_definition(x.double(), weight.double())
    # Float32 rounding of at most 65 terms of weight 1, and of sums of some hundred products.
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-6)
    gradients = [torch.autograd.grad(y, (x, weight), grad.to(y.dtype)) for y in (found, exact)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kernel", [3, 17])
def test_other_types_and_strided_inputs_are_right_too(module, kernel, fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    x = torch.randn(12, 40, 2, generator=generator).permute(2, 1, 0)
    weight = torch.softmax(torch.randn(3, kernel, generator=generator), -1)
    exact = by_definition(x.double(), weight.double())
    torch.testing.assert_close(module._convolve(x.double(), weight.double()), exact)
    torch.testing.assert_close(module._convolve(x, weight).double(), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kernel", [3, 17])
def test_it_can_be_differentiated_twice(module, kernel, fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    x, a = (torch.randn(2, 35, 4, generator=generator) for _ in range(2))
    weight, b = (torch.randn(2, kernel, generator=generator) for _ in range(2))

    def second(convolve, dtype):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
        y = convolve(*leaves)
        first = torch.autograd.grad(y, leaves, y.detach().sin(), create_graph=True)
        return torch.autograd.grad([first[0], first[1]], leaves, [a.to(dtype), b.to(dtype)])

    for one, other in zip(
        second(module._convolve, torch.float32), second(by_definition, torch.float64), strict=True
    ):
        # Sums of some hundred products in float32.
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_under_autocast_and_vmap_it_is_pytorchs_own(module):
    x, weight = torch.randn(3, 2, 9, 4), torch.randn(2, 3)
    mapped = torch.func.vmap(module._convolve, in_dims=(0, None))(x, weight)
    for one, row in zip(mapped, x, strict=True):
        torch.testing.assert_close(one, by_definition(row, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert module._convolve(x[0], weight).dtype == torch.bfloat16


def test_a_mask_of_ones_is_dropped_and_any_other_is_kept(module):
    ones = torch.ones(2, 3, dtype=torch.bool)
    assert module._needed_mask(ones) is None
    assert module._needed_mask(None) is None
    some = torch.tensor([[True, True], [True, False]])
    assert module._needed_mask(some) is some
    kept = []
    torch.func.vmap(lambda mask: kept.append(module._needed_mask(mask)) or mask)(ones)
    assert kept[0] is not None  # nothing is decided by values there
