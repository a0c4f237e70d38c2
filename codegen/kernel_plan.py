"""`KernelPlan`: what the kernels of a compiled attention will do, before they run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from codegen.devices import DEVICES, Device
from codegen.expr import AXIS_SEQ, SCORES, Axes, Expr, LogSumExp
from codegen.kernel_text import KernelText
from codegen.triton_program import TritonProgram

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Tensor:
    """A value in memory.

    Attributes:
        name: the variable in the generated code.
        axes: e.g. ``("S", "D")``, a head.
        narrow: whether it has the type of the inputs; float32 otherwise.
        parts: how many values of these axes it holds: a logsumexp is a maximum and the rest.
    """

    name: str
    axes: Axes
    narrow: bool
    parts: int = 1

    def bytes(self, seq_len: int, head_dim: int, element_size: int = 2) -> int:
        """Bytes of one head."""
        return self.parts * _size(self.axes, seq_len, head_dim) * (element_size if self.narrow else 4)

    def __str__(self) -> str:
        return f"{self.name} [{' x '.join(self.axes) or 'scalar'}]"


@dataclass(frozen=True)
class PlannedKernel:
    """One launch.

    Attributes:
        name: of its function in the generated code.
        direction: ``"forward"`` or ``"backward"``.
        level: how long the chain of results needed at another instance of S is before it; 0 for a preparation.
        loops: for each loop over the sequence, whether S x S tiles exist in it.
        reads, writes: values in memory.
        products: axes of each product of matrices, summed ones included, over all programs.
        pointwise: axes of each other operation.
    """

    name: str
    direction: Direction
    level: int
    loops: tuple[bool, ...]
    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    products: tuple[Axes, ...]
    pointwise: tuple[Axes, ...]

    def matrix_flops(self, seq_len: int, head_dim: int) -> int:
        """Operations of products of matrices, of one head (a multiply-add is two)."""
        return 2 * sum(_size(axes, seq_len, head_dim) for axes in self.products)

    def vector_flops(self, seq_len: int, head_dim: int) -> int:
        """All other operations of one head, an elementary function counted as one."""
        return sum(_size(axes, seq_len, head_dim) for axes in self.pointwise)

    def bytes_moved(self, seq_len: int, head_dim: int, element_size: int = 2) -> int:
        """Bytes of one head when each value is read once and written once."""
        return sum(tensor.bytes(seq_len, head_dim, element_size) for tensor in self.reads + self.writes)

    def seconds(
        self, device: Device, seq_len: int, head_dim: int, sequences: int, element_size: int = 2
    ) -> float:
        """The roofline of ``sequences`` = batch * heads: the longest of products, other operations and memory."""
        return sequences * max(
            self.matrix_flops(seq_len, head_dim) / device.matrix_flops,
            self.vector_flops(seq_len, head_dim) / device.vector_flops,
            self.bytes_moved(seq_len, head_dim, element_size) / device.bandwidth,
        )

    def __str__(self) -> str:
        loops = f"{len(self.loops)} loop{'' if len(self.loops) == 1 else 's'}"
        tiles = ", S x S tiles" if any(self.loops) else ""
        return (
            f"{self.name:12} {'preparation' if self.level == 0 else f'level {self.level}':11} {loops}{tiles}: "
            f"{', '.join(map(str, self.reads)) or 'nothing'} -> {', '.join(map(str, self.writes))}"
        )


@dataclass(frozen=True)
class KernelPlan:
    """The kernels of both directions and what they cost.

    Attributes:
        backend: ``"triton"``.
        tier: ``"L"`` where no S x S value exists, not even on chip (linear in S); ``"1"`` where the forward has one
            loop over S x S tiles and each kernel of the backward too; ``"2"`` where there are more; ``"3"``
            where S x S values are stored.
        kernels: in the order of their launch.
        saved: what the forward keeps for the backward, beside the inputs.
        forward_levels, backward_levels: the longest chain of results needed at another instance of S.
    """

    backend: str
    tier: str
    kernels: tuple[PlannedKernel, ...]
    saved: tuple[Tensor, ...]
    forward_levels: int
    backward_levels: int

    def of(self, direction: Direction) -> tuple[PlannedKernel, ...]:
        """The kernels of one direction."""
        return tuple(kernel for kernel in self.kernels if kernel.direction == direction)

    @property
    def fused_calls(self) -> int:
        """How many kernels of the forward hold S x S tiles on chip."""
        return sum(any(kernel.loops) for kernel in self.of("forward"))

    @property
    def quadratic_values(self) -> int:
        """How many S x S values are stored, in both directions."""
        return sum(tensor.axes == SCORES for kernel in self.kernels for tensor in kernel.writes)

    def quadratic_bytes(self, seq_len: int, heads: int = 1, batch: int = 1, element_size: int = 2) -> int:
        """Bytes of all S x S values that are stored, in both directions; zero below tier 3."""
        return self.quadratic_values * batch * heads * seq_len**2 * element_size

    def flops(
        self, seq_len: int, head_dim: int, heads: int = 1, batch: int = 1, direction: Direction = "forward"
    ) -> int:
        """Floating-point operations of one direction, recomputation included (a multiply-add is two)."""
        kernels = self.of(direction)
        return (
            batch
            * heads
            * sum(k.matrix_flops(seq_len, head_dim) + k.vector_flops(seq_len, head_dim) for k in kernels)
        )

    def bytes_moved(
        self,
        seq_len: int,
        head_dim: int,
        heads: int = 1,
        batch: int = 1,
        element_size: int = 4,
        direction: Direction = "forward",
    ) -> int:
        """Bytes that the kernels of one direction read and write, each value once a kernel."""
        kernels = self.of(direction)
        return batch * heads * sum(k.bytes_moved(seq_len, head_dim, element_size) for k in kernels)

    def saved_bytes(
        self, seq_len: int, head_dim: int, heads: int = 1, batch: int = 1, element_size: int = 2
    ) -> int:
        """Bytes that are kept for the backward, beside the inputs."""
        return batch * heads * sum(t.bytes(seq_len, head_dim, element_size) for t in self.saved)

    def seconds(
        self,
        device: Device,
        seq_len: int,
        head_dim: int,
        heads: int = 1,
        batch: int = 1,
        direction: Direction = "forward",
        element_size: int = 2,
    ) -> float:
        """The roofline time of one direction: no run on the device is faster."""
        sequences = batch * heads
        return sum(k.seconds(device, seq_len, head_dim, sequences, element_size) for k in self.of(direction))

    def roofline(self, seq_len: int = 4096, head_dim: int = 64, heads: int = 16, batch: int = 4) -> str:
        """A table of roofline times by device, in 16 bits."""
        lines = [
            f"roofline, 16 bits, batch {batch}, heads {heads}, tokens {seq_len}, head dimension {head_dim}:"
        ]
        for name, device in DEVICES.items():
            times = [
                self.seconds(device, seq_len, head_dim, heads, batch, direction) * 1e3
                for direction in ("forward", "backward")
            ]
            lines.append(f"  {name:7} forward {times[0]:8.3f} ms   backward {times[1]:8.3f} ms")
        return "\n".join(lines)

    def __str__(self) -> str:
        stored = f"{self.quadratic_values} stored S x S value(s)"
        if self.quadratic_values:
            stored += f": {self.quadratic_bytes(1024) / 2**20:.0f} MiB a head at 1,024 tokens in 16 bits"
        lines = [f"backend {self.backend}, tier {self.tier}, {len(self.kernels)} kernels, {stored}"]
        lines += [f"  {kernel}" for kernel in self.kernels]
        lines.append(f"  saved for the backward: {', '.join(map(str, self.saved)) or 'the inputs alone'}")
        return "\n".join(lines)


def plan_kernels(program: TritonProgram) -> KernelPlan:
    """The plan of the Triton form."""
    kernels = [_planned(kernel, "forward", program) for kernel in program.forward.kernels]
    kernels += [_planned(kernel, "backward", program) for kernel in program.backward.kernels]
    saved = [_tensor(node, program) for node, name in program.names.items() if name in program.residuals]
    return KernelPlan(
        "triton",
        _tier(kernels),
        tuple(kernels),
        tuple(saved),
        program.forward_schedule.levels,
        program.backward_schedule.levels,
    )


def _tier(kernels: list[PlannedKernel]) -> str:
    if any(tensor.axes == SCORES for kernel in kernels for tensor in kernel.writes):
        return "3"
    forward = sum(sum(kernel.loops) for kernel in kernels if kernel.direction == "forward")
    most = max((sum(kernel.loops) for kernel in kernels), default=0)
    if most == 0:
        return "L"
    return "1" if forward <= 1 and most == 1 else "2"


def _planned(text: KernelText, direction: Direction, program: TritonProgram) -> PlannedKernel:
    return PlannedKernel(
        f"{text.name}_kernel",
        direction,
        text.kernel.level,
        text.work.loops,
        tuple(Tensor(b.name, b.axes, b.narrow, b.halves) for b in text.program.reads),
        _tensors((node for node in text.kernel.computes if node in text.kernel.stores), program),
        text.work.products,
        text.work.pointwise,
    )


def _tensors(nodes: Iterable[Expr], program: TritonProgram) -> tuple[Tensor, ...]:
    return tuple(_tensor(node, program) for node in nodes)


def _tensor(node: Expr, program: TritonProgram) -> Tensor:
    parts = 2 if isinstance(node, LogSumExp) else 1
    return Tensor(program.names[node], node.axes, node in program.narrow, parts)


def _size(axes: Axes, seq_len: int, head_dim: int) -> int:
    return math.prod(seq_len if axis == AXIS_SEQ else head_dim for axis in axes)
