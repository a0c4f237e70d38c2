"""The canonical hash: equal for exact identities, different for different functions."""

import numpy as np
import pytest

from graphir import (
    EXTENDED_OPERATIONS,
    OPERATIONS,
    AttentionGraph,
    AttentionLayer,
    Backbone,
    ConvLayer,
    Node,
    presets,
    reference,
)
from graphir.canonical import RULES, backbone_hash, canonical_hash

EQUAL = [
    ("Q + K", "K + Q"),
    ("--Q + K", "Q + K"),
    ("Q.T.T", "Q"),
    ("(Q @ K.T) @ V", "Q @ (K.T @ V)"),
    ("(Q @ K.T).T @ V", "(K @ Q.T) @ V"),
    ("((Q + K) + V)", "Q + (V + K)"),
    ("(Q + K).T.T", "(K.T + Q.T).T"),
    ("scale(Q + K)", "scale(K) + scale(Q)"),
    ("softmax(scale(Q @ K.T)) @ V", "softmax(scale(Q) @ K.T) @ V"),
    ("softmax(scale(Q @ K.T)) @ V", "softmax(-(-Q @ scale(K.T))) @ V"),
    ("(Q + -K) @ Q.T @ V", "-(K + -Q) @ Q.T @ V"),
    ("-(Q + -K).T.T", "(K.T + -Q.T).T"),
    ("sub(Q, K)", "Q + -K"),
    ("-sub(Q, K)", "sub(K, Q)"),
    ("Q + -Q + K", "K"),
    ("sub(Q, Q) @ Q.T @ V", "sub(V, V)"),
    ("(Q + Q) @ K.T @ V", "Q @ K.T @ V + Q @ K.T @ V"),
    ("logsigmoid(Q.T).T", "logsigmoid(Q)"),
    ("softsign(-Q)", "-softsign(Q)"),
    ("tanh(sub(Q, K)).T.T", "-tanh(K.T + -Q.T).T"),
    ("exp(logsigmoid(sub(Q, K)).T).T", "exp(logsigmoid(Q + -K))"),
    ("softmax(cosine_similarity(-Q, K)) @ V", "softmax(-cosine_similarity(K, Q).T) @ V"),
    ("euclidean_distance(Q, K).T @ V", "euclidean_distance(K, Q) @ V"),
    ("euclidean_distance(scale(Q), scale(K)) @ V", "scale(euclidean_distance(-Q, -K)) @ V"),
    ("abs(-scale(Q))", "scale(abs(Q))"),
    ("relu(scale(Q))", "scale(relu(Q))"),
    ("relu_squared(scale(Q))", "scale(scale(relu_squared(Q)))"),
    ("mul(Q, mul(-K, V))", "-mul(V, mul(K, Q))"),
    ("mul(Q.T, scale(K).T).T", "scale(mul(K, Q))"),
    ("rms_norm(-Q)", "-rms_norm(Q)"),
    ("t = softmax(Q @ K.T); t @ t @ V", "softmax(Q @ K.T) @ (softmax(Q @ K.T) @ V)"),
]

DIFFERENT = [
    ("Q", "K"),
    ("-Q", "Q"),
    ("scale(Q)", "Q"),
    ("scale(scale(Q))", "scale(Q)"),
    ("Q + Q", "Q"),
    ("Q + scale(Q)", "Q + Q"),
    ("sub(Q, K)", "sub(K, Q)"),
    ("softmax(Q)", "softmax(Q.T).T"),
    ("rms_norm(Q)", "rms_norm(Q.T).T"),
    ("softmax(-Q)", "-softmax(Q)"),
    ("softmax(scale(Q))", "scale(softmax(Q))"),
    ("logsigmoid(-Q)", "-logsigmoid(Q)"),
    ("softsign(scale(Q))", "scale(softsign(Q))"),
    ("rms_norm(scale(Q))", "rms_norm(scale(scale(Q)))"),
    ("Q @ K.T @ V", "K @ Q.T @ V"),
    ("Q @ (K.T @ V)", "Q @ (V.T @ K)"),
    ("softmax(Q @ K.T) @ V", "softmax(K @ Q.T) @ V"),
    ("softmax(Q @ K.T) @ V", "softmax(Q @ K.T).T @ V"),
    ("cosine_similarity(Q, K) @ V", "cosine_similarity(K, Q) @ V"),
    ("scale(cosine_similarity(Q, K)) @ V", "cosine_similarity(Q, K) @ V"),
    ("euclidean_distance(-Q, K) @ V", "euclidean_distance(Q, K) @ V"),
    ("euclidean_distance(-Q, K) @ V", "-euclidean_distance(Q, K) @ V"),
    ("euclidean_distance(scale(Q), K) @ V", "scale(euclidean_distance(Q, K)) @ V"),
    ("relu(-Q)", "-relu(Q)"),
    ("relu(-Q)", "relu(Q)"),
    ("abs(-Q)", "-abs(Q)"),
    ("relu_squared(scale(Q))", "scale(relu_squared(Q))"),
    ("mul(Q, K)", "mul(Q, Q)"),
    ("exp(sub(Q, Q))", "sub(Q, Q)"),
    ("sigmoid(-Q)", "sigmoid(Q)"),
]


def result(graph: AttentionGraph, seed: int = 7, seq_len: int = 5, head_dim: int = 3) -> np.ndarray:
    q, k, v = np.random.default_rng(seed).standard_normal((3, 1, 1, seq_len, head_dim))
    with np.errstate(all="ignore"):  # exp of exp may overflow; the caller looks at finite results only
        return reference.evaluate(graph, q, k, v)


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    # 1e-9 of the scale: far above the rounding of a few dozen float64 operations (about 1e-14), far below
    # what a different formula makes of random inputs.
    return bool(np.abs(one - other).max() <= 1e-9 * max(1e-3, np.abs(one).max(), np.abs(other).max()))


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_exact_identities_keep_the_hash(one: str, other: str) -> None:
    a, b = AttentionGraph.from_expression(one), AttentionGraph.from_expression(other)
    assert canonical_hash(a) == canonical_hash(b)
    assert alike(result(a), result(b)), "the pair of this test is no identity"


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_functions_have_different_hashes(one: str, other: str) -> None:
    a, b = AttentionGraph.from_expression(one), AttentionGraph.from_expression(other)
    assert canonical_hash(a) != canonical_hash(b)
    assert not alike(result(a), result(b)), "the pair of this test is the same function"


def test_a_scale_inside_cosine_similarity_is_not_moved_because_of_the_clamp() -> None:
    inside = AttentionGraph.from_expression("cosine_similarity(scale(Q), K) @ V")
    plain = AttentionGraph.from_expression("cosine_similarity(Q, K) @ V")
    assert canonical_hash(inside) != canonical_hash(plain)
    q, k, v = np.full((3, 1, 1, 4, 9), 1e-7) * np.arange(1, 10)
    assert not alike(reference.evaluate(inside, q, k, v) * 1e6, reference.evaluate(plain, q, k, v) * 1e6)


def test_names_of_nodes_and_graph_do_not_count() -> None:
    a = AttentionGraph([Node("x", "neg", ("Q",)), Node("y", "add", ("x", "K"))], "y", name="one")
    b = AttentionGraph([Node("p", "neg", ("Q",)), Node("q", "add", ("K", "p"))], "q", name="two")
    assert a.canonical_hash() == b.canonical_hash()


def test_every_operation_has_a_rule() -> None:
    assert RULES.keys() == OPERATIONS.keys()


def test_a_product_that_doubles_at_every_step_stays_small() -> None:
    nodes = [Node("n0", "transpose", ("Q",)), Node("n1", "matmul", ("Q", "n0"))]
    nodes += [Node(f"n{i}", "matmul", (f"n{i - 1}", f"n{i - 1}")) for i in range(2, 60)]
    graph = AttentionGraph([*nodes, Node("out", "matmul", ("n59", "V"))], "out")
    mirrored = [Node("n0", "transpose", ("Q",)), Node("n1", "matmul", ("Q", "n0"))]
    mirrored += [Node("t", "transpose", ("n1",)), Node("n2", "matmul", ("t", "t")), *nodes[3:]]
    other = AttentionGraph([*mirrored, Node("out", "matmul", ("n59", "V"))], "out")
    assert graph.canonical_hash() == other.canonical_hash()


# -- random rewrites. A rule turns an operation and its operands into nested tuples (op, operand, ...).

REWRITES = {
    "neg neg": lambda op, *x: ("neg", ("neg", (op, *x))),
    "transpose transpose": lambda op, *x: ("transpose", ("transpose", (op, *x))),
    "copy": lambda op, *x: (op, *x),
    "commute": lambda op, *x: (op, *x[::-1]) if OPERATIONS[op].commutative else None,
    "transpose of a product": lambda op, *x: (
        ("transpose", ("matmul", ("transpose", x[1]), ("transpose", x[0]))) if op == "matmul" else None
    ),
    "transpose of pointwise": lambda op, *x: (
        ("transpose", (op, *(("transpose", y) for y in x)))
        if op in {"neg", "scale", "add", "sub", "mul", "logsigmoid", "softsign", "relu", "exp", "abs"}
        else None
    ),
    "transpose of a pair": lambda op, *x: (
        ("transpose", (op, x[1], x[0])) if op in {"cosine_similarity", "euclidean_distance"} else None
    ),
    "neg of the first": lambda op, *x: (
        ("neg", (op, ("neg", x[0]), *x[1:]))
        if op in {"matmul", "mul", "cosine_similarity", "scale", "transpose", "softsign", "tanh"}
        else None
    ),
    "neg of all": lambda op, *x: (
        ("neg", (op, *(("neg", y) for y in x))) if op in {"add", "sub", "neg"} else None
    ),
    "neg inside": lambda op, *x: (
        (op, *(("neg", y) for y in x)) if op in {"matmul", "mul", "euclidean_distance", "abs"} else None
    ),
    "sub": lambda op, *x: ("add", x[0], ("neg", x[1])) if op == "sub" else None,
}


def rewritten(graph: AttentionGraph, rng: np.random.Generator) -> tuple[AttentionGraph, str]:
    """``graph`` with one node replaced by an equal one (new names for what is new)."""
    names = list(REWRITES)
    by_id = {node.id: node for node in graph.nodes}
    target = graph.nodes[rng.integers(len(graph.nodes))]
    name = names[rng.integers(len(names))]
    tree = REWRITES[name](target.op, *target.inputs)
    inner = by_id.get(target.inputs[0])
    if (
        target.op == "scale"
        and inner is not None
        and inner.op in {"matmul", "add", "neg", "transpose", "relu"}
    ):
        name = "scale moved inside"
        scaled = [("scale", x) for x in inner.inputs]
        tree = (inner.op, scaled[0], inner.inputs[1]) if inner.op == "matmul" else (inner.op, *scaled)
    if target.op == "matmul" and inner is not None and inner.op == "matmul" and rng.random() < 0.5:
        name = "associativity"
        tree = ("matmul", inner.inputs[0], ("matmul", inner.inputs[1], target.inputs[1]))
    if tree is None:
        return graph, "none"

    fresh = 0
    taken = {node.id for node in graph.nodes}
    nodes: list[Node] = []

    def build(tree: object, final: str | None = None) -> str:
        nonlocal fresh
        if isinstance(tree, str):
            return tree
        op, *operands = tree
        inputs = tuple(build(operand) for operand in operands)
        while final is None and f"m{fresh}" in taken:
            fresh += 1
        node_id = final or f"m{fresh}"
        taken.add(node_id)
        nodes.append(Node(node_id, op, inputs))
        return node_id

    for node in graph.nodes:
        build(tree, node.id) if node is target else nodes.append(node)
    needed = {graph.output}
    for node in reversed(nodes):
        if node.id in needed:
            needed.update(node.inputs)
    return AttentionGraph([node for node in nodes if node.id in needed], graph.output), name


@pytest.mark.parametrize("ops", [None, EXTENDED_OPERATIONS], ids=["paper", "extended"])
@pytest.mark.parametrize("seed", range(60))
def test_random_rewrites_by_identities_keep_the_hash(random_graph, seed: int, ops) -> None:
    graph = random_graph(seed, 10, ops) if ops else random_graph(seed, 10)
    rng = np.random.default_rng(seed)
    found, original = canonical_hash(graph), graph
    done = []
    while len(done) < 15 and len(graph) < 55:
        graph, name = rewritten(graph, rng)
        done.append(name)
        assert canonical_hash(graph) == found, f"seed {seed}: {done}\n{original}\n{graph}"
    one, other = result(original), result(graph)
    if np.isfinite(one).all() and np.abs(one).max() < 1e6:
        assert alike(one, other), f"seed {seed}: the rewrites {done} are no identities"


@pytest.mark.parametrize("seed", range(8))
def test_hashes_are_equal_exactly_where_results_are(random_graph, seed: int) -> None:
    ops = ["neg", "transpose", "scale", "softsign", "softmax", "add", "matmul", "cosine_similarity"]
    graphs = [random_graph(seed * 1000 + i, 4, ops) for i in range(120)]
    seen: dict[str, tuple[AttentionGraph, np.ndarray]] = {}
    for graph in graphs:
        out = result(graph)
        digest = canonical_hash(graph)
        if digest in seen:
            assert alike(out, seen[digest][1]), f"seed {seed}: equal hash\n{graph}\n{seen[digest][0]}"
            continue
        for other, theirs in seen.values():
            assert not alike(out, theirs), f"seed {seed}: equal results\n{graph}\n{other}"
        seen[digest] = graph, out
    assert len(seen) < len(graphs), f"seed {seed}: no two graphs were equal, the test saw nothing"


def test_a_backbone_hash_sees_sizes_kernels_and_meaning_but_no_names() -> None:
    def backbone(kernel: int = 3, formula: str = "softmax(Q @ K.T) @ V", **sizes: int) -> Backbone:
        graph = AttentionGraph.from_expression(formula, name=f"g{kernel}")
        sizes = {"hidden_size": 8, "heads": 2, "ffn_size": 16} | sizes
        return Backbone((ConvLayer(kernel), AttentionLayer(graph)), **sizes, name=f"b{kernel}")

    same = backbone_hash(backbone())
    assert same == backbone_hash(backbone(formula="softmax(--(K @ Q.T).T) @ V"))
    different = [
        backbone(5),
        backbone(formula="softmax(K @ Q.T) @ V"),
        backbone(hidden_size=16),
        backbone(heads=4),
        backbone(ffn_size=17),
    ]
    assert len({same, *map(backbone_hash, different)}) == 6
    assert presets.get("bert").canonical_hash() != presets.get("autobert-zero").canonical_hash()


@pytest.mark.parametrize("square", ["t @ t", "mul(t, t)", "relu_squared(t)"])
def test_repeated_squaring_keeps_coefficients_small(square):
    steps = "; ".join(f"t = {square}" for _ in range(50))
    graph = AttentionGraph.from_expression(f"t = Q.T @ Q + Q.T @ Q; {steps}; Q @ t")
    other = AttentionGraph.from_expression(f"t = Q.T @ Q; {steps}; Q @ t")
    assert graph.canonical_hash() != other.canonical_hash()
    assert len(graph.summary()) < 100_000
