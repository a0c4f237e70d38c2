"""Differentiation in index notation against the gradients of the float64 reference."""

from random import Random

import numpy as np
import pytest

from codegen.algebra import Builder
from codegen.contraction_order import order_contractions
from codegen.derive import GRADIENT, SLOPES, derive
from codegen.expr import Contraction, topological
from codegen.lower import KERNEL_RULES, lower
from codegen.pointwise import FUNCTIONS
from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, AttentionGraph, presets, reference
from tests.codegen.dense import evaluate_dense

NO_EXP = tuple(name for name in EXTENDED_OPERATIONS if name != "exp")
"""exp of exp overflows on ordinary inputs."""


def gradients_of(graph):
    builder = Builder()
    root = order_contractions(lower(graph, builder, KERNEL_RULES), builder)
    gradients = derive(root, builder)
    gradients.pop(GRADIENT, None)
    return builder, gradients


def worst_error(graph, seed):
    rng = np.random.default_rng(seed)
    values = dict(zip([*"QKV", GRADIENT], rng.standard_normal((4, 5, 3)), strict=True))
    q, k, v, grad = (values[name][None, None] for name in [*"QKV", GRADIENT])
    with np.errstate(all="ignore"):
        expected = reference.gradients(graph, grad, q, k, v)
    builder, gradients = gradients_of(graph)
    errors = []
    for name, truth in expected.items():
        found = np.zeros(truth.shape)
        if name in gradients:
            found = evaluate_dense(order_contractions(gradients[name], builder), values)
        errors.append(np.abs(found - truth).max() / max(1.0, np.abs(truth).max()))
    return max(errors)


@pytest.mark.parametrize("name", [name for name in presets.names() if not name.startswith("bert")])
def test_the_gradients_of_presets_are_those_of_the_reference(name, fresh_seed):
    graph = presets.get(name)
    if isinstance(graph, AttentionGraph):
        # Reordered float64 sums.
        assert worst_error(graph, fresh_seed) <= 1e-12


@pytest.mark.parametrize("operations", [None, NO_EXP], ids=["paper", "extended"])
def test_the_gradients_of_random_graphs_are_those_of_the_reference(operations):
    # Fixed graphs: a fresh one may hold a distance of equal values, whose gradient has no right digit to compare.
    space = SearchSpace() if operations is None else SearchSpace(operations=operations)
    rng = Random(5)
    for number in range(150):
        graph = random_graph(rng, space)
        assert worst_error(graph, number) <= 1e-8, graph.equation()


def test_the_row_term_of_softmax_is_found_to_be_a_product_with_the_result():
    builder, gradients = gradients_of(presets.get("bert/1"))
    nodes = topological(order_contractions(gradients["Q"], builder).node)
    names = {node: getattr(node, "name", "") for node in nodes}
    row_terms = [n for n in nodes if isinstance(n, Contraction) and n.axes == ("S",)]
    assert len(row_terms) == 1
    # sum_d out[i, d] G[i, d], not a sum over the S x S weights
    assert row_terms[0].summed == ("D",)
    assert GRADIENT in {names[use.node] for use in row_terms[0].factors}


def test_every_function_of_an_input_has_a_slope():
    slopes_only = {"softsign_slope", "step", "tanh_slope", "sign", "inverse_or_zero"}
    slopes_only |= {"inverse_norm_slope", "inverse_root_slope"}
    # A count depends on no input; dropout is not differentiated here.
    assert set(FUNCTIONS) - slopes_only - {"inverse_count", "dropout"} == set(SLOPES)
