"""Tiles of the native library: products, transposes, reductions, running softmax, tensors of every type and layout."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from codegen.cpp.tensors import native_tensors
from tests.codegen.native_library import built, pointer

TEXT = """
EXPORTED long width() { return WIDTH; }
EXPORTED void product_of(long m, long n, long k, float* a, long a_row, long a_depth, float* b, float* c, int add) {
    product(m, n, k, a, a_row, a_depth, {b, padded(n)}, {c, padded(n)}, add);
}
EXPORTED void transpose_of(long rows, long columns, float* from, float* to) {
    transpose(rows, columns, {from, padded(columns)}, {to, padded(rows)});
}
EXPORTED void reduce_row(float* x, float* y, long columns, float* results) {
    results[0] = sum_of_row(x, columns);
    results[1] = sum_of_products(x, y, columns);
    results[2] = largest_of_row(x, columns);
}
EXPORTED int weights_of(long rows, long columns, float* x, float* maximum, float* sum, float* repair) {
    return add_weights(rows, columns, {x, padded(columns)}, maximum, sum, repair);
}
EXPORTED void copy(const Tensor* x, int* positions, long batch, long head, long first, long rows, long columns,
                   long tokens, long count, float* buffer) {
    Head from = head_of(x[0], batch, head, positions), to = head_of(x[1], batch, head, positions);
    if (first == 0) clear_padding(to, tokens, count, columns);
    store(to, first, rows, columns, load(from, first, rows, columns, {buffer, padded(columns)}));
}
"""


@pytest.fixture(scope="module")
def library():
    return built(TEXT)


def longs(*numbers):
    return [ctypes.c_long(number) for number in numbers]


def padded(size, unit):
    return -(-size // unit) * unit


def tile(rows, columns, width, rng, outside=np.nan):
    """A tile in a buffer of whole vectors and rows, with anything where nothing is, and a view of what is."""
    buffer = np.full((padded(rows, 8), padded(columns, width)), outside, np.float32)
    buffer[:rows, :columns] = rng.standard_normal((rows, columns))
    return buffer, buffer[:rows, :columns]


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (8, 32, 64), (64, 64, 64), (13, 21, 7), (64, 48, 128), (3, 256, 5)]
)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("add", [False, True])
def test_a_product_of_tiles_is_that_of_matrices(sizes, turned, add, library, fresh_seed):
    m, n, k = sizes
    rng, width = np.random.default_rng(fresh_seed), library.width()
    a_buffer, a = tile(*((k, m) if turned else (m, k)), width, rng)
    b_buffer, b = tile(k, n, width, rng)
    c_buffer, c = tile(m, n, width, rng)
    before = c.copy() if add else 0.0
    row = a_buffer.shape[1]
    steps = (1, row) if turned else (row, 1)
    # A transposed tile has whole vectors of rows too, so that reading eight at a time stays inside.
    library.product_of(
        *longs(m, n, k), pointer(a_buffer), *longs(*steps), pointer(b_buffer), pointer(c_buffer), add
    )
    left = (a.T if turned else a).astype(np.float64)
    # k roundings of products near sqrt(k), and one of the addition.
    np.testing.assert_allclose(c, before + left @ b, rtol=0, atol=4e-7 * (k + 4))


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (5, 30), (17, 3)])
def test_a_transposed_tile(size, library, fresh_seed):
    rng, width = np.random.default_rng(fresh_seed), library.width()
    buffer, x = tile(*size, width, rng)
    turned, y = tile(*reversed(size), width, rng)
    library.transpose_of(*longs(*size), pointer(buffer), pointer(turned))
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("columns", [1, 7, 16, 61, 64])
def test_reductions_of_a_row_stop_at_its_end(columns, library, fresh_seed):
    rng, width = np.random.default_rng(fresh_seed), library.width()
    (x_buffer, x), (y_buffer, y) = (tile(1, columns, width, rng) for _ in range(2))
    results = np.empty(3, np.float32)
    library.reduce_row(pointer(x_buffer), pointer(y_buffer), *longs(columns), pointer(results))
    x, y = x[0].astype(np.float64), y[0].astype(np.float64)
    # Roundings of up to 64 terms.
    np.testing.assert_allclose(results, [x.sum(), (x * y).sum(), x.max()], rtol=0, atol=2e-5)


def test_a_softmax_over_tiles_is_that_over_all_of_them(library, fresh_seed):
    rng, width = np.random.default_rng(fresh_seed), library.width()
    columns = 13
    logits = (rng.standard_normal((40, columns)) * 20).astype(np.float32)
    maximum, total, repair = (np.zeros(64, np.float32) for _ in range(3))
    maximum[:] = -1e30
    result = np.zeros(columns)
    for rows in (16, 7, 17):
        part, logits_left = logits[:rows], logits[rows:]
        buffer, view = tile(rows, columns, width, rng)
        view[:] = part
        changed = library.weights_of(*longs(rows, columns), *map(pointer, (buffer, maximum, total, repair)))
        assert changed or (repair[:columns] == 1).all()
        result = result * repair[:columns] + view.astype(np.float64).sum(0)
        logits = logits_left
    np.testing.assert_allclose(result, total[:columns], rtol=1e-6)  # the same sum in another order
    assert (
        library.weights_of(
            *longs(1, columns), pointer(maximum.copy()), *map(pointer, (maximum, total, repair))
        )
        == 0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["contiguous", "heads last", "columns apart", "narrow", "odd"])
def test_tensors_of_every_type_and_layout_are_read_and_written(dtype, layout, library, fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    tokens, head_dim = 24, 13 if layout == "odd" else 32
    x = torch.randn(2, 3, tokens, head_dim, generator=generator).to(dtype)
    if layout == "heads last":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "columns apart":
        x = x.mT.contiguous().mT
    elif layout == "narrow":
        x = torch.cat([x, x], -1)[..., 5 : 5 + head_dim]
    real = torch.rand(tokens, generator=generator) < 0.6
    real[:9] = True
    for mask in (None, real):
        positions = None if mask is None else mask.nonzero().flatten().int()
        count = tokens if mask is None else len(positions)
        y = torch.full_like(x, torch.nan)
        given = x.clone()
        if mask is not None:
            given[:, :, ~mask] = torch.nan
        buffer = np.empty((64, 64), np.float32)
        for batch, head in np.ndindex(2, 3):
            for first in range(0, count, 8):
                library.copy(
                    native_tensors([given, y]),
                    None if positions is None else ctypes.c_void_p(positions.data_ptr()),
                    *longs(batch, head, first, min(8, count - first), head_dim, tokens, count),
                    pointer(buffer),
                )
        expected = x if mask is None else x * mask[:, None]
        torch.testing.assert_close(y, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_sixteen_bits_is_pytorchs(dtype, library, fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    x = torch.randint(-(2**31), 2**31, (1, 1, 512, 64), generator=generator).int().view(torch.float32)
    x = torch.where(x.isfinite(), x, x.sign() * torch.inf)
    x[..., :32] = torch.randn(1, 1, 512, 32, generator=generator) * 2.0 ** torch.randint(
        -26, 17, (1, 1, 512, 32)
    )
    x[0, 0, 0, 0] = torch.nan
    y = torch.empty_like(x, dtype=dtype)
    buffer = np.empty((512, 64), np.float32)
    library.copy(native_tensors([x, y]), None, *longs(0, 0, 0, 512, 64, 512, 512), pointer(buffer))
    torch.testing.assert_close(y, x.to(dtype), rtol=0, atol=0, equal_nan=True)
    z = torch.empty_like(x)
    library.copy(native_tensors([y, z]), None, *longs(0, 0, 0, 512, 64, 512, 512), pointer(buffer))
    torch.testing.assert_close(z, y.float(), rtol=0, atol=0, equal_nan=True)
