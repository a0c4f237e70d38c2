"""`SearchSpace`: which backbones a search may propose."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from evolution.growth import reachable_sizes, sizes_in
from graphir import (
    OPERATIONS,
    PAPER_OPERATIONS,
    AttentionGraph,
    AttentionLayer,
    Backbone,
    ConvLayer,
    InputError,
)
from graphir.checks import check_number, check_whole
from graphir.ops import SEQ_BY_HEAD
from graphir.validation import MAX_NODES, nearest

PAPER_KERNEL_SIZES = (3, 5, 7, 9, 15, 31, 65)
"""Kernel sizes of the convolution layers (assumed)."""
PLAIN_ATTENTION = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V", name="plain")
_PLAIN = "plain_probability"


@dataclass(frozen=True)
class SearchSpace:
    """The two-level space of Gao et al. 2022: operations inside a layer, attention or convolution between.

    Attributes:
        layers: layers of a backbone.
        hidden_size: width of a token; a multiple of ``heads``.
        heads: attention heads.
        ffn_size: inner width of the feed-forward blocks.
        operations: operations that a graph may hold. The default is the paper's set (its two distances:
            assumed); `graphir.EXTENDED_OPERATIONS` is a larger one.
        kernel_sizes: odd kernel sizes of convolution layers (assumed).
        min_nodes: smallest number of operations in a graph (assumed).
        max_nodes: largest number of operations in a graph (assumed).
        conv_probability: probability that a layer of a random backbone is a convolution (assumed); 0 and 1
            mean that mutation makes no convolution, or nothing else, either.
        layer_mutation_probability: probability that a mutation of a backbone changes a layer's kind or
            kernel size and not a graph (assumed).
        plain_probability: probability that a new attention layer is plain attention, ``softmax(scale(Q @ K.T)) @ V``,
            and not a random graph. The paper starts from random graphs alone, and evaluates thousands of candidates.

    Raises:
        InputError: for a space that holds nothing or cannot be searched; the message says which field.

    Example:
        >>> SearchSpace(layers=4, hidden_size=128, heads=4, ffn_size=256).kernel_sizes
        (3, 5, 7, 9, 15, 31, 65)
    """

    layers: int = 12
    hidden_size: int = 768
    heads: int = 12
    ffn_size: int = 3072
    operations: tuple[str, ...] = PAPER_OPERATIONS
    kernel_sizes: tuple[int, ...] = PAPER_KERNEL_SIZES
    min_nodes: int = 3
    max_nodes: int = 16
    conv_probability: float = 0.5
    layer_mutation_probability: float = 0.3
    plain_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("operations", "kernel_sizes"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list):
                raise InputError(f"{name} must be a tuple, not {str(value)[:40]!r}")
            object.__setattr__(self, name, tuple(value))
        for name in ("conv_probability", "layer_mutation_probability", "plain_probability"):
            check_number(getattr(self, name), name, high=1.0)
        self._check_sizes()
        self._check_operations()
        if self.plain_probability > 0:
            self._check_plain()

    def _check_sizes(self) -> None:
        check_whole(self.layers, "layers")
        if len(set(self.kernel_sizes)) != len(self.kernel_sizes):
            raise InputError(f"kernel_sizes {self.kernel_sizes} repeat a size: list each once")
        if self.conv_probability > 0 and not self.kernel_sizes:
            raise InputError("kernel_sizes is empty: list at least one, or set conv_probability to 0")
        if self.conv_probability == 1 and len(self.kernel_sizes) == 1:
            raise InputError(
                "the space holds one backbone only: list more kernel_sizes, or set conv_probability below 1"
            )
        # A backbone knows the bounds of its sizes and refuses others.
        Backbone((ConvLayer(1),) * self.layers, self.hidden_size, self.heads, self.ffn_size)
        for size in self.kernel_sizes:
            Backbone((ConvLayer(size),), self.hidden_size, self.heads, self.ffn_size)

    def _check_operations(self) -> None:
        for name in self.operations:
            if not isinstance(name, str) or name not in OPERATIONS:
                raise InputError(f"unknown operation {str(name)[:60]!r}; {nearest(str(name), OPERATIONS)}")
        if len(set(self.operations)) != len(self.operations):
            raise InputError("operations repeat a name: list each once")
        for name in ("min_nodes", "max_nodes"):
            check_whole(getattr(self, name), name, high=MAX_NODES)
        if self.min_nodes > self.max_nodes:
            raise InputError(f"min_nodes {self.min_nodes} is above max_nodes {self.max_nodes}")
        if self.conv_probability < 1 and not self.graph_sizes:
            listed = ", ".join(self.operations) or "no operation"
            raise InputError(
                f"no graph of {self.min_nodes} to {self.max_nodes} nodes can be built from {listed}: "
                "add operations (the paper's set always suffices), or widen the bounds"
            )

    def _check_plain(self) -> None:
        lacking = sorted({node.op for node in PLAIN_ATTENTION.nodes} - set(self.operations))
        if lacking or not self.min_nodes <= len(PLAIN_ATTENTION) <= self.max_nodes:
            why = f"lacks {', '.join(lacking)}" if lacking else f"allows no {len(PLAIN_ATTENTION)} nodes"
            raise InputError(f"plain_probability must be 0: the space {why}, which plain attention needs")

    @property
    def graph_sizes(self) -> tuple[int, ...]:
        """The numbers of nodes, within the bounds, that a random graph can have."""
        sizes = sizes_in(reachable_sizes(self.operations, self.max_nodes)[SEQ_BY_HEAD])
        return tuple(size for size in sizes if size >= self.min_nodes)

    def require(self, backbone: Backbone) -> None:
        """Refuse a backbone that is outside of this space.

        Raises:
            InputError: naming the layer at fault.
        """
        for name in ("hidden_size", "heads", "ffn_size"):
            if getattr(backbone, name) != getattr(self, name):
                raise InputError(f"{name} is {getattr(backbone, name)}, the space has {getattr(self, name)}")
        if len(backbone.layers) != self.layers:
            raise InputError(f"{len(backbone.layers)} layers, the space has {self.layers}")
        for number, layer in enumerate(backbone.layers, 1):
            if isinstance(layer, AttentionLayer):
                unknown = sorted({node.op for node in layer.graph.nodes} - set(self.operations))
                if unknown:
                    raise InputError(f"layer {number}: {', '.join(unknown)} not among the space's operations")
                if not self.min_nodes <= len(layer.graph) <= self.max_nodes:
                    raise InputError(
                        f"layer {number}: {len(layer.graph)} nodes, the space allows "
                        f"{self.min_nodes} to {self.max_nodes}"
                    )
            elif layer.kernel_size not in self.kernel_sizes:
                raise InputError(f"layer {number}: kernel size {layer.kernel_size} not in the space")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. ``plain_probability`` is left out where it is 0, as in older studies."""
        data = (
            asdict(self) if self.plain_probability else {n: v for n, v in asdict(self).items() if n != _PLAIN}
        )
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}

    @classmethod
    def from_dict(cls, data: Any) -> SearchSpace:
        """Read what `to_dict` wrote; fields left out take their defaults.

        Raises:
            InputError: for unknown fields, or values that the constructor refuses.
        """
        if not isinstance(data, dict):
            raise InputError(f"a search space is an object of fields, not a {type(data).__name__}")
        known = [f.name for f in fields(cls)]
        for name in data:
            if name not in known:
                raise InputError(f"unknown field {str(name)[:60]!r} of a space; {nearest(str(name), known)}")
        return cls(**data)
