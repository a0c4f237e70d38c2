"""What a compiled attention refuses, and what it says then."""

from __future__ import annotations

import pytest
import torch

from codegen import BackendError, compile_attention
from graphir import AttentionGraph, presets

PLAIN = compile_attention(presets.get("bert/1"))
SHARED = compile_attention(presets.get("shared-qk"))  # Q and V


def tensors(*shape, dtype=torch.float32):
    return torch.zeros(3, *shape, dtype=dtype)


def test_unused_inputs_may_be_none_or_anything():
    q, k, v = tensors(1, 1, 3, 2)
    expected = SHARED(q, None, v)
    assert torch.equal(SHARED(q, k, v), expected)
    assert torch.equal(SHARED(q, torch.zeros(7), v), expected)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_used_input_that_is_none_is_named(missing):
    inputs = list(tensors(1, 1, 3, 2))
    inputs[missing] = None
    with pytest.raises(ValueError, match=f"the graph uses {'QKV'[missing]}: .*not None"):
        PLAIN(*inputs)


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (torch.zeros(3, 2), r"q must be a floating-point tensor \[B, H, S, D\], not torch.float32 \[3, 2\]"),
        (torch.zeros(1, 1, 3, 2, dtype=torch.int64), "q must be a floating-point tensor .* torch.int64"),
        ([[1.0]], "q must be a floating-point tensor .* not list"),
        (torch.zeros(1, 1, 4, 2), r"one shape: k is \[1, 1, 3, 2\], not \[1, 1, 4, 2\]"),
        (torch.zeros(1, 1, 3, 2).double(), "one dtype: k is torch.float32, not torch.float64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(q, message):
    _, k, v = tensors(1, 1, 3, 2)
    with pytest.raises(ValueError, match=message):
        PLAIN(q, k, v)


@pytest.mark.parametrize(
    "key_mask",
    [
        torch.ones(3, dtype=torch.bool),
        torch.ones(2, 4, dtype=torch.bool),
        torch.ones(1, 3, dtype=torch.bool),  # it would broadcast
        torch.ones(2, 3),
        torch.ones(2, 3, dtype=torch.int64),
        [[True] * 3] * 2,
    ],
)
def test_a_mask_of_another_shape_or_type_is_refused(key_mask):
    with pytest.raises(
        ValueError, match=r"key_mask must be bool \[B, S\] = \[2, 3\], True = real token, not"
    ):
        PLAIN(*tensors(2, 1, 3, 2), key_mask=key_mask)


@pytest.mark.parametrize("dropout_p", [-0.1, 1.0, 2.0, float("nan")])
def test_a_dropout_outside_its_range_is_refused(dropout_p):
    with pytest.raises(ValueError, match="dropout_p must be at least 0 and below 1"):
        PLAIN(*tensors(1, 1, 3, 2), dropout_p=dropout_p)


def test_without_triton_its_backend_says_what_to_use_instead(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="use backend='torch'"):
        compile_attention(presets.get("bert/1"), backend="triton")


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="must be 'auto', 'torch' or 'triton', not 'cuda'"):
        compile_attention(presets.get("bert/1"), backend="cuda")


FORMULAS = (
    "softmax(scale(Q @ K.T)) @ V",
    "(Q @ K.T) @ V",
    "softmax(-euclidean_distance(Q, K)) @ V",
    "softsign(cosine_similarity(Q, K)) @ logsigmoid(V)",
    "euclidean_distance(K, euclidean_distance(Q.T, V.T))",
    "V @ cosine_similarity(Q.T, K.T @ softmax(Q @ V.T)).T",
    "rms_norm(Q.T).T + rms_norm(K) + V",
)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize(
    "shape",
    [(0, 2, 3, 4), (0, 2, 600, 4), (2, 0, 3, 4), (2, 0, 600, 4), (2, 2, 0, 4), (2, 2, 3, 0), (2, 2, 600, 0)],
)
def test_empty_sizes_give_empty_results_and_gradients(formula, shape):
    graph = AttentionGraph.from_expression(formula)
    attention = compile_attention(graph)
    real = torch.ones(shape[0], shape[2], dtype=torch.bool)
    for key_mask in (None, real, ~real):
        inputs = dict(zip("QKV", (x.requires_grad_() for x in tensors(*shape).unbind()), strict=True))
        out = attention(*inputs.values(), key_mask=key_mask)
        assert out.shape == shape
        used = [inputs[name] for name in graph.inputs]
        assert [x.shape for x in torch.autograd.grad(out.sum(), used)] == [shape] * len(used)


@pytest.mark.parametrize("seq_len", [5, 520])
def test_a_sequence_of_padding_alone_gives_zeros_beside_others(seq_len):
    key_mask = torch.ones(2, seq_len, dtype=torch.bool)
    key_mask[1] = False
    for formula in FORMULAS:
        attention = compile_attention(AttentionGraph.from_expression(formula))
        inputs = torch.randn(3, 2, 2, seq_len, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
        out = attention(*inputs, key_mask=key_mask)
        (grad,) = torch.autograd.grad(out.sum(), inputs)
        assert (out[1] == 0).all(), formula
        assert (grad[:, 1] == 0).all(), formula
        assert torch.isfinite(grad).all(), formula


@pytest.mark.parametrize("shape", [(2, 2, 5, 4), (1, 1, 1, 1), (1, 1, 600, 4), (0, 2, 3, 4), (2, 2, 0, 4)])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "formula",
    [
        "Q",
        "Q.T.T",
        "--Q",
        "Q + sub(K, K)",
        "scale(Q)",
        "relu(Q)",
        "softsign(Q)",
        "sub(Q + K, K)",
        "softmax(Q @ K.T) @ V",
    ],
)
def test_a_result_is_part_of_no_argument(formula, masked, shape):
    attention = compile_attention(AttentionGraph.from_expression(formula))
    q, k, v = (1.0 + tensors(*shape)).unbind()
    key_mask = torch.ones(shape[0], shape[2], dtype=torch.bool) if masked else None
    out = attention(q, k, v, key_mask)
    memory = {x.untyped_storage().data_ptr() for x in (q, k, v)}
    assert out.numel() == 0 or out.untyped_storage().data_ptr() not in memory
    assert not any(out is x or out._base is x for x in (q, k, v))
    out.fill_(7.0)
    assert all((x == 1.0).all() for x in (q, k, v))
    assert key_mask is None or key_mask.all()
