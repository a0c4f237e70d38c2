"""Attention ``softmax(scale(Q @ K.T)) @ V`` as Triton kernels written by hand, to count instructions against.

What generated kernels can do and these cannot: masks, dropout, lengths that do not fill the blocks, float32 with all of
its digits, heads of more than 2^31 elements. Otherwise they are what a careful person writes: logits in base 2 with the
scale in the factor that takes them there, one multiply-add and one ``exp2`` a score; a logsumexp in base 2 for the
backward, and ``delta``, the row sums of ``dO * O``, by a kernel of its own; pointers that move with the loop.
Arguments have the names and types of generated kernels': three strides an input, stored values are contiguous.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def forward_kernel(
    q_ptr, q_batch, q_head, q_row,
    k_ptr, k_batch, k_head, k_row,
    v_ptr, v_batch, v_head, v_row,
    lse_ptr, out_ptr,
    heads, tokens, blocks,
    SCALE: tl.constexpr, D: tl.constexpr, BLOCK_OWN: tl.constexpr, BLOCK_LOOP: tl.constexpr,
):  # fmt: skip
    """The result, and the logsumexp of each row in base 2."""
    program = tl.program_id(0)
    batch_head = (program // blocks).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    columns = tl.arange(0, D)
    rows = program % blocks * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    loop = tl.arange(0, BLOCK_LOOP)
    k_at = loop[None, :] * k_row + columns[:, None]  # [D, BLOCK_LOOP]
    v_at = loop[:, None] * v_row + columns[None, :]  # [BLOCK_LOOP, D]
    q = tl.load(q_ptr + rows[:, None] * q_row + columns[None, :])
    maximum = tl.full([BLOCK_OWN], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_OWN], tl.float32)
    out = tl.zeros([BLOCK_OWN, D], tl.float32)
    for _ in range(0, tokens, BLOCK_LOOP):
        scores = tl.dot(q, tl.load(k_ptr + k_at))
        newest = tl.maximum(maximum, tl.max(scores, 1) * (SCALE * LOG2E))
        p = tl.exp2(scores * (SCALE * LOG2E) - newest[:, None])
        repair = tl.exp2(maximum - newest)
        total = total * repair + tl.sum(p, 1)
        v = tl.load(v_ptr + v_at)
        out = tl.dot(p.to(v.dtype), v, out * repair[:, None])
        maximum = newest
        k_ptr += BLOCK_LOOP * k_row
        v_ptr += BLOCK_LOOP * v_row
    tl.store(lse_ptr + batch_head * tokens + rows, maximum + tl.log2(total))
    out_ptr += batch_head * tokens * D
    tl.store(out_ptr + rows[:, None] * D + columns[None, :], out / total[:, None])


@triton.jit
def delta_kernel(
    g_ptr, g_batch, g_head, g_row,
    out_ptr, delta_ptr,
    heads, tokens, blocks,
    D: tl.constexpr, BLOCK_OWN: tl.constexpr,
):  # fmt: skip
    """The row sums of ``dO * O``."""
    program = tl.program_id(0)
    batch_head = (program // blocks).to(tl.int64)
    g_ptr += batch_head // heads * g_batch + batch_head % heads * g_head
    out_ptr += batch_head * tokens * D
    columns = tl.arange(0, D)
    rows = program % blocks * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    g = tl.load(g_ptr + rows[:, None] * g_row + columns[None, :]).to(tl.float32)
    out = tl.load(out_ptr + rows[:, None] * D + columns[None, :]).to(tl.float32)
    tl.store(delta_ptr + batch_head * tokens + rows, tl.sum(g * out, 1))


@triton.jit
def grad_q_kernel(
    q_ptr, q_batch, q_head, q_row,
    k_ptr, k_batch, k_head, k_row,
    v_ptr, v_batch, v_head, v_row,
    g_ptr, g_batch, g_head, g_row,
    lse_ptr, delta_ptr, grad_q_ptr,
    heads, tokens, blocks,
    SCALE: tl.constexpr, D: tl.constexpr, BLOCK_OWN: tl.constexpr, BLOCK_LOOP: tl.constexpr,
):  # fmt: skip
    """The gradient of Q."""
    program = tl.program_id(0)
    batch_head = (program // blocks).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    g_ptr += batch * g_batch + head * g_head
    columns = tl.arange(0, D)
    rows = program % blocks * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    loop = tl.arange(0, BLOCK_LOOP)
    k_at = loop[:, None] * k_row + columns[None, :]  # [BLOCK_LOOP, D]
    v_at = loop[:, None] * v_row + columns[None, :]  # [BLOCK_LOOP, D]
    q = tl.load(q_ptr + rows[:, None] * q_row + columns[None, :])
    g = tl.load(g_ptr + rows[:, None] * g_row + columns[None, :])
    lse = tl.load(lse_ptr + batch_head * tokens + rows)
    delta = tl.load(delta_ptr + batch_head * tokens + rows)
    grad_q = tl.zeros([BLOCK_OWN, D], tl.float32)
    for _ in range(0, tokens, BLOCK_LOOP):
        k = tl.load(k_ptr + k_at)
        v = tl.load(v_ptr + v_at)
        p = tl.exp2(tl.dot(q, tl.trans(k)) * (SCALE * LOG2E) - lse[:, None])
        dp = tl.dot(g, tl.trans(v))
        ds = p * (dp - delta[:, None])
        grad_q = tl.dot(ds.to(k.dtype), k, grad_q)
        k_ptr += BLOCK_LOOP * k_row
        v_ptr += BLOCK_LOOP * v_row
    grad_q_ptr += batch_head * tokens * D
    tl.store(grad_q_ptr + rows[:, None] * D + columns[None, :], grad_q * SCALE)


@triton.jit
def grad_kv_kernel(
    q_ptr, q_batch, q_head, q_row,
    k_ptr, k_batch, k_head, k_row,
    v_ptr, v_batch, v_head, v_row,
    g_ptr, g_batch, g_head, g_row,
    lse_ptr, delta_ptr, grad_k_ptr, grad_v_ptr,
    heads, tokens, blocks,
    SCALE: tl.constexpr, D: tl.constexpr, BLOCK_OWN: tl.constexpr, BLOCK_LOOP: tl.constexpr,
):  # fmt: skip
    """The gradients of K and V; tiles of scores are ``[K, Q]``, so that products with them need no transpose."""
    program = tl.program_id(0)
    batch_head = (program // blocks).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    g_ptr += batch * g_batch + head * g_head
    columns = tl.arange(0, D)
    rows = program % blocks * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    loop = tl.arange(0, BLOCK_LOOP)
    q_at = loop[:, None] * q_row + columns[None, :]  # [BLOCK_LOOP, D]
    g_at = loop[:, None] * g_row + columns[None, :]  # [BLOCK_LOOP, D]
    lse_ptr += batch_head * tokens
    delta_ptr += batch_head * tokens
    k = tl.load(k_ptr + rows[:, None] * k_row + columns[None, :])
    v = tl.load(v_ptr + rows[:, None] * v_row + columns[None, :])
    grad_k = tl.zeros([BLOCK_OWN, D], tl.float32)
    grad_v = tl.zeros([BLOCK_OWN, D], tl.float32)
    for _ in range(0, tokens, BLOCK_LOOP):
        q = tl.load(q_ptr + q_at)
        p = tl.exp2(tl.dot(k, tl.trans(q)) * (SCALE * LOG2E) - tl.load(lse_ptr + loop)[None, :])
        g = tl.load(g_ptr + g_at)
        grad_v = tl.dot(p.to(g.dtype), g, grad_v)
        dp = tl.dot(v, tl.trans(g))
        ds = p * (dp - tl.load(delta_ptr + loop)[None, :])
        grad_k = tl.dot(ds.to(q.dtype), q, grad_k)
        q_ptr += BLOCK_LOOP * q_row
        g_ptr += BLOCK_LOOP * g_row
        lse_ptr += BLOCK_LOOP
        delta_ptr += BLOCK_LOOP
    at = batch_head * tokens * D + rows[:, None] * D + columns[None, :]
    tl.store(grad_k_ptr + at, grad_k * SCALE)
    tl.store(grad_v_ptr + at, grad_v)
