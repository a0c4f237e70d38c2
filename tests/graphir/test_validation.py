"""What is refused, and that the refusal names the node and says what would be right."""

import pytest

from graphir import AttentionGraph, GraphError, Node

FINE = [Node("a", "transpose", ("K",)), Node("b", "matmul", ("Q", "a")), Node("c", "matmul", ("b", "V"))]

MATMUL_RULE = "matmul needs operands of types (a, c) and (c, b), not S x D and S x D"
ADD_RULE = "two operands of equal type, not S x D and D x S"
PAIR_RULE = "operands of types (a, c) and (b, c)"
ORDER_RULE = "later in the list: put nodes in topological order"


def refusal(
    nodes: list[Node], output: str, inputs: list[str] | None = None, name: str = "graph"
) -> GraphError:
    with pytest.raises(GraphError) as caught:
        AttentionGraph(nodes, output, inputs, name)
    return caught.value


@pytest.mark.parametrize(
    ("nodes", "output", "node", "words"),
    [
        ([Node("a", "matmul", ("Q", "K"))], "a", "a", MATMUL_RULE),
        ([Node("a", "transpose", ("K",)), Node("b", "add", ("Q", "a"))], "b", "b", ADD_RULE),
        ([Node("a", "transpose", ("K",)), Node("b", "cosine_similarity", ("Q", "a"))], "b", "b", PAIR_RULE),
        ([Node("a", "neg", ("b",)), Node("b", "neg", ("a",))], "b", "a", "cycle"),
        ([Node("a", "neg", ("a",))], "a", "a", "cycle"),
        ([Node("a", "neg", ("b",)), Node("b", "neg", ("Q",))], "a", "a", ORDER_RULE),
        ([Node("a", "neg", ("Qq",))], "a", "a", "operand 'Qq' does not exist"),
        ([Node("a", "negg", ("Q",))], "a", "a", "unknown operation 'negg'; did you mean neg"),
        ([Node("a", "neg", ("Q",)), Node("b", "neg", ("Q",))], "b", "a", "used by nothing"),
        ([Node("a", "neg", ("Q", "K"))], "a", "a", "neg takes 1 operand(s), not 2"),
        ([Node("a", "add", ("Q",))], "a", "a", "add takes 2 operand(s), not 1"),
        ([Node("a", "transpose", ("Q",))], "a", "a", "the output must be S x D, not D x S"),
        ([Node("a", "neg", ("Q",))], "b", None, "the output 'b' is not a node"),
        ([Node("a", "neg", ("Q",)), Node("a", "neg", ("a",))], "a", "a", "taken already"),
        ([Node("Q", "neg", ("K",))], "Q", "Q", "taken already"),
        ([Node("V", "neg", ("K",))], "V", "V", "taken already"),
        ([Node('"; import os', "neg", ("Q",))], '"; import os', None, "is not allowed"),
        ([Node("a b", "neg", ("Q",))], "a b", None, "is not allowed"),
        ([Node("", "neg", ("Q",))], "", None, "is not allowed"),
        ([Node("1a", "neg", ("Q",))], "1a", None, "not beginning with a digit"),
        ([Node("a" * 41, "neg", ("Q",))], "a" * 41, None, "1 to 40 letters"),
        ([Node("a\n", "neg", ("Q",))], "a\n", None, "is not allowed"),
        ([Node("ä", "neg", ("Q",))], "ä", None, "is not allowed"),
        ([Node("a", '"; import os', ("Q",))], "a", "a", "unknown operation"),
    ],
)  # fmt: skip
def test_a_malformed_graph_is_refused_by_name(
    nodes: list[Node], output: str, node: str | None, words: str
) -> None:
    error = refusal(nodes, output)
    assert error.node == node
    assert words in str(error)
    assert node is None or repr(node) in str(error)


@pytest.mark.parametrize(
    "name",
    ['"; import os', "a\nb", "", " a", "x" * 81, "a;b", "a'b", "a\\b", "$x$", "<b>", "ä", "{{x}}", "a\n"],
)
def test_a_display_name_that_could_be_code_is_refused(name: str) -> None:
    assert "is not allowed" in str(refusal(FINE, "c", name=name))


@pytest.mark.parametrize("name", ["autobert-zero/2", "a", "x" * 80, "my graph 1.5 + 2_b"])
def test_an_ordinary_display_name_is_kept(name: str) -> None:
    assert AttentionGraph(FINE, "c", name=name).name == name


def test_inputs_are_checked() -> None:
    assert "unknown input 'X'" in str(refusal(FINE, "c", ["Q", "K", "X"]))
    assert "repeat Q" in str(refusal(FINE, "c", ["Q", "Q", "K", "V"]))
    unused = refusal([Node("a", "neg", ("Q",))], "a", ["Q", "K"])
    assert (unused.node, "used by nothing" in str(unused)) == ("K", True)
    undeclared = refusal(FINE, "c", ["Q", "K"])
    assert (undeclared.node, "not among the graph's inputs" in str(undeclared)) == ("c", True)


def test_a_graph_of_64_nodes_is_the_largest() -> None:
    nodes = [Node("n0", "neg", ("Q",))] + [Node(f"n{i}", "neg", (f"n{i - 1}",)) for i in range(1, 65)]
    assert len(AttentionGraph(nodes[:64], "n63")) == 64
    assert "at most 64" in str(refusal(nodes, "n64"))


def test_a_message_stays_short_whatever_was_given() -> None:
    long = "x" * 1_000_000
    for error in (
        refusal([Node("a", long, ("Q",))], "a"),
        refusal([Node(long, "neg", ("Q",))], long),
        refusal([Node("a", "neg", (long,))], "a"),
        refusal(FINE, long),
        refusal(FINE, "c", name=long),
        refusal(FINE, "c", ["Q"] * 100_000),
        refusal(FINE, "c", [long]),
    ):
        assert len(str(error)) < 400


def test_a_graph_cannot_be_changed() -> None:
    graph = AttentionGraph(FINE, "c")
    for attribute in ("nodes", "output", "name", "inputs", "anything"):
        with pytest.raises(AttributeError, match="never changes"):
            setattr(graph, attribute, ())
    with pytest.raises(AttributeError, match="never changes"):
        del graph.nodes
    with pytest.raises(TypeError):
        graph.types["a"] = ("S", "D")


def test_an_input_alone_is_a_graph() -> None:
    graph = AttentionGraph([], "V")
    assert (graph.inputs, len(graph), graph.equation()) == (("V",), 0, "V")
