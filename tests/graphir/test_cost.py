"""Costs, counted by hand."""

import pytest

from graphir import OPERATIONS, AttentionGraph, AttentionLayer, Backbone, ConvLayer
from graphir.cost import FLOPS, Cost, backbone_cost, graph_cost, quantity


def test_plain_attention_by_hand() -> None:
    s, d, heads, batch = 10, 4, 3, 2
    cost = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V").cost(s, d, heads, batch)
    product = 2 * s * s * d
    assert cost.flops == batch * heads * (product + s * s + 5 * s * s + product)
    assert cost.parameters == 4 * (12 * 12 + 12)
    transpose = s * d + s * d
    first, scale, softmax, second = 2 * s * d + s * s, 2 * s * s, 2 * s * s, s * s + 2 * s * d
    assert cost.bytes_unfused == 4 * batch * heads * (transpose + first + scale + softmax + second)
    assert cost.bytes_fused == 4 * batch * heads * 4 * s * d


def test_the_order_of_a_product_decides_its_cost() -> None:
    s, d = 1000, 10
    quadratic = AttentionGraph.from_expression("(Q @ K.T) @ V").cost(s, d, heads=1)
    linear = AttentionGraph.from_expression("Q @ (K.T @ V)").cost(s, d, heads=1)
    assert quadratic.flops == 4 * s * s * d
    assert linear.flops == 4 * s * d * d
    assert quadratic.bytes_fused == linear.bytes_fused
    assert quadratic.bytes_unfused > 10 * linear.bytes_unfused


def test_an_unused_input_has_no_projection_and_an_operand_is_read_once() -> None:
    cost = AttentionGraph.from_expression("Q + Q").cost(5, 2, heads=1)
    assert (cost.flops, cost.parameters) == (10, 2 * (2 * 2 + 2))
    assert cost.bytes_unfused == cost.bytes_fused == 2 * 10 * 4


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("cosine_similarity(Q, K) @ V", 2 * 7 * 7 * 3 + 3 * 2 * 21 + 2 * 14 + 2 * 7 * 7 * 3),
        ("euclidean_distance(Q, K) @ V", 7 * 7 * (3 * 3 + 1) + 2 * 7 * 7 * 3),
        ("logsigmoid(Q)", 4 * 21),
        ("softsign(Q)", 3 * 21),
        ("Q.T.T", 0),
        ("relu_squared(-Q)", 3 * 21),
    ],
)
def test_operations_are_counted_by_their_formula(text: str, flops: int) -> None:
    assert graph_cost(AttentionGraph.from_expression(text), seq_len=7, head_dim=3, heads=1).flops == flops


def test_every_operation_has_a_count() -> None:
    assert FLOPS.keys() == OPERATIONS.keys()
    for name, count in FLOPS.items():
        assert (count((3, 4), ((3, 4),) * OPERATIONS[name].arity) > 0) == (name != "transpose")


def test_half_precision_moves_half_the_bytes() -> None:
    graph = AttentionGraph.from_expression("softmax(Q @ K.T) @ V")
    full, half = graph_cost(graph), graph_cost(graph, element_size=2)
    assert (2 * half.bytes_unfused, 2 * half.bytes_fused) == (full.bytes_unfused, full.bytes_fused)
    assert (half.flops, half.parameters) == (full.flops, full.parameters)


def test_a_backbone_by_hand() -> None:
    e, f, heads, s, batch, kernel = 8, 16, 2, 10, 3, 5
    plain = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")
    backbone = Backbone((ConvLayer(kernel), AttentionLayer(plain)), e, heads, f)
    cost = backbone.cost(seq_len=s, batch=batch)
    feed_forward = e * f + f + f * e + e + 2 * 2 * e
    conv = e * 2 * e + 2 * e + heads * kernel + e * e + e
    attention = 4 * (e * e + e)
    assert cost.parameters == conv + attention + 2 * feed_forward

    tokens = batch * s
    linear = lambda m, n: tokens * (2 * m * n + n)  # noqa: E731
    block = linear(e, f) + 4 * tokens * f + linear(f, e) + 2 * tokens * 9 * e
    convolution = linear(e, 2 * e) + 4 * tokens * e + 2 * tokens * e * kernel + linear(e, e)
    layers = convolution + 4 * linear(e, e) + plain.cost(s, e // heads, heads, batch).flops
    assert cost.flops == layers + 2 * block


def test_costs_add_up_layer_by_layer() -> None:
    plain = AttentionLayer(AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V"))
    one, two, both = (
        backbone_cost(Backbone(layers)) for layers in ((plain,), (ConvLayer(7),), (plain, ConvLayer(7)))
    )
    assert one + two == both
    assert both.bytes_fused < both.bytes_unfused


def test_a_cost_is_readable() -> None:
    assert str(Cost(1_500_000, 1234, 8_000, 2_000)) == (
        "1.5 MFLOP, 1.23 k parameters, 8 kB moved, 2 kB if fused (4.0x less)"
    )
    assert (Cost(100, 0, 0, 50).intensity, Cost().intensity, Cost().fusion_saving) == (2.0, 0.0, 1.0)
    assert quantity(3.2e21, "B") == "3.2e+06 PB"


@pytest.mark.parametrize("sizes", [{"seq_len": 0}, {"batch": -1}, {"heads": 1.5}, {"head_dim": True}])
def test_a_size_that_is_none_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        AttentionGraph.from_expression("Q").cost(**sizes)
