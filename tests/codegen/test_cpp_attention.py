"""Attention by hand on the native library against float64: what every native kernel stands on, in one place."""

from __future__ import annotations

import pytest
import torch

from tests.codegen.native_attention import NativeAttention
from tests.codegen.native_library import require_compiler

F = torch.nn.functional


@pytest.fixture(autouse=True)
def compiler():
    require_compiler()


def exact(name, q, k, v, g, key_mask=None, field=None):
    """Output and gradients in float64; ``field`` multiplies the weights."""
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    real = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool) if key_mask is None else key_mask
    q, k, v = (torch.where(real[:, None, :, None], x, 0.0) for x in leaves)
    scores = q @ k.mT
    if name == "softsign":
        weights = F.softsign(scores) * real[:, None, None, :]
    else:
        hidden = torch.where(real[:, None, None, :], scores / q.shape[-1] ** 0.5, -1e300)
        weights = torch.softmax(hidden, -1) * real[:, None, None, :]
    out = (weights if field is None else weights * field) @ v * real[:, None, :, None]
    out.backward(torch.where(real[:, None, :, None], g, 0.0).double())
    return [out.detach(), *(x.grad for x in leaves)]


def found(name, q, k, v, g, **settings):
    attention = NativeAttention(name, q, k, v, **settings)
    return [attention.forward(), *attention.backward(g)]


def assert_near(results, expected, tolerance):
    for result, truth in zip(results, expected, strict=True):
        error = (result.double() - truth).abs().max() / truth.abs().max().clamp(min=1.0)
        assert error <= tolerance, error  # NaN fails too


def draw(seed, *shape, dtype=torch.float32):
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype).unbind()


@pytest.mark.parametrize("name", ["softsign", "softmax"])
@pytest.mark.parametrize("head_dim", [1, 2, 15, 16, 33, 64, 128, 256])
def test_every_head_dimension(name, head_dim, fresh_seed):
    q, k, v, g = draw(fresh_seed, 1, 2, 77, head_dim)
    # Scores of 256 products have roundings of about 1e-5, which slopes of softsign follow; eager's errors are the same.
    assert_near(found(name, q, k, v, g), exact(name, q, k, v, g), 4e-5)


@pytest.mark.parametrize("name", ["softsign", "softmax"])
@pytest.mark.parametrize("seq_len", [1, 63, 64, 65, 200])
def test_padding_is_never_read_and_comes_out_as_zero(name, seq_len, fresh_seed):
    q, k, v, g = draw(fresh_seed, 4, 2, seq_len, 24)
    generator = torch.Generator().manual_seed(fresh_seed)
    key_mask = torch.rand(4, seq_len, generator=generator) < torch.tensor([[0.9], [0.5], [1.0], [0.0]])
    key_mask[3] = False  # an empty sequence
    real = key_mask[:, None, :, None]
    padded = [torch.where(real, x, torch.nan) for x in (q, k, v, g)]
    results = found(name, *padded, key_mask=key_mask)
    assert_near(results, exact(name, q, k, v, g, key_mask), 4e-5)  # as above
    assert all((x * ~real == 0).all() for x in results)


@pytest.mark.parametrize("name", ["softsign", "softmax"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_read_and_written_and_computed_in_float32(name, dtype, fresh_seed):
    q, k, v, g = draw(fresh_seed, 2, 2, 70, 40, dtype=dtype)
    expected = exact(name, q, k, v, g)
    # One rounding of each result, and of softmax's output before its row term is taken of it.
    assert_near(found(name, q, k, v, g), expected, 2 * torch.finfo(dtype).eps)


def test_strided_tensors_are_read_in_place(fresh_seed):
    q, k, v, g = (x.transpose(1, 2) for x in draw(fresh_seed, 2, 70, 3, 64))
    assert_near(found("softmax", q, k, v, g), exact("softmax", q, k, v, g), 4e-5)  # as above


def test_large_logits_neither_overflow_nor_lose_their_weights(fresh_seed):
    q, k, v, g = draw(fresh_seed, 1, 1, 130, 16)
    q, k = 60 * q, 60 * k
    # Scores near 1e4 are rounded to 1e-3, and so are weights.
    assert_near(found("softmax", q, k, v, g)[:1], exact("softmax", q, k, v, g)[:1], 1e-2)


@pytest.mark.parametrize("masked", [False, True])
def test_forward_and_backward_drop_the_same_entries(masked, fresh_seed):
    size = 72
    q, k, v, g = draw(fresh_seed, 2, 2, size, size)
    key_mask = torch.rand(2, size, generator=torch.Generator().manual_seed(1)) < 0.7 if masked else None
    settings = {"key_mask": key_mask, "dropout_p": 0.3, "seed": fresh_seed << 30}
    # V is the unit matrix: what comes out are the weights themselves, whose zeros show the field.
    dropped = NativeAttention(
        "softmax", q, k, torch.eye(size).expand_as(q).contiguous(), **settings
    ).forward()
    field = (dropped != 0) / 0.7
    if masked:
        assert 0.6 < (field[:, :, key_mask[0]][..., key_mask[0]] > 0).double()[0].mean() < 0.8
    assert_near(found("softmax", q, k, v, g, **settings), exact("softmax", q, k, v, g, key_mask, field), 4e-5)


def test_results_do_not_depend_on_the_number_of_threads_and_are_the_same_again(fresh_seed):
    inputs = draw(fresh_seed, 2, 3, 150, 32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 4, 4):
            torch.set_num_threads(threads)
            results.append(found("softmax", *inputs))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
