"""Attention dropout: on the softmaxes over S and nowhere else, with the right mean."""

from __future__ import annotations

import pytest
import torch

from codegen import compile_attention
from graphir import AttentionGraph

SIZE = 24  # V is the unit matrix: what comes out are the weights themselves
TEXTS = {
    "fused": "softmax(scale(Q @ K.T)) @ V",
    "explicit": "relu(softmax(scale(Q @ K.T))) @ V",
    "column": "softmax(scale(Q @ K.T).T).T @ V",
}


ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Of a few operations, relative."""


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def inputs(request):
    """In float64 the generated code leaves dropout to PyTorch, in float32 on a CPU it draws by itself."""
    torch.manual_seed(5)
    q, k = torch.randn(2, 20, 4, SIZE, SIZE, dtype=request.param)
    return q, k, torch.eye(SIZE, dtype=request.param).expand(20, 4, SIZE, SIZE)


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", TEXTS)
def test_weights_are_dropped_with_the_probability_and_scaled_up(name, dropout_p, inputs):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS[name]))
    assert attention.plan.fused_calls == (name == "fused")
    weights = attention(*inputs)
    dropped = attention(*inputs, dropout_p=dropout_p)
    kept = dropped != 0
    # 46,080 draws: five standard deviations.
    allowed = 5 * (dropout_p * (1 - dropout_p) / kept.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - dropout_p)) <= allowed
    # In float32, the probability is rounded to 16 bits.
    off = 2**-17 / (1 - dropout_p) if dropped.dtype == torch.float32 else 0.0
    scaled = (weights / (1 - dropout_p))[kept]
    torch.testing.assert_close(dropped[kept], scaled, rtol=ROUNDING[dropped.dtype] + off, atol=0)


@pytest.mark.parametrize("name", TEXTS)
def test_the_mean_over_many_draws_is_the_result_without_dropout(name, inputs):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS[name]))
    small = [x[:1] for x in inputs]
    weights = attention(*small)
    mean = sum(attention(*small, dropout_p=0.25) for _ in range(400)) / 400
    # A weight w has the variance w^2 p / (1 - p) in one draw; six deviations of the mean of 400, 2,304 weights.
    allowed = 6 * weights * (0.25 / 0.75 / 400) ** 0.5
    assert ((mean - weights).abs() <= allowed).all()


@pytest.mark.parametrize("name", TEXTS)
def test_dropout_draws_from_the_global_generator(name, inputs):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS[name]))
    torch.manual_seed(1)
    first = attention(*inputs, dropout_p=0.5)
    second = attention(*inputs, dropout_p=0.5)
    torch.manual_seed(1)
    assert torch.equal(attention(*inputs, dropout_p=0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", TEXTS)
def test_no_dropout_is_exact_and_draws_nothing(name, inputs):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS[name]))
    state = torch.get_rng_state()
    assert torch.equal(attention(*inputs, dropout_p=0.0), attention(*inputs))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_softmax_over_d_is_not_dropped(inputs):
    attention = compile_attention(AttentionGraph.from_expression("softmax(Q) + Q @ softmax(K.T @ V)"))
    assert torch.equal(attention(*inputs, dropout_p=0.9), attention(*inputs))


@pytest.mark.parametrize("name", TEXTS)
def test_dropped_weights_pass_no_gradient_and_padding_stays_out(name, inputs):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS[name]))
    key_mask = torch.arange(SIZE) < 9
    q, k, v = (x[:1].clone().requires_grad_() for x in inputs)
    out = attention(q, k, v, key_mask=key_mask[None], dropout_p=0.5)
    out.sum().backward()
    assert (out[:, :, 9:] == 0).all()
    assert (out[:, :, :, 9:] == 0).all()  # columns of V's unit matrix: weights of padded keys
    # The gradient of V's row j is the sum of its column of weights: those of real queries that were kept.
    tolerance = ROUNDING[v.dtype]
    torch.testing.assert_close(v.grad.sum(-1) / SIZE, out.detach().sum(-2), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dropout_p", [2**-17, 1e-9, 1 - 2**-17, 1 - 1e-9])
def test_probabilities_near_zero_and_one_leave_finite_numbers(dropout_p):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS["explicit"]))
    q, k, v = torch.randn(3, 1, 1, 5, 3)
    assert attention(q, k, v, dropout_p=dropout_p).isfinite().all()


@pytest.mark.parametrize("seq_len", [0, 1, 3])
def test_lengths_that_no_whole_draw_fills_will_do(seq_len):
    attention = compile_attention(AttentionGraph.from_expression(TEXTS["fused"]))
    assert attention(*torch.randn(3, 1, 1, seq_len, 3), dropout_p=0.1).shape == (1, 1, seq_len, 3)
