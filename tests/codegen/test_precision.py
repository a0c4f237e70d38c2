"""Short floating-point types: as right as plain eager PyTorch, and never mixed up."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from codegen import compile_attention
from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, AttentionGraph, presets
from runtime.accuracy import allowed_errors, draw_inputs, judge, relative_errors
from runtime.eager import eager_function

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
GRAPHS = {
    name: presets.get(name)
    for name in (
        "bert/1",
        "autobert-zero/4",
        "autobert-zero/10",
        "linear-attention",
        "linear-cosine-attention",
    )
} | {
    "euclid": AttentionGraph.from_expression("softmax(-euclidean_distance(Q, K)) @ V"),
    "rms_norm over S": AttentionGraph.from_expression("rms_norm(Q.T).T + rms_norm(V)"),
    "column softmax": AttentionGraph.from_expression("softmax((scale(Q @ K.T)).T).T @ V"),
    "cosine of scores": AttentionGraph.from_expression("cosine_similarity(softsign(Q @ K.T), V.T)"),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_the_error_against_float64_is_a_few_roundings(name, dtype, draw, results, truth, errors):
    case = draw(1, 48, 16, [48, 20])
    rounded = {n: torch.tensor(x).to(dtype).double().numpy() for n, x in case.inputs.items()}
    grad = torch.tensor(case.grad).to(dtype).double().numpy()
    case = replace(case, inputs=rounded, grad=grad)
    found = errors(
        results(GRAPHS[name], case.padded_with(np.nan), dtype), truth(GRAPHS[name], case), case.real
    )
    # The project's bound of 16 roundings of the result's scale.
    assert max(found.values()) <= 16 * torch.finfo(dtype).eps, found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_random_graphs_keep_the_type_of_their_inputs(dtype, fresh_seed, draw):
    space = SearchSpace(operations=EXTENDED_OPERATIONS, min_nodes=1, max_nodes=14)
    rng = Random(fresh_seed)
    case = draw(2, 6, 4, [6, 4, 0])
    for _ in range(120):
        graph = random_graph(rng, space)
        tensors = [torch.tensor(case.inputs[name], dtype=dtype).requires_grad_() for name in "QKV"]
        where = f"OPNAS_TEST_SEED={fresh_seed}: {graph.equation()}"
        try:
            out = compile_attention(graph)(*tensors, key_mask=torch.tensor(case.key_mask))
            out.sum().backward()
        except RuntimeError as error:
            raise AssertionError(where) from error
        assert out.dtype == dtype, where
        assert (out[2] == 0).all(), where


@pytest.mark.parametrize("name", GRAPHS)
def test_autocast_gives_what_the_short_type_gives(name, draw, truth, errors):
    case = draw(3, 24, 8, [24, 11])
    inputs = [torch.tensor(case.inputs[n], dtype=torch.float32).requires_grad_() for n in "QKV"]
    with torch.autocast("cpu", torch.bfloat16):
        out = compile_attention(GRAPHS[name])(*inputs, key_mask=torch.tensor(case.key_mask))
    out.float().backward(torch.tensor(case.grad, dtype=torch.float32))
    found = {"out": out.detach().double().numpy()} | {
        n: x.grad.double().numpy() for n, x in zip("QKV", inputs, strict=True) if n in GRAPHS[name].inputs
    }
    # As above, and the inputs themselves are rounded to bfloat16 before every product.
    error = errors(found, truth(GRAPHS[name], case), case.real)
    assert max(error.values()) <= 16 * torch.finfo(torch.bfloat16).eps, error


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "text",
    [
        "cosine_similarity(Q, K) @ rms_norm(V)",
        # The inverse norms, each clamped at 1e6, must not be multiplied with each other in 16 bits.
        "sigmoid(cosine_similarity(relu(Q @ K.T), relu(K @ V.T))) @ V",
    ],
)
def test_rows_of_zeros_stay_finite_under_cosine_and_rms_norm(text, dtype):
    graph = AttentionGraph.from_expression(text)
    inputs = torch.zeros(3, 1, 2, 5, 4, dtype=dtype).requires_grad_()
    out = compile_attention(graph)(*inputs)
    out.sum().backward()
    assert (out == 0).all()
    # At a row of zeros the slope of its unit row is 1e6, which float16 does not hold.
    if dtype != torch.float16:
        assert torch.isfinite(inputs.grad).all()


def test_near_equal_rows_keep_their_distance_in_float32(draw, results, truth, errors):
    # |x|^2 + |y|^2 - 2 x.y would lose every digit here: the norms are 1e3, the distances 1e-2.
    case = draw(4, 40, 8)  # cdist takes a shortcut from 26 rows on, unless told not to
    near = {"Q": 400 + case.inputs["Q"], "K": 400 + case.inputs["Q"] + 3e-3 * case.inputs["K"]}
    rounded = {n: x.astype(np.float32).astype(np.float64) for n, x in (case.inputs | near).items()}
    case = replace(case, inputs=rounded)
    graph = AttentionGraph.from_expression("euclidean_distance(Q, K) @ V")
    found = errors(results(graph, case, torch.float32), truth(graph, case), case.real)
    assert found["out"] <= 16 * torch.finfo(torch.float32).eps, found


def test_distances_of_long_rows_keep_the_digits_of_eager_evaluation(fresh_seed):
    # Squares of 1e4 whose differences are 1e2: a norm that is rounded and squared again lost a digit here.
    graph = AttentionGraph.from_expression(
        "t1 = euclidean_distance(V, K); t2 = Q.T; t3 = cosine_similarity(t1, t2) + V; "
        "t4 = euclidean_distance(t2, t1); t5 = cosine_similarity(Q + t3, cosine_similarity(t4, t2)); "
        "t3 + t5 @ softsign(t4 @ scale(K))"
    )
    plain, compiled = eager_function(graph), compile_attention(graph, "torch")
    ratios = []
    for draw in range(7):
        inputs = draw_inputs(graph, (2, 1, 128, 64), torch.float32, True, fresh_seed + draw)
        truth = judge(graph, inputs)
        eager, found = (relative_errors(inputs.forward_backward(form), truth) for form in (plain, compiled))
        ratios.append(
            [mine / may for mine, may in zip(found, allowed_errors(eager, torch.float32), strict=True)]
        )
    # The project's bound, in the geometric mean of seven draws: two equally good forms differ by chance.
    assert np.exp(np.log(ratios).mean(0)).max() <= 1.0, ratios
