"""Differences, found by structure."""

import numpy as np
import pytest

from graphir import EXTENDED_OPERATIONS, AttentionGraph, AttentionLayer, Backbone, ConvLayer, Node, presets


def diff(before: str, after: str) -> list[str]:
    one, other = AttentionGraph.from_expression(before), AttentionGraph.from_expression(after)
    return [str(change) for change in one.diff(other).changes]


PLAIN = "softmax(scale(Q @ K.T)) @ V"
WITHOUT_SCALE = ["> n2 softmax: operand scale(Q @ K.T) -> Q @ K.T", "- n2 scale: scale(Q @ K.T)"]
SWAPPED = [
    "> n0 neg: operand softsign(Q) -> Q",
    "> n1 softsign: operand Q -> -Q",
    "> output: -softsign(Q) -> softsign(-Q)",
]


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (PLAIN, PLAIN, []),
        ("Q + K", "K + Q", []),
        ("-Q", "logsigmoid(Q)", ["~ n0 logsigmoid: -Q -> logsigmoid(Q)"]),
        ("-Q", "-K", ["> n0 neg: operand Q -> K"]),
        ("sub(Q, K)", "sub(K, Q)", ["> n0 sub: operand 1 Q -> K", "> n0 sub: operand 2 K -> Q"]),
        ("Q + K", "Q + V", ["> n0 add: operand K -> V"]),
        ("Q", "-Q", ["+ n0 neg: -Q", "> output: Q -> -Q"]),
        ("-Q", "Q", ["> output: -Q -> Q", "- n0 neg: -Q"]),
        ("-softsign(Q)", "softsign(-Q)", SWAPPED),
        (PLAIN, "softmax(Q @ K.T) @ V", WITHOUT_SCALE),
    ],
)  # fmt: skip
def test_changes_of_small_graphs(before: str, after: str, changes: list[str]) -> None:
    assert diff(before, after) == changes


@pytest.mark.parametrize("seed", range(40))
def test_renaming_and_commuting_make_no_difference(random_graph, seed: int) -> None:
    graph = random_graph(seed, 20)
    names = {node.id: f"x{len(graph) - i}" for i, node in enumerate(graph.nodes)}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(names.get(name, name) for name in node.inputs)
        nodes.append(Node(names[node.id], node.op, inputs[::-1] if node.op == "add" else inputs))
    other = AttentionGraph(nodes, names.get(graph.output, graph.output))
    found = graph.diff(other)
    assert not found, f"seed {seed}: {found}"
    assert str(found).endswith("no difference")


@pytest.mark.parametrize("seed", range(40))
def test_one_replaced_operation_is_one_change(random_graph, seed: int) -> None:
    graph = random_graph(seed, 20, EXTENDED_OPERATIONS)
    rng = np.random.default_rng(seed)
    unary = [i for i, n in enumerate(graph.nodes) if len(n.inputs) == 1 and n.op not in ("transpose", "exp")]
    if not unary:
        pytest.fail(f"seed {seed} has no node to replace: choose other seeds")
    index = unary[rng.integers(len(unary))]
    nodes = list(graph.nodes)
    nodes[index] = nodes[index]._replace(op="exp")
    found = graph.diff(AttentionGraph(nodes, graph.output))
    assert found, f"seed {seed}"
    # One, unless the graph holds an equal value elsewhere: then that one is used, and its place is filled.
    assert 1 <= len(found.changes) <= 4, f"seed {seed}: {found}"
    assert "exp" in str(found), f"seed {seed}: {found}"


@pytest.mark.parametrize("seed", range(40))
def test_there_is_a_difference_exactly_where_the_structure_differs(random_graph, seed: int) -> None:
    one, other = random_graph(seed, 12), random_graph(seed + 1, 12)
    assert bool(one.diff(other)) == (one.canonical_hash() != other.canonical_hash()), f"seed {seed}"
    assert not one.diff(one), f"seed {seed}"
    counts = len(one.diff(other).of_kind("added")) - len(one.diff(other).of_kind("removed"))
    assert counts == len(other) - len(one), f"seed {seed}"


def test_a_removed_node_does_not_pass_for_a_new_one_of_its_name() -> None:
    before = AttentionGraph([Node("a", "softmax", ("Q",)), Node("b", "neg", ("a",))], "b")
    after = AttentionGraph([Node("a", "add", ("Q", "K")), Node("b", "neg", ("a",))], "b")
    kinds = [change.kind for change in before.diff(after).changes]
    assert kinds == ["added", "rewired", "removed"]


def test_equal_meaning_is_said() -> None:
    before, after = AttentionGraph.from_expression("--Q"), AttentionGraph.from_expression("Q")
    found = before.diff(after)
    assert found.same_meaning
    assert "the same meaning" in str(found)


def test_deep_sharing_is_written_out_to_a_bounded_depth() -> None:
    nodes = [Node("n0", "add", ("Q", "K"))]
    nodes += [Node(f"n{i}", "matmul" if i < 0 else "add", (f"n{i - 1}", f"n{i - 1}")) for i in range(1, 60)]
    doubling = AttentionGraph(nodes, "n59")
    assert len(str(AttentionGraph.from_expression("Q").diff(doubling))) < 20_000


def backbone(*layers: int | str, **sizes: int) -> Backbone:
    made = [
        ConvLayer(x) if isinstance(x, int) else AttentionLayer(AttentionGraph.from_expression(x))
        for x in layers
    ]
    return Backbone(tuple(made), **({"hidden_size": 8, "heads": 2, "ffn_size": 16} | sizes))


def test_layers_are_compared_in_kind_kernel_and_graph() -> None:
    found = backbone(3, PLAIN, PLAIN, 7).diff(backbone(5, "softmax(Q @ K.T) @ V", 9, 7, ffn_size=32))
    assert [(c.kind, c.where) for c in found.changes] == [
        ("changed", "ffn_size"), ("changed", "layer 1"), ("changed", "layer 2"), ("changed", "layer 3"),
    ]  # fmt: skip
    assert (found.changes[1].before, found.changes[1].after) == ("conv, kernel size 3", "conv, kernel size 5")
    inside = found.changes[2].inside
    assert inside is not None
    assert [change.kind for change in inside.changes] == ["rewired", "removed"]
    assert found.changes[3].after == "conv, kernel size 9"
    assert "\n    - n2 scale" in str(found)


def test_an_inserted_layer_does_not_shift_the_others() -> None:
    found = backbone(3, PLAIN, 7).diff(backbone(3, 65, PLAIN, 7))
    assert [(c.kind, c.where, c.after) for c in found.changes] == [
        ("added", "layer 2", "conv, kernel size 65")
    ]
    back = backbone(3, 65, PLAIN, 7).diff(backbone(3, PLAIN, 7))
    assert [(c.kind, c.where) for c in back.changes] == [("removed", "layer 2")]


def test_equal_backbones_have_no_difference() -> None:
    assert not presets.get("autobert-zero").diff(presets.get("autobert-zero"))
    assert presets.get("autobert-zero").diff(presets.get("bert"))
