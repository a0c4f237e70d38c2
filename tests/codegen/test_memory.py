"""Which tensors a compiled graph creates: none with two S axes in tier L, those of the plan elsewhere."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from codegen import compile_attention
from evolution import SearchSpace, random_graph
from graphir import PAPER_OPERATIONS, AttentionGraph, presets

SEQ_LEN, HEAD_DIM, HEADS, BATCH = 41, 5, 2, 3  # no other axis is as long as S


class QuadraticTensors(TorchDispatchMode):
    """Counts the S x S tensors that operations allocate; views of one do not count again."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and list(leaf.shape).count(SEQ_LEN) >= 2:
                # Kept alive, so that no storage is used twice.
                self.storages[leaf.untyped_storage()._cdata] = leaf
        return result


def quadratic_tensors(graph, masked, backward):
    """How many S x S tensors a run of the compiled graph creates."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, BATCH, HEADS, SEQ_LEN, HEAD_DIM)
    inputs = torch.randn(shape, generator=generator).requires_grad_()
    key_mask = torch.arange(SEQ_LEN) < torch.tensor([[SEQ_LEN], [7], [20]]) if masked else None
    attention = compile_attention(graph)
    with QuadraticTensors() as seen:
        out = attention(*inputs, key_mask=key_mask)
        if backward:
            out.sum().backward()
    return len(seen.storages)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["linear-attention", "linear-cosine-attention"])
def test_the_linear_presets_create_nothing_quadratic_forward_or_backward(name, masked):
    graph = presets.get(name)
    plan = compile_attention(graph).plan
    assert (plan.tier, plan.quadratic_values) == ("L", 0)
    assert quadratic_tensors(graph, masked, backward=True) == 0


@pytest.mark.parametrize(
    "text",
    [
        "Q @ K.T @ V",
        "(V.T @ (K @ Q.T)).T",
        "cosine_similarity(Q, K) @ V",
        "(Q @ K.T) @ softsign(V @ (K.T @ V))",
        "(Q @ K.T) @ (K @ V.T) @ (Q @ K.T) @ V",
        "cosine_similarity(Q @ K.T, V @ K.T) @ Q.T.T",
        "rms_norm(Q @ K.T) @ V",
    ],
)
def test_products_without_a_nonlinearity_between_become_linear_in_s(text):
    graph = AttentionGraph.from_expression(text)
    assert compile_attention(graph).plan.tier == "L", compile_attention(graph).source
    assert quadratic_tensors(graph, masked=True, backward=True) == 0


def test_random_graphs_of_tier_l_create_nothing_quadratic(fresh_seed):
    space = SearchSpace(operations=PAPER_OPERATIONS, min_nodes=3, max_nodes=14)
    rng = Random(fresh_seed)
    checked = 0
    while checked < 60:
        graph = random_graph(rng, space)
        quadratic = [value_type for value_type in graph.types.values() if value_type == ("S", "S")]
        if not quadratic or compile_attention(graph).plan.tier != "L":
            continue
        checked += 1
        where = f"OPNAS_TEST_SEED={fresh_seed}: {graph.equation()}"
        assert quadratic_tensors(graph, checked % 2 == 0, backward=True) == 0, where


def test_random_graphs_store_at_least_what_the_plan_says_and_nothing_where_it_says_nothing(fresh_seed):
    space = SearchSpace(operations=PAPER_OPERATIONS, min_nodes=3, max_nodes=14)
    rng = Random(fresh_seed)
    for _ in range(150):
        graph = random_graph(rng, space)
        planned = compile_attention(graph).plan.quadratic_values
        seen = quadratic_tensors(graph, masked=False, backward=False)
        # A sum of several terms is one planned value and several temporary ones.
        where = f"OPNAS_TEST_SEED={fresh_seed}: {graph.equation()}"
        assert seen >= planned, where
        assert (seen == 0) == (planned == 0), where


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("softmax(scale(Q @ K.T)) @ V", 0),
        ("softmax(Q @ K.T + K @ V.T) @ V", 4),  # two products, their sum, the softmax
        ("softmax(Q @ K.T + K @ Q.T) @ V", 3),  # one product, read in both ways
        ("softmax(softmax(Q @ K.T)) @ V", 3),
        ("(tanh(Q @ K.T) @ relu(K @ V.T)) @ V", 4),
        ("euclidean_distance(Q, K) @ V", 1),
        ("softmax(-euclidean_distance(Q, K)) @ V", 3),
    ],
)
def test_the_plan_counts_the_stored_values(text, stored):
    graph = AttentionGraph.from_expression(text)
    plan = compile_attention(graph).plan
    assert plan.quadratic_values == stored, plan
    assert quadratic_tensors(graph, masked=False, backward=False) == stored


def test_flops_and_bytes_of_the_plan_are_those_counted_by_hand():
    s, d = 100, 8
    linear = compile_attention(AttentionGraph.from_expression("Q @ K.T @ V")).plan
    assert linear.flops(s, d, heads=3, batch=2) == 2 * 6 * (s * d * d + s * d * d)
    # state = K^T V reads two S x D and writes D x D; then Q and the state are read, S x D written.
    assert linear.bytes_moved(s, d, element_size=2) == 2 * (3 * s * d + d * d + s * d + d * d)
    plain = compile_attention(presets.get("bert/1")).plan
    assert plain.flops(s, d) == 2 * (2 * s * s * d)
    assert plain.bytes_moved(s, d) == 4 * (4 * s * d)
