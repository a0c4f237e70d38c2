"""Ten thousand random graphs and ten thousand mutated ones: all compile, and a sample of them is right."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from codegen import compile_attention
from evolution import OperationPriority, SearchSpace, mutate_graph, random_graph
from graphir import EXTENDED_OPERATIONS, PAPER_OPERATIONS, AttentionGraph

SETS = {
    "paper": PAPER_OPERATIONS,
    "extended": EXTENDED_OPERATIONS,
    # Exponentials of exponentials leave the range of float64, and infinities cannot be compared.
    "extended without exp": tuple(name for name in EXTENDED_OPERATIONS if name != "exp"),
}
CHUNK = 1_250  # 8 chunks of random graphs, 8 of mutated ones


def check_compiles(graph, seed):
    where = f"OPNAS_TEST_SEED={seed}: {graph.equation()}"
    # The file form passes every check of graphir again.
    assert AttentionGraph.from_dict(graph.to_dict()) == graph, where
    try:
        compiled = compile_attention(graph)
    except Exception as error:
        raise AssertionError(where) from error
    assert callable(compiled.function), where


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("operations", ["paper", "extended"])
def test_every_random_graph_validates_and_compiles(operations, chunk, fresh_seed):
    space = SearchSpace(operations=SETS[operations], min_nodes=1, max_nodes=16)
    rng = Random(f"{fresh_seed}/{chunk}")
    for _ in range(CHUNK):
        check_compiles(random_graph(rng, space), fresh_seed)


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("operations", ["paper", "extended"])
def test_every_mutated_graph_validates_and_compiles(operations, chunk, fresh_seed):
    space = SearchSpace(operations=SETS[operations], min_nodes=1, max_nodes=16)
    priority = OperationPriority.uniform(space.operations)
    rng = Random(f"{fresh_seed}/{chunk}")
    graph = random_graph(rng, space)
    for number in range(CHUNK):
        # Lines of fifty mutations, so that graphs far from the generator's own are met.
        if number % 50 == 0:
            graph = random_graph(rng, space)
        graph, _ = mutate_graph(graph, rng, space, priority)
        check_compiles(graph, fresh_seed)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("operations", ["paper", "extended without exp"])
def test_a_sample_agrees_with_the_reference(
    operations, part, fresh_seed, draw, results, truth, errors, shaken_errors
):
    space = SearchSpace(operations=SETS[operations], min_nodes=1, max_nodes=16)
    rng = Random(f"{fresh_seed}/{part}")
    sensitive = 0
    for number in range(100):
        graph = random_graph(rng, space)
        seq_len, head_dim = rng.randint(2, 9), rng.randint(2, 9)
        some = [0, *range(2, seq_len + 1)]
        lengths = None if number % 3 == 0 else [seq_len, rng.choice(some), rng.choice(some)]
        case = draw(rng.getrandbits(32), seq_len, head_dim, lengths)
        expected = truth(graph, case)
        found = errors(results(graph, case.padded_with(np.nan)), expected, case.real)
        # Reordered float64 sums are right to about 1e-15 a step; sixteen steps and their derivatives
        # amplify that by far less than 1e7.
        if all(error <= 1e-8 for error in found.values()):
            continue
        # Some graphs amplify it more: a distance of values that are equal but for rounding has a gradient
        # without any right digit. The reference shows it too, when each of its steps is off by a few roundings.
        shaken = shaken_errors(graph, case, expected, number)
        for name, error in found.items():
            where = f"OPNAS_TEST_SEED={fresh_seed}, S={seq_len}, D={head_dim}, {lengths}: {graph.equation()}"
            assert error <= max(1e-8, 10 * shaken[name]), f"{name} is off by {error}, {where}"
        sensitive += 1
    assert sensitive <= 5, f"OPNAS_TEST_SEED={fresh_seed}: {sensitive} of 100 graphs could not be compared"


@pytest.mark.parametrize(
    "text", ["softsign(sub(relu(Q), relu(Q))) + softsign(sub(K, V))", "sigmoid(sub(Q, Q)) + (K + V)"]
)
def test_what_cancels_out_reads_no_padding(text, draw, results):
    graph = AttentionGraph.from_expression(text)
    found = results(graph, draw(0, 6, 3, [6, 1, 0]).padded_with(np.nan))
    assert all(np.isfinite(x).all() for x in found.values())


@pytest.mark.parametrize("operations", ["paper", "extended without exp"])
def test_a_sample_with_one_token_or_one_column(
    operations, fresh_seed, draw, results, truth, errors, shaken_errors
):
    # A cosine of single numbers is a sign. Its gradient is a difference of equal terms, zero or rounding times 1e6 and
    # more where a norm is zero, also in plain eager evaluation; so results are compared, and gradients are finite.
    space = SearchSpace(operations=SETS[operations], min_nodes=1, max_nodes=16)
    rng = Random(fresh_seed)
    for number in range(100):
        graph = random_graph(rng, space)
        seq_len, head_dim = rng.choice([(1, 1), (1, 5), (6, 1), (6, 5)])
        case = draw(rng.getrandbits(32), seq_len, head_dim, None if number % 3 == 0 else [seq_len, 1, 0])
        expected = truth(graph, case)
        found = results(graph, case.padded_with(np.nan))
        where = f"OPNAS_TEST_SEED={fresh_seed}, S={seq_len}, D={head_dim}: {graph.equation()}"
        assert all(np.isfinite(x).all() for x in found.values()), where
        error = errors(found, expected, case.real)["out"]
        shaken = shaken_errors(graph, case, expected, number)["out"]
        assert error <= max(1e-8, 10 * shaken), f"off by {error}, {where}"
