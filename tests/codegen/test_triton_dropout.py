"""Attention dropout in kernels: the right share, one mask for forward and backward, a gradient that is one."""

from __future__ import annotations

import pytest
import torch

from codegen import compile_attention
from graphir import AttentionGraph

SIZE = 24  # V is the unit matrix: what comes out are the weights themselves
TEXTS = {
    "row softmax": "softmax(scale(Q @ K.T)) @ V",
    "nonlinear": "relu(softmax(scale(Q @ K.T))) @ V",
    "column softmax": "softmax(scale(Q @ K.T).T).T @ V",
    "softmax over S of a D x S value": "Q @ (softmax(K.T) @ V)",
    "one softmax written twice": "softmax(scale(Q) @ K.T) @ softmax(scale(K @ Q.T).T) @ V",
    "two softmaxes": "softmax(scale(Q @ K.T)) @ softmax(Q @ K.T) @ V",
}


def attention_of(name):
    return compile_attention(AttentionGraph.from_expression(TEXTS[name]), backend="triton")


def draw(seed, batch=4, heads=4):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, batch, heads, SIZE, SIZE, generator=generator)
    return q, k, torch.eye(SIZE).expand(batch, heads, SIZE, SIZE)


@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["row softmax", "nonlinear", "column softmax"])
def test_weights_are_dropped_with_the_probability_and_scaled_up(name, dropout_p, fresh_seed):
    attention = attention_of(name)
    torch.manual_seed(fresh_seed)
    inputs = draw(fresh_seed)
    weights, dropped = attention(*inputs), attention(*inputs, dropout_p=dropout_p)
    kept = dropped != 0
    # 9,216 draws: six standard deviations.
    allowed = 6 * (dropout_p * (1 - dropout_p) / kept.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - dropout_p)) <= allowed
    # Rounding of float32, a few operations.
    torch.testing.assert_close(dropped[kept], (weights / (1 - dropout_p))[kept], rtol=1e-5, atol=1e-7)


def test_rows_columns_heads_and_softmaxes_have_masks_of_their_own():
    torch.manual_seed(0)
    q = torch.zeros(2, 3, SIZE, SIZE)
    eye = torch.eye(SIZE).expand_as(q)
    kept = (attention_of("row softmax")(q, q, eye, dropout_p=0.5) != 0).flatten(0, 1)
    # Two independent masks of 576 entries agree in half of them, plus or minus 12: six deviations.
    agreement = [(kept[a] == kept[b]).sum().item() for a in range(6) for b in range(a)]
    agreement += [(kept[a] == kept[a].T).sum().item() - SIZE // 2 for a in range(6)]
    assert all(abs(count - 288) <= 6 * 17 for count in agreement), agreement
    two = AttentionGraph.from_expression("(softmax(Q @ K.T) + softmax(scale(Q @ K.T))) @ V")
    both = compile_attention(two, backend="triton")(q, q, eye, dropout_p=0.5) * SIZE
    # Each of two equal weights is kept or not: sums of 0, 2 and 4, the middle one from disagreeing masks.
    assert set(both.round().unique().tolist()) == {0.0, 2.0, 4.0}


@pytest.mark.long
def test_equal_softmaxes_share_one_mask_and_different_ones_do_not(fresh_seed):
    # The first softmax of a graph draws the same field in every graph.
    q, k, eye = draw(fresh_seed)

    def dropped(name):
        torch.manual_seed(fresh_seed)
        return attention_of(name)(q, k, eye, dropout_p=0.5)

    weights = dropped("row softmax")
    other = torch.where(weights != 0, 2 * torch.softmax(q @ k.mT, -1), 0.0)
    # Products of float32, of 24 terms.
    torch.testing.assert_close(dropped("one softmax written twice"), weights @ weights, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(dropped("two softmaxes"), weights @ other, rtol=1e-2)


@pytest.mark.parametrize("name", TEXTS)
def test_the_gradient_is_that_of_finite_differences_with_the_same_seed(name, fresh_seed):
    attention = attention_of(name)
    generator = torch.Generator().manual_seed(fresh_seed)
    inputs = torch.randn(3, 2, 2, 21, 8, generator=generator).unbind()
    direction = torch.randn(3, 2, 2, 21, 8, generator=generator).unbind()
    probe = torch.randn(2, 2, 21, 8, generator=generator)

    def loss(step):
        torch.manual_seed(fresh_seed)
        moved = [x + step * d for x, d in zip(inputs, direction, strict=True)]
        return (attention(*moved, dropout_p=0.4).double() * probe).sum()

    leaves = [x.clone().requires_grad_() for x in inputs]
    torch.manual_seed(fresh_seed)
    (attention(*leaves, dropout_p=0.4) * probe).sum().backward()
    moves = [x.grad.double() * d for x, d in zip(leaves, direction, strict=True)]
    slope, scale = sum(x.sum() for x in moves), sum(x.abs().sum() for x in moves)
    # Central differences of fourth order; float32 rounding of the loss over the step is about 1e-4 of the scale.
    h = 1e-2
    found = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert abs(found - slope) <= 2e-3 * scale, (found, slope, scale)


def test_padding_stays_out_and_another_seed_gives_another_mask(fresh_seed):
    attention = attention_of("row softmax")
    q, k, v = draw(fresh_seed)
    key_mask = (torch.arange(SIZE) < 9).expand(4, SIZE)
    torch.manual_seed(fresh_seed)
    first = attention(q, k, v, key_mask, dropout_p=0.5)
    assert (first[:, :, 9:] == 0).all()
    assert (first[:, :, :, 9:] == 0).all()
    assert not torch.equal(first, attention(q, k, v, key_mask, dropout_p=0.5))
    torch.manual_seed(fresh_seed)
    assert torch.equal(first, attention(q, k, v, key_mask, dropout_p=0.5))
    state = torch.get_rng_state()
    attention(q, k, v, key_mask)
    assert torch.equal(state, torch.get_rng_state())
