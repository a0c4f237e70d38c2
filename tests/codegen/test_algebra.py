"""The expression form: it means what the graph means, equal values are one node, orders are the cheapest."""

from __future__ import annotations

from functools import cache
from random import Random

import numpy as np
import pytest

from codegen.algebra import Builder
from codegen.contraction_order import order_contractions
from codegen.derive import derive
from codegen.expr import Contraction, Pointwise, is_matrix_product, show, summed_axes, topological
from codegen.lower import lower
from codegen.torch_steps import softmax_step
from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, AttentionGraph, reference
from tests.codegen.dense import evaluate_dense


def lowered(text, builder=None):
    return lower(AttentionGraph.from_expression(text), builder or Builder())


@pytest.mark.parametrize("part", range(2))
def test_lowered_and_ordered_expressions_mean_what_the_graph_means(part, fresh_seed):
    operations = tuple(name for name in EXTENDED_OPERATIONS if name != "exp")  # it overflows
    space = SearchSpace(operations=operations, min_nodes=1, max_nodes=12)
    rng = Random(f"{fresh_seed}/{part}")
    for _ in range(150):
        graph = random_graph(rng, space)
        draw = np.random.default_rng(rng.getrandbits(32))
        inputs = dict(
            zip("QKV", draw.standard_normal((3, rng.randint(1, 6), rng.randint(1, 6))), strict=True)
        )
        expected, moved = (
            reference.evaluate(graph, *(x[None, None] * factor for x in inputs.values()))[0, 0]
            for factor in (1.0, 1.0 + 1e-13)
        )
        scale = max(1.0, np.abs(expected).max())
        # Reordered float64 sums; more where the graph itself amplifies a rounding error of its inputs.
        allowed = 1e-9 * scale + 100 * np.abs(moved - expected).max()
        builder = Builder()
        root = lower(graph, builder)
        for form in (root, order_contractions(root, builder)):
            error = np.abs(evaluate_dense(form, inputs) - expected).max()
            assert error <= allowed, f"OPNAS_TEST_SEED={fresh_seed}: {graph.equation()}\n{show(form.node)}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Q @ K.T @ V", "(V.T @ (K @ Q.T)).T"),
        ("Q @ (K.T @ V)", "(Q @ K.T) @ V"),
        ("V @ (softsign(Q.T) @ K).T", "V @ (K.T @ softsign(Q))"),
        ("softmax(Q)", "softmax(Q.T.T)"),
        ("Q + K", "K + Q"),
        ("(Q + K) + V", "Q + (V + K)"),
        ("(Q.T + K.T).T", "Q + K"),
        ("--Q", "Q"),
        ("scale(Q) @ (-K.T @ V)", "-scale((Q @ K.T) @ V)"),
        ("scale(Q + Q)", "scale(Q) + scale(Q)"),
        ("sub(Q, K)", "Q + -K"),
        ("mul(Q, K)", "mul(K.T, Q.T).T"),
        ("relu_squared(Q)", "mul(relu(Q), relu(Q))"),
        ("euclidean_distance(Q, K) @ V", "euclidean_distance(K, Q).T @ V"),
        ("cosine_similarity(Q, K) @ V", "cosine_similarity(K, Q).T @ V"),
        ("Q + (K + -K)", "Q"),
    ],
)
def test_equal_values_are_one_node(one, other):
    builder = Builder()
    left, right = lowered(one, builder), lowered(other, builder)
    assert left == right, f"{show(left.node)}\n\n{show(right.node)}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Q @ K.T @ V", "K @ Q.T @ V"),
        ("softmax(Q)", "softmax(Q.T).T"),
        ("sub(Q, K)", "sub(K, Q)"),
        ("Q + Q", "Q"),
        ("scale(Q)", "Q"),
        ("relu(-Q)", "-relu(Q)"),
        ("euclidean_distance(Q, K) @ V", "euclidean_distance(K, Q) @ V"),
    ],
)
def test_different_values_are_different_nodes(one, other):
    builder = Builder()
    assert lowered(one, builder) != lowered(other, builder)


def test_duplicated_and_transposed_subexpressions_are_computed_once():
    root = lowered("softsign(Q @ K.T) @ V + softsign(K @ Q.T).T @ V + (V.T @ softsign(Q @ K.T).T).T")
    nodes = topological(root.node)
    assert sum(isinstance(node, Pointwise) for node in nodes) == 1
    assert sum(isinstance(node, Contraction) for node in nodes) == 2


def test_a_pair_of_products_is_ordered_for_long_sequences():
    ordered = order_contractions(*with_builder("(Q @ K.T) @ V"))
    assert ("S", "S") not in {node.axes for node in topological(ordered.node)}
    kept = order_contractions(*with_builder("softsign(Q @ K.T) @ V"))
    assert ("S", "S") in {node.axes for node in topological(kept.node)}


def test_the_logits_of_a_softmax_stay_the_operand_of_its_logsumexp():
    # Both summands are products with a common factor once they are ordered; the softmax subtracts a third term.
    text = "t1 = cosine_similarity(euclidean_distance(V, V), euclidean_distance(K, K)); softmax(t1 + scale(t1)) @ V"
    ordered = order_contractions(*with_builder(text))
    nodes = topological(ordered.node)
    assert any(softmax_step(node) for node in nodes), show(ordered.node)
    assert all(len(node.factors) <= 2 for node in nodes if isinstance(node, Contraction)), show(ordered.node)


@pytest.mark.parametrize("value", ["(Q @ (K.T @ V))", "(softsign(Q @ K.T) @ softsign(K @ V.T))"])
def test_what_is_squared_is_not_taken_apart(value):
    # |Q W| through W W^T would lose the digits of rows that are small against Q and W.
    ordered = order_contractions(*with_builder(f"cosine_similarity({value}, {value}) @ V"))
    squared = [
        node.factors[0].node
        for node in topological(ordered.node)
        if isinstance(node, Contraction) and len(node.factors) == 2 and node.factors[0] == node.factors[1]
    ]
    assert len(squared) == 1, show(ordered.node)
    assert summed_axes(squared[0]), show(ordered.node)


def test_rows_of_a_product_are_scaled_behind_it():
    # The gradient of a unit row is a difference of two multiples of one product: scaled inside, it would be two
    # products with roundings of their own, whose difference is small.
    root, builder = with_builder("cosine_similarity(softsign(Q @ K.T) @ V, K) @ V")
    gradients = derive(order_contractions(root, builder), builder)
    nodes = topological(order_contractions(gradients["V"], builder).node)
    # Q K^T, P V, (P V)^T G, K of that, V^T K, G of that, P^T dY
    assert sum(is_matrix_product(node) for node in nodes) == 7


def with_builder(text):
    builder = Builder()
    return lowered(text, builder), builder


SIZES = {"S": 4096, "D": 64}  # the sizes at which the compiler compares orders
TRAFFIC = 8  # multiply-adds that an element read or written is worth to it


def pair_cost(rows, inner, columns):
    a, b, c = SIZES[rows], SIZES[inner], SIZES[columns]
    return a * b * c + TRAFFIC * (a * b + b * c + a * c)


def cheapest_parenthesisation(axes):
    """Brute force over all ways to multiply the chain of matrices ``axes[n] x axes[n + 1]``."""

    @cache
    def best(first, last):
        if last - first == 1:
            return 0
        return min(
            best(first, middle) + best(middle, last) + pair_cost(axes[first], axes[middle], axes[last])
            for middle in range(first + 1, last)
        )

    return best(0, len(axes) - 1)


def cost_of(root):
    total = 0
    for node in topological(root.node):
        if isinstance(node, Contraction):
            assert len(node.factors) == 2
            assert len(node.summed) == 1
            total += pair_cost(node.axes[0], node.summed[0], node.axes[1])
    return total


@pytest.mark.parametrize("factors", [2, 3, 4, 5, 6])
def test_the_order_of_products_is_the_cheapest_there_is(factors, fresh_seed):
    rng = Random(fresh_seed)
    # Distinct values, so that nothing is shared: six of type S x D.
    values = ["Q", "K", "V", "softsign(Q)", "softsign(K)", "softsign(V)"]
    functions = len([value for value in values if "(" in value])
    assert functions == 3
    for _ in range(20):
        rng.shuffle(values)
        # A chain from S to D in steps that change the axis: S x D, D x S, S x D, ... with D x D, S x S put in.
        axes, parts = ["S"], []
        for number in range(factors):
            step = values[number] if axes[-1] == "S" else f"{values[number]}.T"
            parts.append(step)
            axes.append("D" if axes[-1] == "S" else "S")
        text = " @ ".join(parts)
        if axes[-1] == "S":  # the output must be S x D
            text, axes = f"softmax({text}) @ Q", axes
        root, builder = with_builder(text)
        ordered = order_contractions(root, builder)
        expected = cheapest_parenthesisation(tuple(axes))
        if axes[-1] == "S":
            expected += pair_cost("S", "S", "D")
        assert cost_of(ordered) == expected, f"OPNAS_TEST_SEED={fresh_seed}: {text}\n{show(ordered.node)}"


def test_the_expression_is_printed_in_index_notation():
    assert show(lowered("scale(softsign(Q @ K.T)) @ V").node).splitlines() == [
        "x3[i, j] = sum_k Q[i, k] K[j, k]",
        "x4[i, j] = softsign(x3[i, j])",
        "x6[i, j] = sum_k V[k, j] x4[i, k]",
        "x7[i, j] = D^(-1/2) x6[i, j]",
    ]
