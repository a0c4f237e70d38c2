"""One graph of every class that the compiler treats in its own way, against the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from codegen import compile_attention
from graphir import EXTENDED_OPERATIONS, AttentionGraph

CLASSES = {
    "column softmax": "softmax((Q @ K.T).T).T @ V",
    "both softmaxes": "t = Q @ K.T; (softmax(t) + softmax(t.T).T) @ V",
    "softmax over S of D x S": "Q @ (softmax(K.T) @ V)",
    "softmax of D x D": "Q @ softmax(K.T @ V)",
    "two softmaxes in a row": "softmax(softmax(scale(Q @ K.T))) @ V",
    "chained softmaxes": "(softmax(Q @ K.T) @ softmax(K @ Q.T)) @ V",
    "softmax of a transposed softmax": "softmax(softmax(Q @ K.T).T) @ V",
    "softmax with two readers": "t = softmax(scale(Q @ K.T)); t @ V + t.T @ Q",
    "softmax of a mirrored sum": "t = Q @ K.T; softmax((t + t + t.T).T) @ V",
    "softmax of a symmetric sum": "t = Q @ Q.T; softmax((t + t.T).T) @ V",
    "negative scale": "softmax(-scale(Q @ K.T)) @ V",
    "bias in the scores": "softmax(scale(Q @ K.T) + logsigmoid(K @ V.T)) @ V",
    "product of S x S values": "(logsigmoid(Q @ K.T) @ softsign(K @ V.T)) @ V",
    "elementwise product of S x S values": "mul(softmax(Q @ K.T), logsigmoid(K @ V.T)) @ Q",
    "D x D intermediate": "softsign(Q @ logsigmoid(K.T @ V).T)",
    "long chain": "Q @ K.T @ V @ Q.T @ K @ V.T @ Q @ K.T @ V",
    "cosine over D": "softmax(cosine_similarity(Q, K)) @ V",
    "cosine over S": "Q @ cosine_similarity(K.T, V.T)",
    "cosine of S x S values": "cosine_similarity(Q @ K.T, softmax(K @ Q.T)) @ V",
    "cosine of a value with itself": "cosine_similarity(Q, Q) @ V",
    "cosine of mixed types": "cosine_similarity(Q @ K.T, V.T)",
    "euclid over D": "softmax(-euclidean_distance(Q, K)) @ V",
    "euclid over S": "Q @ euclidean_distance(K.T, softsign(V).T)",
    "euclid of a value with itself": "euclidean_distance(Q, Q) @ V",
    "euclid of S x S values": "euclidean_distance(Q @ K.T, K @ V.T) @ V",
    "euclid of mixed types, swapped": "euclidean_distance(K.T, Q @ K.T).T",
    # Below, neither operand is zero at padded positions: both logsigmoid and sigmoid are not zero at zero.
    "euclid over S, padding not zero": "Q @ euclidean_distance(logsigmoid(K).T, sigmoid(V).T)",
    "cosine over S, padding not zero": "Q @ cosine_similarity(logsigmoid(K).T, sigmoid(V).T)",
    "product over S, padding not zero": "Q @ (logsigmoid(K).T @ sigmoid(V))",
    "products of scores, padding not zero": "(logsigmoid(Q @ K.T) @ sigmoid(K @ V.T)) @ sigmoid(V)",
    "euclid of scores, padding not zero": "euclidean_distance(logsigmoid(Q @ K.T), sigmoid(K).T)",
    "rms_norm over S, padding not zero": "rms_norm(logsigmoid(Q).T).T @ softmax(rms_norm(sigmoid(K).T) @ V)",
    "rms_norm over D": "rms_norm(Q) + V",
    "rms_norm over S": "rms_norm(Q.T).T",
    "rms_norm of S x S": "rms_norm(logsigmoid(Q @ K.T)) @ V",
    "an input in both roles": "softmax(scale(Q @ Q.T)) @ Q",
    "sum with both factors": "t = Q + K; softmax(scale(t @ t.T)) @ t",
    "zero": "Q + -Q",
    "an input that cancels out": "Q + (K + -K)",
    "zero scores": "t = Q @ K.T; softmax(t + -t) @ V",
    "transposed zero scores": "t = Q @ K.T; softmax((t + -t).T) @ V",
    "zero factor": "Q @ (K.T @ (V + -V))",
    "zero state": "t = K.T @ V; Q @ softmax(t + -t)",
    "an input as the output": "Q",
    "an input transposed twice": "V.T.T",
    "only K": "--K",
    "scales and repeats": "scale(scale(Q + Q)) + scale(-Q)",
    "sub": "sub(softmax(sub(Q, K) @ K.T), Q @ K.T) @ V",
    "mul": "mul(mul(Q, K), Q)",
    "relu": "relu(scale(Q @ K.T)) @ V",
    "relu_squared": "relu_squared(scale(Q @ K.T)) @ V",
    "sigmoid": "sigmoid(scale(Q @ K.T)) @ V",
    "tanh": "tanh(Q).T.T + Q @ (tanh(K.T) @ V)",
    "exp": "exp(scale(Q @ K.T)) @ V",
    "exp of rows, columns and state": "exp(-abs(Q)) @ (exp(-abs(K)).T @ V) + V @ exp(scale(K.T @ V))",
    "abs": "abs(Q @ K.T).T @ V",
}
GRAPHS = {name: AttentionGraph.from_expression(text) for name, text in CLASSES.items()}

# Float64 rounding, amplified by the products of this list at most ten-thousandfold.
TOLERANCE = 1e-10


@pytest.fixture(params=CLASSES)
def graph(request):
    return GRAPHS[request.param]


def test_the_list_covers_every_operation():
    assert {node.op for graph in GRAPHS.values() for node in graph.nodes} == set(EXTENDED_OPERATIONS)


@pytest.mark.parametrize(("seq_len", "head_dim"), [(1, 1), (1, 8), (2, 3), (5, 1), (17, 8), (9, 24)])
def test_outputs_and_gradients_are_those_of_the_reference(graph, seq_len, head_dim, draw, assert_agrees):
    assert_agrees(graph, draw(1, seq_len, head_dim), TOLERANCE)
    assert_agrees(graph, draw(2, seq_len, head_dim, [seq_len, (seq_len + 1) // 2, 1, 0]), TOLERANCE)


def test_nothing_that_stands_in_the_padding_changes_a_bit(graph, draw, results):
    case = draw(4, 7, 4, [7, 3, 1, 0])
    expected = results(graph, case.padded_with(0.0))
    for value in (np.nan, np.inf, -1e300):
        found = results(graph, case.padded_with(value))
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{name}, padding {value}")


SMOOTH = {name: text for name, text in CLASSES.items() if "relu" not in text and "abs" not in text}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_finite_differences(name):
    graph = GRAPHS[name]
    attention = compile_attention(graph)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(3, 2, 1, 3, 2, dtype=torch.float64, generator=generator)
    inputs = [x.clone().requires_grad_("QKV"[n] in graph.inputs) for n, x in enumerate(drawn)]
    mask = torch.tensor([[True, False, True], [True, True, True]])
    for key_mask in (None, mask):
        # fast_mode would miss single wrong entries.
        assert torch.autograd.gradcheck(lambda q, k, v, m=key_mask: attention(q, k, v, m), inputs)


@pytest.mark.parametrize(
    "text",
    [
        # At padded rows the distance is the whole norm, about 1700, and its exponential infinite.
        "exp(euclidean_distance(Q, K)).T @ V",
        # At zero, five exponentials overflow; below -5 they do not.
        "V @ (exp(exp(exp(exp(exp(Q))))).T @ V)",
    ],
)
def test_what_overflows_only_in_the_padding_does_no_harm(text, draw, assert_agrees):
    case = draw(6, 6, 3, [4, 2])
    near = (np.abs(case.inputs["Q"]) + (1000 if "euclid" in text else 5)) * -1
    inputs = {"Q": near, "K": near + 1e-2 * case.inputs["K"], "V": case.inputs["V"]}
    # exp of a distance that is right to 1e-13 (norms of 1700, 16 digits), in sums that cancel.
    assert_agrees(AttentionGraph.from_expression(text), replace(case, inputs=inputs), 1e-7)


def test_repeated_squaring_neither_hangs_nor_writes_endless_numbers(draw, assert_agrees):
    # The factor doubles its exponent at every step: 2 ** (2 ** 40) has no digits to print.
    steps = "".join(f"t{n + 1} = softsign(t0) @ t{n} @ t{n}; " for n in range(3))
    text = f"t0 = scale(Q.T @ Q + Q.T @ Q); {steps} Q @ t3"
    assert_agrees(AttentionGraph.from_expression(text), draw(7, 4, 3), TOLERANCE)
    squares = "".join(f"t{n + 1} = t{n} @ t{n}; " for n in range(40))
    attention = compile_attention(
        AttentionGraph.from_expression(f"t0 = Q.T @ Q + Q.T @ Q; {squares} Q @ t40")
    )
    # The function itself, behind the small functions that it shares with others.
    assert len(attention.source.partition("\ndef attention(")[2]) < 10_000


def test_sixty_doublings_are_right(draw, assert_agrees):
    doublings = "".join(f"t{n + 1} = t{n} + t{n}; " for n in range(60))
    graph = AttentionGraph.from_expression(f"t0 = Q + Q; {doublings} t60")
    assert_agrees(graph, draw(8, 3, 2), 1e-12)  # powers of two are exact


def test_every_input_of_the_graph_gets_a_gradient_even_where_it_cancels_out(draw, results):
    graph = AttentionGraph.from_expression("Q + (K + -K)")
    gradients = results(graph, draw(9, 3, 2))
    assert (gradients["K"] == 0).all()
