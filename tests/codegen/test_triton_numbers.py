"""Numbers that break naive kernels: no NaN, no infinity, and still the right result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codegen import compile_attention
from graphir import AttentionGraph, presets, reference

GRAPHS = {
    "plain": presets.get("bert/1"),
    "layer 4": presets.get("autobert-zero/4"),
    "column softmax": AttentionGraph.from_expression("softmax(scale(Q @ K.T).T).T @ V"),
    "softmax over S of D x S": presets.get("linear-attention"),
    "two softmaxes": AttentionGraph.from_expression("softmax(softmax(scale(Q @ K.T))) @ V"),
    "cosine": AttentionGraph.from_expression("softmax(cosine_similarity(Q, K)) @ V"),
    "cosine without softmax": AttentionGraph.from_expression("Q @ cosine_similarity(K.T, V.T)"),
    "euclid": AttentionGraph.from_expression("softmax(-euclidean_distance(Q, K)) @ V"),
    "euclid of one value": AttentionGraph.from_expression("euclidean_distance(Q, Q) @ V"),
    "euclid over S": AttentionGraph.from_expression("Q @ euclidean_distance(K.T, V.T)"),
    "product of squares": AttentionGraph.from_expression("softmax(Q @ K.T) @ softsign(K @ Q.T) @ V"),
}


def run(graph, q, k, v, key_mask, dtype=torch.float32):
    """Result and gradients, for a gradient of ones, as float64 arrays."""
    leaves = [torch.tensor(x, dtype=dtype).requires_grad_() for x in (q, k, v)]
    out = compile_attention(graph, backend="triton")(*leaves, torch.tensor(key_mask))
    out.sum().backward()
    gradients = [x.grad for name, x in zip("QKV", leaves, strict=True) if name in graph.inputs]
    return [x.detach().double().numpy() for x in (out, *gradients)]


def draw(seed, tokens=21, head_dim=8, batch=2, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal((batch, 2, tokens, head_dim)) for _ in range(3)]


def mask_of(tokens, *lengths):
    return np.stack([np.arange(tokens) < length for length in lengths])


def check(graph, inputs, key_mask, tolerance):
    inputs = [x.astype(np.float32).astype(np.float64) for x in inputs]
    found = run(graph, *inputs, key_mask)
    assert all(np.isfinite(x).all() for x in found)
    expected = [reference.evaluate(graph, *inputs, key_mask=key_mask)]
    grad = np.ones_like(inputs[0])
    expected += reference.gradients(graph, grad, *inputs, key_mask=key_mask).values()
    for mine, truth in zip(found, expected, strict=True):
        assert np.abs(mine - truth).max() <= tolerance * max(1.0, np.abs(truth).max())


LARGE = [(name, torch.float32) for name in GRAPHS] + [
    # Sums of distances of 300 leave the range of float16 by themselves.
    (name, torch.float16)
    for name in GRAPHS
    if name not in ("euclid over S", "euclid of one value")
]


@pytest.mark.parametrize(("name", "dtype"), LARGE, ids=str)
def test_scores_of_ten_thousand_stay_finite(name, dtype, fresh_seed):
    # Entries of 60: scores of 8 * 60^2 = 29,000, what float16 can hold of a product.
    q, k, v = draw(fresh_seed)
    found = run(GRAPHS[name], np.sign(q) * 60, np.sign(k) * 60, v, mask_of(21, 21, 13), dtype)
    assert all(np.isfinite(x).all() for x in found)


def test_a_softmax_of_huge_scores_is_right(fresh_seed):
    q, k, v = draw(fresh_seed, scale=60.0)
    # Scores of 1e4 are right to 1e-3 in float32, and so are the weights.
    check(GRAPHS["plain"], [q, k, v / 60], mask_of(21, 21, 13), 1e-2)


WAITING = {
    "read by a function": ("Q @ softsign(K.T @ V)", False),
    "read by a function and a product": ("t = K.T @ V; Q @ softsign(t) + Q @ t", False),
    "subtracted from another": ("Q @ relu(sub(K.T @ V, V.T @ K))", False),
    "read by a product alone": ("Q @ (K.T @ V)", True),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_sum_over_s_is_kept_in_16_bits_where_products_alone_read_it(name):
    text, is_narrow = WAITING[name]
    plan = compile_attention(AttentionGraph.from_expression(text), backend="triton").plan
    states = [x for kernel in plan.of("forward") for x in kernel.writes if x.axes == ("D", "D")]
    assert states
    assert all(state.narrow == is_narrow for state in states)


def test_a_sum_over_s_that_a_function_reads_may_leave_the_range_of_float16(fresh_seed):
    # 101 products of 30 * 30 make 90,900: infinite in float16, and softsign of that would be NaN.
    q, _, _ = draw(fresh_seed, tokens=101)
    full = np.full_like(q, 30.0)
    graph = AttentionGraph.from_expression(WAITING["read by a function"][0])
    found = run(graph, q, full, full, mask_of(101, 101, 101), torch.float16)
    expected = reference.evaluate(graph, q, full, full)
    assert np.isfinite(found[0]).all()
    # Eight products of rounded operands.
    assert np.abs(found[0] - expected).max() <= 16 * 2**-11 * np.abs(expected).max()


@pytest.mark.parametrize("name", GRAPHS)
def test_all_equal_rows(name):
    inputs = [np.ones((2, 2, 21, 8)) for _ in range(3)]
    # Distances of equal rows are exactly 0, softmaxes are uniform: only rounding of float32 is left.
    check(GRAPHS[name], inputs, mask_of(21, 21, 13), 2e-5)


@pytest.mark.parametrize("name", ["cosine", "cosine without softmax", "euclid", "euclid of one value"])
def test_rows_of_zeros(name, fresh_seed):
    q, k, v = draw(fresh_seed)
    q[:, :, 3:7], k[:, :, 5] = 0.0, 0.0
    if name == "cosine without softmax":
        k[..., 2] = 0.0
    found = run(GRAPHS[name], q, k, v, mask_of(21, 21, 13))
    assert all(np.isfinite(x).all() for x in found)
    expected = reference.evaluate(GRAPHS[name], q, k, v, key_mask=mask_of(21, 21, 13))
    assert np.abs(found[0] - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["euclid", "euclid of one value", "euclid over S"])
def test_identical_and_nearly_identical_rows_keep_their_distance(name, fresh_seed):
    q, k, v = draw(fresh_seed)
    rng = np.random.default_rng(fresh_seed)
    q += 30.0
    k[:, :, :10] = q[:, :, :10]  # the same rows
    k[:, :, 10:15] = q[:, :, 10:15] + 1e-2 * rng.standard_normal((2, 2, 5, 8))  # near ones, far from zero
    inputs = [x.astype(np.float32).astype(np.float64) for x in (q, k, v)]
    found = run(GRAPHS[name], *inputs, mask_of(21, 21, 13))
    assert all(np.isfinite(x).all() for x in found)
    expected = reference.evaluate(GRAPHS[name], *inputs, key_mask=mask_of(21, 21, 13))
    # By |x|^2 + |y|^2 - 2 x.y the near distances would be off by 1e-2.
    assert np.abs(found[0] - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("lengths", [(1, 0), (21, 1), (0, 0)])
@pytest.mark.parametrize("name", GRAPHS)
def test_one_real_token_and_none(name, lengths, fresh_seed):
    key_mask = mask_of(21, *lengths)
    inputs = draw(fresh_seed)
    for x in inputs:
        x[~np.broadcast_to(key_mask[:, None, :], x.shape[:3])] = np.nan
    found = run(GRAPHS[name], *inputs, key_mask)
    for x in found:
        assert np.isfinite(x).all()
        assert (x[:, :, ~key_mask[0]][0] == 0).all()
    with np.errstate(all="ignore"):
        expected = reference.evaluate(GRAPHS[name], *inputs, key_mask=key_mask)
    assert np.abs(found[0] - expected).max(initial=0.0) <= 2e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("shape", [(1, 8), (17, 24), (5, 80), (33, 96), (16, 128), (3, 256)])
@pytest.mark.parametrize("name", ["plain", "softmax over S of D x S", "euclid"])
def test_head_dimensions_from_8_to_256(name, shape, fresh_seed):
    tokens, head_dim = shape
    inputs = draw(fresh_seed, tokens, head_dim, batch=1)
    check(GRAPHS[name], inputs, mask_of(tokens, tokens), 1e-4)


def test_offsets_are_64_bits_wide_where_a_head_is_larger_than_2_to_the_31():
    module = compile_attention(presets.get("bert/1"), backend="triton").function.__globals__
    tokens = 40_000
    near = torch.empty((1, 1, tokens, 64), device="meta")
    far = torch.empty_strided((1, 1, tokens, 64), (0, 0, 60_000, 1), device="meta")
    short, long = (module["_settings"](module["forward_1_kernel"], [x], None)["OFFSET"] for x in (near, far))
    assert (short, long) == (module["tl"].int32, module["tl"].int64)
    # And pointers to heads are moved in 64 bits in any case.
    assert (
        "batch_head = (program // blocks).to(tl.int64)"
        in compile_attention(presets.get("bert/1"), "triton").source
    )
