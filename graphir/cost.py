"""What a forward pass costs: operations, parameters, and bytes moved with and without fusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphir.checks import check_whole
from graphir.ops import ValueType

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph

Shape = tuple[int, int]

NORM_FLOPS = 8
"""Operations an element of a LayerNorm: mean, difference, square, mean, root and division, scale, shift."""
ACTIVATION_FLOPS = 4
"""Operations an element of the feed-forward activation, and of the sigmoid and product of a GLU."""


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass. Add two with ``+``, take a part away with ``-``.

    Attributes:
        flops: floating-point operations; a multiplication with its addition counts as two, every other
            elementary function (exp, log, square root) as one.
        parameters: learned numbers.
        bytes_unfused: memory traffic where every operation reads its operands and writes its result.
        bytes_fused: memory traffic where intermediate results stay on chip.
    """

    flops: int = 0
    parameters: int = 0
    bytes_unfused: int = 0
    bytes_fused: int = 0

    @property
    def intensity(self) -> float:
        """Operations per byte where everything is fused."""
        return self.flops / self.bytes_fused if self.bytes_fused else 0.0

    @property
    def fusion_saving(self) -> float:
        """How many times less memory traffic there is with fusion."""
        return self.bytes_unfused / self.bytes_fused if self.bytes_fused else 1.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.parameters + other.parameters,
            self.bytes_unfused + other.bytes_unfused,
            self.bytes_fused + other.bytes_fused,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.flops - other.flops,
            self.parameters - other.parameters,
            self.bytes_unfused - other.bytes_unfused,
            self.bytes_fused - other.bytes_fused,
        )

    def __str__(self) -> str:
        return (
            f"{quantity(self.flops, 'FLOP')}, {quantity(self.parameters)} parameters, "
            f"{quantity(self.bytes_unfused, 'B')} moved, {quantity(self.bytes_fused, 'B')} if fused "
            f"({self.fusion_saving:.1f}x less)"
        )


def quantity(number: float, unit: str = "") -> str:
    """A number for people.

    Example:
        >>> quantity(1_234_000, "B"), quantity(12), quantity(999_999)
        ('1.23 MB', '12', '1 M')
    """
    for prefix in ("", "k", "M", "G", "T", "P"):
        if number < 999.5 or prefix == "P":
            break
        number /= 1000
    return f"{number:.3g} {prefix}{unit}".rstrip()


def _per_element(count: int) -> Callable[[Shape, tuple[Shape, ...]], int]:
    return lambda result, operands: count * result[0] * result[1]


def _size(*shapes: Shape) -> int:
    return sum(rows * columns for rows, columns in shapes)


def _cosine(result: Shape, operands: tuple[Shape, ...]) -> int:
    # Each operand: square and add, then divide by the norm; each row: clamp and root. Then a product.
    rows = sum(shape[0] for shape in operands)
    return 2 * _size(result) * operands[0][1] + 3 * _size(*operands) + 2 * rows


FLOPS: dict[str, Callable[[Shape, tuple[Shape, ...]], int]] = {
    "neg": _per_element(1),
    "transpose": _per_element(0),
    "scale": _per_element(1),
    "softmax": _per_element(5),  # maximum, difference, exp, sum, division
    "logsigmoid": _per_element(4),  # neg, exp, 1 +, log
    "softsign": _per_element(3),
    "add": _per_element(1),
    "matmul": lambda result, operands: 2 * _size(result) * operands[0][1],
    "cosine_similarity": _cosine,
    "euclidean_distance": lambda result, operands: _size(result) * (3 * operands[0][1] + 1),
    "mul": _per_element(1),
    "sub": _per_element(1),
    "relu": _per_element(1),
    "relu_squared": _per_element(2),
    "sigmoid": _per_element(4),
    "tanh": _per_element(1),
    "exp": _per_element(1),
    "abs": _per_element(1),
    "rms_norm": _per_element(3),  # square, mean, division; the root of each row is left out
}
"""Operations of one matrix: ``(result shape, operand shapes) -> count``."""


def graph_cost(
    graph: AttentionGraph,
    seq_len: int = 512,
    head_dim: int = 64,
    heads: int = 8,
    batch: int = 1,
    element_size: int = 4,
) -> Cost:
    """The cost of an attention graph as it stands, without any rewriting.

    - ``flops``: the sum of `FLOPS` over the nodes, times ``batch * heads``. The linear maps are not in it.
    - ``parameters``: those of the layer around it. With E = heads * head_dim, a projection E x E with bias
      for each used input and one for the output: ``(inputs + 1) * (E * E + E)``.
    - ``bytes_unfused``: each node reads every different operand once and writes its result.
    - ``bytes_fused``: each used input is read once and the result is written once.

    Args:
        graph: the graph.
        seq_len: S, tokens of a sequence.
        head_dim: D.
        heads: H.
        batch: B.
        element_size: bytes of a number.

    Raises:
        InputError: for a size below 1.
    """
    _check_positive(seq_len=seq_len, head_dim=head_dim, heads=heads, batch=batch, element_size=element_size)
    sizes = {"S": seq_len, "D": head_dim}

    def shape(name: str) -> Shape:
        value_type: ValueType = graph.types[name]
        return sizes[value_type[0]], sizes[value_type[1]]

    flops = elements = 0
    for node in graph.nodes:
        flops += FLOPS[node.op](shape(node.id), tuple(shape(name) for name in node.inputs))
        elements += _size(shape(node.id), *(shape(name) for name in dict.fromkeys(node.inputs)))
    hidden = heads * head_dim
    instances = batch * heads
    return Cost(
        flops=instances * flops,
        parameters=(len(graph.inputs) + 1) * _linear_parameters(hidden, hidden),
        bytes_unfused=instances * elements * element_size,
        bytes_fused=instances * (len(graph.inputs) + 1) * seq_len * head_dim * element_size,
    )


def backbone_cost(backbone: Backbone, seq_len: int = 512, batch: int = 1, element_size: int = 4) -> Cost:
    """The cost of all layers, without embeddings and head. With E hidden, F inner size, T = batch * seq_len:

    - a linear map m -> n: ``2 T m n + T n`` operations, ``m n + n`` parameters; it reads ``T m`` numbers
      and its parameters and writes ``T n``.
    - an attention layer: its graph (`graph_cost`) and a linear map E -> E for each used input and the output.
    - a convolution layer of kernel size k: a linear map E -> 2E, the gate (`ACTIVATION_FLOPS` an element),
      a depthwise convolution (``2 T E k`` operations, ``heads * k`` parameters), a linear map E -> E.
    - every layer then has a feed-forward block, E -> F, activation, F -> E, and two residuals with LayerNorm
      (``1 + NORM_FLOPS`` operations an element, 2E parameters each).

    Fused means: a gate with its convolution, an activation with the map before it, a residual with its norm.

    Raises:
        InputError: for a size below 1.
    """
    _check_positive(seq_len=seq_len, batch=batch, element_size=element_size)
    total = Cost()
    for layer in backbone.layers:
        total += _layer_cost(backbone, layer, seq_len, batch, element_size)
    return total


def _layer_cost(backbone: Backbone, layer: Layer, seq_len: int, batch: int, element_size: int) -> Cost:
    tokens, hidden, inner = batch * seq_len, backbone.hidden_size, backbone.ffn_size

    def linear(width: int, out: int) -> Cost:
        weights = _linear_parameters(width, out)
        moved = (tokens * (width + out) + weights) * element_size
        return Cost(tokens * out * (2 * width + 1), weights, moved, moved)

    def elementwise(flops: int, unfused: int, fused: int, parameters: int = 0) -> Cost:
        """Counts per token; bytes per number moved."""
        moved = [(tokens * numbers + parameters) * element_size for numbers in (unfused, fused)]
        return Cost(tokens * flops, parameters, *moved)

    # add: 2 reads, 1 write; norm: 1 read, 1 write; together: 2 reads, 1 write
    norm = elementwise((1 + NORM_FLOPS) * hidden, 5 * hidden, 3 * hidden, 2 * hidden)
    activation = elementwise(ACTIVATION_FLOPS * inner, 2 * inner, 0)
    block = linear(hidden, inner) + activation + linear(inner, hidden) + norm + norm

    if layer.kind == "conv":
        gate = elementwise(ACTIVATION_FLOPS * hidden, 3 * hidden, 2 * hidden)
        kernel = backbone.heads * layer.kernel_size
        # unfused: reads and writes E; fused: the gate's result is at hand, only the result is written
        convolution = elementwise(2 * hidden * layer.kernel_size, 2 * hidden, hidden, kernel)
        return linear(hidden, 2 * hidden) + gate + convolution + linear(hidden, hidden) + block

    inside = graph_cost(layer.graph, seq_len, backbone.head_dim, backbone.heads, batch, element_size)
    total = Cost(inside.flops, 0, inside.bytes_unfused, inside.bytes_fused) + block
    for _ in range(len(layer.graph.inputs) + 1):
        total += linear(hidden, hidden)
    return total


def _linear_parameters(width: int, out: int) -> int:
    return width * out + out


def _check_positive(**sizes: int) -> None:
    for what, size in sizes.items():
        check_whole(size, what)
