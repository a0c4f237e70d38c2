"""Formulas as text."""

import pytest

from graphir import EXTENDED_OPERATIONS, AttentionGraph, GraphError
from graphir.canonical import canonical_hash


@pytest.mark.parametrize("seed", range(80))
def test_what_equation_prints_is_read_back(random_graph, seed: int) -> None:
    graph = random_graph(seed, 25, EXTENDED_OPERATIONS)
    text = graph.equation()
    again = AttentionGraph.from_expression(text)
    assert again.equation() == text, f"seed {seed}"
    assert canonical_hash(again) == canonical_hash(graph), f"seed {seed}: {text}"
    assert len(again) == len(graph), f"seed {seed}: {text}"
    assert sorted(n.op for n in again.nodes) == sorted(n.op for n in graph.nodes), f"seed {seed}"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Q@K.T@V", "Q @ K.T @ V"),
        ("Q@(K.T@V)", "Q @ (K.T @ V)"),
        ("-(Q+K)", "-(Q + K)"),
        ("-Q + K", "-Q + K"),
        ("Q + (K + V)", "Q + (K + V)"),
        ("-(Q.T).T", "-Q.T.T"),
        ("(-Q.T).T", "(-Q.T).T"),
        ("Q @ -K.T @ V", "Q @ -K.T @ V"),
        ("--Q", "--Q"),
        ("add(Q, neg(K))", "Q + -K"),
        ("matmul(matmul(Q, transpose(K)), V)", "Q @ K.T @ V"),
        ("x = Q + K; x @ x.T @ x", "t1 = Q + K; t1 @ t1.T @ t1"),
        ("sub(Q, mul(K, V))", "sub(Q, mul(K, V))"),
        ("  Q  ", "Q"),
        ("a = neg(Q)\na + a", "t1 = -Q; t1 + t1"),
    ],
)
def test_shorthands_and_parentheses_are_as_in_python(text: str, printed: str) -> None:
    assert AttentionGraph.from_expression(text).equation() == printed


def test_a_value_that_is_the_result_and_an_operand_is_named() -> None:
    data = AttentionGraph.from_expression("x = -Q; x + x").to_dict()
    assert AttentionGraph.from_dict(data).equation() == "t1 = -Q; t1 + t1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ends with its result"),
        ("x = Q", "ends with its result"),
        ("import os", "ends with its result"),
        ("import os; Q", "only assignments"),
        ("__import__('os').system('true')", "are read"),
        ("open('x')", "unknown operation 'open'"),
        ("Q.__class__", "are read"),
        ("Q * K", "are read"),
        ("Q - K", "are read"),
        ("softmax(Q, K)", "takes 1 operand"),
        ("softmax()", "takes 1 operand"),
        ("softmax(x=Q)", "are read"),
        ("softmax(*Q)", "are read"),
        ("softmx(Q)", "did you mean softmax"),
        ("X + Q", "unknown name 'X'"),
        ("Q = K; Q", "cannot be assigned"),
        ("a = b = Q; a", "only assignments"),
        ("a, b = Q; a", "only assignments"),
        ("x += Q; x", "only assignments"),
        ("Q if Q else K", "are read"),
        ("(lambda: Q)()", "are read"),
        ("[Q]", "are read"),
        ("1", "are read"),
        ("'Q'", "are read"),
        ("softmax(Q", "is not an expression"),
        ("Q @", "is not an expression"),
        ("Q\x00", "is not an expression"),
        ("x = -K; Q", "used by nothing"),
        ("Q @ K", "matmul needs"),
    ],
)
def test_anything_but_a_formula_is_refused(text: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        AttentionGraph.from_expression(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("count", [65, 100, 300, 400, 1000, 5000])
@pytest.mark.parametrize("form", ["{0}Q", "Q{1}", "{2}Q{3}", "{4}Q"], ids=["neg", "T", "calls", "sum"])
def test_a_formula_of_any_depth_is_refused_and_never_a_recursion_error(form: str, count: int) -> None:
    text = form.format("-" * count, ".T" * count, "neg(" * count, ")" * count, "Q+" * count)
    with pytest.raises(GraphError):
        AttentionGraph.from_expression(text)


def test_a_formula_of_64_nodes_is_read() -> None:
    assert len(AttentionGraph.from_expression("-" * 64 + "Q")) == 64
