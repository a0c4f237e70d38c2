"""The random field of native kernels keeps exactly the entries that Triton's does."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from tests.codegen.native_library import built, pointer

TEXT = """
EXPORTED void field(float* out, long rows, long columns, int64_t seed, int head, int stream, float p) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c += WIDTH) {
            Integers column;
            for (long lane = 0; lane < WIDTH; lane++) column[lane] = (int32_t)(c + lane);
            put(out + r * columns + c, keep(seed, stream, head, Integers{} + (int32_t)r, column, p));
        }
}
"""


@triton.jit
def triton_field(out_ptr, seed_ptr, head, stream, dropout_p, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`_keep` of templates/triton/functions.py.jinja."""
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    row, column = tl.broadcast(rows.to(tl.int32), columns.to(tl.int32))
    drawn, _, _, _ = tl.philox(tl.load(seed_ptr), row, column, row * 0 + head, row * 0 + stream)
    kept = tl.where(tl.uint_to_uniform_float(drawn) >= dropout_p, 1.0 / (1.0 - dropout_p), 0.0)
    tl.store(out_ptr + rows * COLUMNS + columns, kept)


@pytest.mark.parametrize(("dropout_p", "head", "stream"), [(0.1, 0, 0), (0.5, 3, 1), (0.9, 70_000, 5)])
def test_the_field_is_tritons(dropout_p, head, stream, fresh_seed):
    rows, columns = 32, 64
    seed = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(fresh_seed))
    expected = torch.empty(rows, columns)
    triton_field[(1,)](expected, seed, head, stream, dropout_p, rows, columns)
    found = np.empty((rows, columns), np.float32)
    built(TEXT).field(
        pointer(found),
        ctypes.c_long(rows),
        ctypes.c_long(columns),
        ctypes.c_int64(seed.item()),
        head,
        stream,
        ctypes.c_float(dropout_p),
    )
    np.testing.assert_array_equal(found > 0, expected.numpy() > 0)
    # The interpreter takes 1 - p in float64; a GPU, like the kernels here, in float32.
    np.testing.assert_allclose(found, expected.numpy(), rtol=3e-7 / (1 - dropout_p))
    assert 0 < (found > 0).sum() < found.size
