"""The hottest loops of generated kernels are as short as those of kernels written by hand, which are right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.codegen import plain_attention_kernels as by_hand
from tests.codegen.hot_loop import BY_HAND, HEAD_DIMS, TARGETS, Comparison

ROOT = Path(__file__).parents[2]


def attention_by_hand(q, k, v, grad, own, loop):
    """The result and the gradients of q, k and v, as launches of the kernels give them."""
    batch, heads, tokens, head_dim = q.shape
    blocks = tokens // own
    settings = {"D": head_dim, "BLOCK_OWN": own}
    loops = settings | {"SCALE": head_dim**-0.5, "BLOCK_LOOP": loop}
    grid, sizes = (blocks * batch * heads,), (heads, tokens, blocks)
    q_strided, k_strided, v_strided, g_strided = ((x, *x.stride()[:3]) for x in (q, k, v, grad))
    lse, delta = q.new_empty(2, batch, heads, tokens, dtype=torch.float32)
    out, grad_q, grad_k, grad_v = q.new_empty(4, *q.shape)
    inputs = (*q_strided, *k_strided, *v_strided)
    by_hand.forward_kernel[grid](*inputs, lse, out, *sizes, **loops)
    by_hand.delta_kernel[grid](*g_strided, out, delta, *sizes, **settings)
    by_hand.grad_q_kernel[grid](*inputs, *g_strided, lse, delta, grad_q, *sizes, **loops)
    by_hand.grad_kv_kernel[grid](*inputs, *g_strided, lse, delta, grad_k, grad_v, *sizes, **loops)
    return out, grad_q, grad_k, grad_v


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("tiles", [(16, 16), (32, 16), (16, 64)])
def test_the_kernels_by_hand_are_right(tiles, dtype, fresh_seed):
    generator = torch.Generator().manual_seed(fresh_seed)
    # Rows lie apart, as one projection to all four leaves them.
    packed = torch.randn(2, 64, 3, 4, 16, generator=generator).to(dtype).transpose(1, 2)
    q, k, v, grad = packed.unbind(3)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*leaves)
    expected = [out, *torch.autograd.grad(out, leaves, grad.double())]
    for found, truth in zip(attention_by_hand(q, k, v, grad, *tiles), expected, strict=True):
        # The project's bound of 16 roundings of the result's scale.
        allowed = 16 * torch.finfo(dtype).eps * max(1.0, float(truth.detach().abs().max()))
        assert float((found.double() - truth.detach()).abs().max()) <= allowed, (
            f"OPNAS_TEST_SEED={fresh_seed}"
        )


@pytest.mark.long
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_hottest_loop_has_at_most_a_tenth_more_instructions_than_one_by_hand(target, head_dim):
    done = subprocess.run(
        [sys.executable, "-m", "tests.codegen.hot_loop", target, str(head_dim)],
        env={**os.environ, "TRITON_INTERPRET": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [Comparison(**each) for each in json.loads(done.stdout)]
    assert [each.kernel for each in found] == list(BY_HAND)
    for each in found:
        # A count of nothing would always be small enough: two products of matrices a tile, and an exponential each.
        assert min(each.generated, each.by_hand) > 100, each
        assert each.ratio <= 1.1, each
