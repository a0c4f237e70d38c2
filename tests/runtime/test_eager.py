"""Plain eager evaluation against the float64 reference, whose arithmetic it shares nothing with."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, OPERATIONS, AttentionGraph, presets, reference
from runtime.eager import RULES, eager_function, evaluate_eager

GRAPHS = [name for name in presets.names() if isinstance(presets.get(name), AttentionGraph)]

# exp of exp has entries of more digits than float64 keeps; exp stands in the formulas below.
OPERATIONS_TO_DRAW = tuple(name for name in EXTENDED_OPERATIONS if name != "exp")

# One formula for each way in which a sum, norm or softmax can run over the S axis.
OVER_TOKENS = (
    "softmax(Q) @ (softmax(K.T) @ V)",
    "softmax(K.T).T + Q",
    "softmax(Q @ K.T).T @ V",
    "(logsigmoid(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V",
    "logsigmoid(V @ logsigmoid(K).T) @ exp(Q)",
    "Q @ (exp(K.T) @ exp(V))",
    "cosine_similarity(Q, cosine_similarity(logsigmoid(K.T), exp(V.T)))",
    "cosine_similarity(Q @ K.T, exp(V.T))",
    "euclidean_distance(Q, K) @ V",
    "euclidean_distance(Q, euclidean_distance(logsigmoid(K.T), V.T))",
    "euclidean_distance(Q, Q) @ V",
    "rms_norm(logsigmoid(K.T)).T + V",
    "rms_norm(sigmoid(Q @ K.T)) @ V",
    "rms_norm(Q)",
)


def _inputs(seed: int, batch: int = 3, heads: int = 2, seq_len: int = 9, head_dim: int = 5):
    """Inputs with NaN at padded positions; one sequence is whole, one is cut, one has no real token."""
    rng = np.random.default_rng(seed)
    arrays = rng.standard_normal((4, batch, heads, seq_len, head_dim))
    mask = np.arange(seq_len) < np.array([seq_len, rng.integers(1, seq_len), 0])[:batch, None]
    poisoned = np.where(mask[:, None, :, None], arrays[:3], np.nan)
    return poisoned, arrays[3], mask


def _assert_agrees(graph: AttentionGraph, seed: int, masked: bool) -> None:
    arrays, grad, mask = _inputs(seed)
    if not masked:
        arrays, mask = np.nan_to_num(arrays), None
    expected = reference.evaluate(graph, *arrays, mask)
    expected_grads = reference.gradients(graph, grad, *arrays, mask)

    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in zip("QKV", arrays, strict=True)}
    used = [tensors[name] for name in graph.inputs]
    out = evaluate_eager(graph, *tensors.values(), None if mask is None else torch.tensor(mask))
    grads = torch.autograd.grad(out, used, torch.tensor(grad))

    where = f"{graph.equation()}, seed {seed}, {'masked' if masked else 'no mask'}"
    for name, found, wanted in [("out", out, expected)] + [
        (name, found, expected_grads[name]) for name, found in zip(graph.inputs, grads, strict=True)
    ]:
        # Both are float64: what is left is rounding, on the scale of the largest entry.
        bound = 1e-10 * max(1.0, np.abs(wanted).max())
        error = np.abs(found.detach().numpy() - wanted).max()
        assert error <= bound, f"{where}: {name} is off by {error:.2e}, allowed {bound:.2e}"


def test_every_operation_of_the_table_has_a_rule_and_no_other():
    assert set(RULES) == set(OPERATIONS)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_presets_agree_with_the_reference_in_values_and_gradients(name, masked):
    _assert_agrees(presets.get(name), seed=len(name), masked=masked)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("formula", OVER_TOKENS)
def test_sums_over_tokens_leave_padding_out(formula, masked):
    _assert_agrees(AttentionGraph.from_expression(formula), seed=len(formula), masked=masked)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_agree_with_the_reference(seed):
    graph = random_graph(Random(seed), SearchSpace(operations=OPERATIONS_TO_DRAW))
    _assert_agrees(graph, seed, masked=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bert/1", "linear-cosine-attention"])
def test_half_precision_stays_close_to_the_reference(name, dtype):
    graph = presets.get(name)
    arrays, _, mask = _inputs(seed=5)
    out = evaluate_eager(graph, *torch.tensor(arrays, dtype=dtype), torch.tensor(mask))
    expected = reference.evaluate(graph, *np.nan_to_num(arrays), mask)
    assert out.dtype == dtype
    # A few roundings of the inputs and of each result; sums run over 9 terms at most.
    assert (
        np.abs(out.double().numpy() - expected).max() <= 16 * torch.finfo(dtype).eps * np.abs(expected).max()
    )


def test_distances_in_half_precision_keep_their_type():
    graph = AttentionGraph.from_expression("euclidean_distance(Q, K) @ V")
    q, k, v = torch.randn(3, 1, 1, 6, 4, dtype=torch.bfloat16)
    assert evaluate_eager(graph, q, k, v).dtype == torch.bfloat16


def test_an_unused_input_may_be_none_and_a_used_one_may_not():
    graph = presets.get("autobert-zero/6")  # of Q and K
    q, k = torch.randn(2, 1, 1, 4, 3)
    assert evaluate_eager(graph, q, k, None).shape == q.shape
    with pytest.raises(ValueError, match="uses K"):
        evaluate_eager(graph, q, None, None)


@pytest.mark.parametrize("formula", [presets.get(name).equation() for name in GRAPHS[-3:]] + [*OVER_TOKENS])
def test_torch_compile_takes_the_function_whole(formula):
    # The "eager" backend of torch.compile runs what was captured: it checks the capture without a compiler.
    torch.compiler.reset()
    graph = AttentionGraph.from_expression(formula)
    arrays, _, mask = _inputs(seed=3)
    q, k, v = torch.tensor(arrays)
    captured = torch.compile(eager_function(graph), backend="eager", fullgraph=True, dynamic=False)
    found = captured(q, k, v, torch.tensor(mask))
    torch.testing.assert_close(found, evaluate_eager(graph, q, k, v, torch.tensor(mask)), rtol=0, atol=1e-12)
