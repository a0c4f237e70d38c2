"""`Plan`: what a compiled attention will do, before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from codegen.expr import AXIS_HEAD, AXIS_SEQ, SCORES, Axes
from codegen.torch_steps import Apply, Attend, Combine, Count, Given, Matmul, Softmax, Step, Unit, reads


@dataclass(frozen=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        call: what is called, e.g. ``matmul`` or ``scaled_dot_product_attention``.
        axes: the axes of its result, e.g. ``("S", "D")``.
        stores: whether the result is a tensor in memory (an inlined view or input is not).
        contracts: axes of the products inside, e.g. ``("S", "S", "D")`` for each matmul of a score matrix.
        operands: axes of each value that it reads.
    """

    call: str
    axes: Axes
    stores: bool
    contracts: tuple[Axes, ...]
    operands: tuple[Axes, ...]


@dataclass(frozen=True)
class Plan:
    """The steps of one forward pass and what they cost.

    Attributes:
        backend: ``"torch"``.
        tier: ``"L"`` where no S x S value is left (linear in S); ``"1"`` where every S x S value lives
            inside a fused attention call; ``"stored"`` where S x S values are stored in memory.
        steps: the calls, in order.
    """

    backend: str
    tier: str
    steps: tuple[PlannedStep, ...]

    @property
    def fused_calls(self) -> int:
        """How many calls of `scaled_dot_product_attention` there are."""
        return sum(step.call == "scaled_dot_product_attention" for step in self.steps)

    @property
    def quadratic_values(self) -> int:
        """How many S x S values are stored."""
        return sum(step.stores and step.axes == SCORES for step in self.steps)

    def flops(self, seq_len: int, head_dim: int, heads: int = 1, batch: int = 1) -> int:
        """Floating-point operations of the products of one forward pass (a multiply-add is two)."""
        size = _sizes(seq_len, head_dim)
        return 2 * batch * heads * sum(size(axes) for step in self.steps for axes in step.contracts)

    def bytes_moved(
        self, seq_len: int, head_dim: int, heads: int = 1, batch: int = 1, element_size: int = 4
    ) -> int:
        """Bytes read and written by one forward pass when every step reads its operands and writes its result."""
        size = _sizes(seq_len, head_dim)
        elements = sum(size(step.axes) + sum(map(size, step.operands)) for step in self.steps if step.stores)
        return batch * heads * elements * element_size

    def __str__(self) -> str:
        lines = [
            f"backend {self.backend}, tier {self.tier}, {self.fused_calls} fused attention call(s), "
            f"{self.quadratic_values} stored S x S value(s)"
        ]
        for step in self.steps:
            lines.append(f"  {' x '.join(step.axes) or 'scalar':6} {step.call}")
        return "\n".join(lines)


def plan_steps(steps: list[Step]) -> Plan:
    """The plan of the PyTorch form."""
    planned = tuple(_planned(step) for step in steps if not isinstance(step, Given))
    fused = any(step.call == "scaled_dot_product_attention" for step in planned)
    stored = any(step.axes == SCORES for step in planned)
    return Plan("torch", "stored" if stored else "1" if fused else "L", planned)


def _planned(step: Step) -> PlannedStep:
    axes = step.node.axes
    call = type(step).__name__.lower()
    contracts: tuple[Axes, ...] = ()
    match step:
        case Apply(function=function):
            call = function
        case Attend():
            call = "scaled_dot_product_attention"
            contracts = ((AXIS_SEQ, AXIS_SEQ, AXIS_HEAD),) * 2
        case Matmul(summed=summed):
            contracts = ((*axes, summed),)
        case Combine():
            call = "linear combination"
        case Softmax():
            call = "softmax"
        case Unit():
            call = "unit vectors"
        case Count():
            call = "count of real tokens"
    stores = not (isinstance(step, Apply) and step.function == "dropout")
    return PlannedStep(call, axes, stores, contracts, tuple(use.node.axes for use in reads(step)))


def _sizes(seq_len: int, head_dim: int) -> Callable[[Axes], int]:
    """The number of elements of a value with the given axes."""
    return lambda axes: math.prod(seq_len if axis == AXIS_SEQ else head_dim for axis in axes)
