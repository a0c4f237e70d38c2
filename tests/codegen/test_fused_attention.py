"""Where `scaled_dot_product_attention` is called, and where it must not be."""

from __future__ import annotations

import pytest

from codegen import compile_attention
from graphir import AttentionGraph, AttentionLayer, presets

CALL = "F.scaled_dot_product_attention("


@pytest.mark.parametrize("backbone", ["autobert-zero", "bert"])
def test_every_attention_of_the_known_backbones_is_one_fused_call(backbone):
    for layer in presets.get(backbone).layers:
        if isinstance(layer, AttentionLayer):
            attention = compile_attention(layer.graph)
            assert attention.source.count(CALL) == 1
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
    assert attention.plan.fused_calls == 0
    assert_agrees(graph, draw(2, 9, 4, [9, 5, 0]), 1e-10)


def test_a_negative_scale_moves_into_the_keys():
    # Fused kernels may take the maximum of the scores before they scale them.
    for text in ("softmax(-scale(Q @ K.T)) @ V", "softmax(scale(Q @ -K.T)) @ V"):
        source = compile_attention(AttentionGraph.from_expression(text)).source
        assert "key = -k\n" in source
        assert CALL + "q, key, v, attn_mask=columns, dropout_p=dropout_p)" in source


def test_the_scale_of_the_call_is_written_out_only_where_it_is_not_the_default():
    plain = compile_attention(AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")).source
    bare = compile_attention(AttentionGraph.from_expression("softmax(Q @ K.T) @ V")).source
    assert "scale=" not in plain
    assert "scale=1.0" in bare
