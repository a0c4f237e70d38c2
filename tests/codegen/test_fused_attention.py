"""Where `scaled_dot_product_attention` is called, and where it must not be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from codegen import compile_attention
from graphir import AttentionGraph, AttentionLayer, presets

CALL = " = _attend("
"""The generated helper that calls it; it is written only where it is used."""


@pytest.mark.parametrize("backbone", ["autobert-zero", "bert"])
def test_every_attention_of_the_known_backbones_is_one_fused_call(backbone):
    for layer in presets.get(backbone).layers:
        if isinstance(layer, AttentionLayer):
            attention = compile_attention(layer.graph)
            assert attention.source.count(CALL) == 1
            assert "scaled_dot_product_attention(" in attention.source
            assert (attention.plan.fused_calls, attention.plan.quadratic_values) == (1, 0)
            assert attention.plan.tier == "1"


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("(softmax(scale(Q @ K.T)) @ softmax(scale(K @ Q.T))) @ V", 2),
        ("(V.T @ softmax(scale(K @ Q.T).T).T).T", 1),
        ("softsign(softmax(scale(Q @ K.T)) @ V) + logsigmoid(Q)", 1),
        ("(softmax(Q @ K.T) @ V) @ (K.T @ V)", 1),
        ("softmax(Q @ ((K.T @ V) @ K.T)) @ V", 1),
        ("scale(-softmax(-scale(scale(Q @ K.T)))) @ V", 1),
        ("softmax(cosine_similarity(Q, K)) @ V", 1),
        ("softmax(scale(Q @ Q.T)) @ Q", 1),
        ("t = softmax(Q @ K.T) @ V; softmax(t @ K.T) @ t", 2),
        # the scores have a second reader: they are computed again inside of the call
        ("t = Q @ K.T; softmax(t) @ V + softsign(t) @ K", 1),
    ],
)
def test_it_is_found_wherever_it_stands(text, calls, draw, assert_agrees):
    graph = AttentionGraph.from_expression(text)
    attention = compile_attention(graph)
    assert attention.source.count(CALL) == attention.plan.fused_calls == calls, attention.source
    assert_agrees(graph, draw(1, 9, 4, [9, 5, 0]), 1e-10)


@pytest.mark.parametrize(
    "text",
    [
        "t = softmax(scale(Q @ K.T)); t @ V + t.T @ Q",  # two readers
        "t = softmax(scale(Q @ K.T)); mul(t, t) @ V",
        "softmax((Q @ K.T).T).T @ V",  # over the queries
        "softmax(Q @ K.T).T @ V",  # the sum runs over the queries
        "softmax(Q @ K.T + K @ Q.T) @ V",  # a sum of products
        "softmax(logsigmoid(Q @ K.T)) @ V",
        "softmax(softmax(Q @ K.T)) @ V",
        "Q @ softmax(K.T @ V)",  # D x D
        "softmax(Q) @ (softmax(K.T) @ V)",
    ],
)
def test_it_is_not_used_where_the_softmax_is_another_or_is_needed_elsewhere(text, draw, assert_agrees):
    graph = AttentionGraph.from_expression(text)
    attention = compile_attention(graph)
    assert CALL not in attention.source
    assert "scaled_dot_product_attention" not in attention.source
    assert attention.plan.fused_calls == 0
    assert_agrees(graph, draw(2, 9, 4, [9, 5, 0]), 1e-10)


def test_a_negative_scale_moves_into_the_keys():
    # Fused kernels may take the maximum of the scores before they scale them.
    for text in ("softmax(-scale(Q @ K.T)) @ V", "softmax(scale(Q @ -K.T)) @ V"):
        source = compile_attention(AttentionGraph.from_expression(text)).source
        assert "key = -k\n" in source
        assert CALL + "q, key, v, key_mask, dropout_p)" in source


def test_the_scale_of_the_call_is_written_out_only_where_it_is_not_the_default():
    plain = compile_attention(AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")).source
    bare = compile_attention(AttentionGraph.from_expression("softmax(Q @ K.T) @ V")).source
    assert CALL + "q, k, v, key_mask, dropout_p)" in plain
    assert CALL + "q, k, v, key_mask, dropout_p, scale=1.0)" in bare


@pytest.mark.parametrize("padding", ["at the end", "anywhere", "at the start"])
def test_long_sequences_are_right_whether_they_are_cut_or_masked(padding, draw, assert_agrees):
    # From 128 tokens on, sequences that end in padding are cut to their real tokens.
    case = draw(3, 515, 8, [515, 300, 1, 0])
    if padding != "anywhere":
        # A stable sort of real before padded, or the other way round.
        key_mask = np.sort(case.key_mask, axis=1)
        case = replace(case, key_mask=key_mask[:, ::-1].copy() if padding == "at the end" else key_mask)
    for name in ("autobert-zero/4", "autobert-zero/12"):
        assert_agrees(presets.get(name), case, 1e-10)


def test_cutting_takes_no_mask_and_other_paddings_take_one(monkeypatch, draw):
    seen = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, value, attn_mask=None, **options):
        seen.append((query.shape[-2], attn_mask is not None))
        return fused(query, key, value, attn_mask=attn_mask, **options)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", spy)
    attention = compile_attention(presets.get("bert/1"))
    q, k, v = torch.randn(3, 2, 1, 600, 4).unbind()
    key_mask = torch.ones(2, 600, dtype=torch.bool)
    key_mask[1, 450:] = False
    attention(q, k, v, key_mask)
    attention(q, k, v, key_mask.flip(1))
    attention(*(x[:, :, 360:480] for x in (q, k, v)), key_mask[:, 360:480])
    assert seen == [(600, False), (450, False), (600, True), (120, True)]
