"""Kernels and their launches as source: pointers, shapes and strides round tile programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from codegen.expr import (
    AXIS_HEAD,
    AXIS_SEQ,
    Distance,
    Expr,
    Input,
    LogSumExp,
    children,
    is_matrix_product,
    topological,
)
from codegen.index_notation import formulas
from codegen.schedule import LOOP, OTHER, OWN, Kernel, Schedule, is_whole_sum, reduces_seq, seq_rank
from codegen.tiles.build import build_kernel
from codegen.tiles.check import check_tiles
from codegen.tiles.count import Work, count_work, places
from codegen.tiles.program import Buffer, Result, TileProgram
from codegen.triton.needs import constants, device_functions
from codegen.triton.print import EXTENTS, POSITIONS, REAL, print_body


@dataclass(frozen=True)
class Stored:
    """A value that a kernel writes.

    Attributes:
        name: the variable of its tensor.
        shape: source of its shape, with partial sums of blocks.
        whole_shape: the same after those are added up.
        dtype: source of its element type.
        combine: source that turns partial sums into the value, with ``{x}``; empty where it is written whole.
    """

    name: str
    shape: str
    whole_shape: str
    dtype: str
    combine: str


@dataclass(frozen=True)
class KernelText:
    """A kernel, ready for the template.

    Attributes:
        name: of its function, without ``_kernel``.
        kernel: what was decided.
        program: how it is done.
        summary: one line for its docstring.
        formulas: what it computes, in index notation, as lines of its docstring.
        inputs: strided inputs that it reads.
        loads: stored values that it reads.
        stores: values that it writes.
        bases: statements that move pointers to the program's batch and head.
        lines: the body.
    """

    name: str
    kernel: Kernel
    program: TileProgram
    summary: str
    formulas: tuple[str, ...]
    inputs: tuple[str, ...]
    loads: tuple[str, ...]
    stores: tuple[Stored, ...]
    bases: tuple[str, ...]
    lines: tuple[str, ...]

    @cached_property
    def work(self) -> Work:
        """What it does, counted."""
        return count_work(self.program)

    @property
    def constants(self) -> tuple[str, ...]:
        """The compile-time constants that it takes."""
        paired = ("BLOCK_OTHER",) if self.kernel.paired else ()
        return (*constants(self.program), *paired, "D", "BLOCK_D", "BLOCK_OWN", "OFFSET", "FULL", "HAS_MASK")

    @property
    def functions(self) -> frozenset[str]:
        """The small device functions that it calls."""
        return device_functions(self.program)

    @property
    def reads_mask(self) -> bool:
        """Whether it asks which tokens are real."""
        return self.kernel.paired or not places(self.program.body)[1].isdisjoint({OWN, OTHER, LOOP})

    @property
    def places(self) -> frozenset[str]:
        """The variables of positions and of masks that its body reads."""
        positions, real = places(self.program.body)
        return frozenset([*(POSITIONS[axis] for axis in positions), *(REAL[axis] for axis in real)])


@dataclass(frozen=True)
class Direction:
    """The forward or the backward: its kernels and what they are called with.

    Attributes:
        kernels: in the order of launch.
        inputs: strided inputs that are read, ``q`` and so on.
        results: name of the tensor of each root.
    """

    kernels: tuple[KernelText, ...]
    inputs: tuple[str, ...]
    results: Mapping[str, str]

    @property
    def dropout(self) -> bool:
        """Whether a kernel draws random numbers."""
        return any(kernel.work.uses_dropout for kernel in self.kernels)


def name_values(forward: Schedule, backward: Schedule) -> dict[Expr, str]:
    """A name for every value that stands in memory in either direction."""
    names: dict[Expr, str] = {}
    taken: Counter[str] = Counter()
    for schedule, prefix in ((forward, ""), (backward, "grad_")):
        for root, use in schedule.roots.items():
            if not isinstance(use.node, Input):
                names.setdefault(use.node, prefix + root)
        for node in schedule.given:
            if isinstance(node, Input):
                names[node] = node.name.lower()
        for kernel in schedule.kernels:
            for node in kernel.computes:
                if node not in names:
                    stem = _stem(node)
                    taken[stem] += 1
                    names[node] = f"{stem}_{taken[stem]}"
    return names


def narrow_values(*schedules: Schedule) -> frozenset[Expr]:
    """The stored values that have the inputs' type: inputs, results, and matrices that only products read.

    Other sums over S stay in float32.
    """
    roots = {use.node for schedule in schedules for use in schedule.roots.values()}
    elsewhere = {
        use.node
        for root in roots
        for node in topological(root)
        for use in children(node)
        if not is_matrix_product(node)
    }
    narrow = set(roots)
    for schedule in schedules:
        for node in (*schedule.given, *schedule.stored):
            waits = reduces_seq(node) and seq_rank(node) < 2 and node in elsewhere
            if isinstance(node, Input) or (len(node.axes) == 2 and not waits):
                narrow.add(node)
    return frozenset(narrow)


def write_direction(
    schedule: Schedule, names: Mapping[Expr, str], narrow: frozenset[Expr], prefix: str
) -> Direction:
    """All kernels of one direction."""
    buffers = {node: _buffer(node, name, node in narrow) for node, name in names.items()}
    memory = set(schedule.given)
    kernels = []
    for number, kernel in enumerate(schedule.kernels, 1):
        program = build_kernel(kernel, buffers, frozenset(memory))
        check_tiles(program)
        known = {node: names[node] for node in memory}
        kernels.append(_kernel_text(f"{prefix}_{number}", kernel, program, names, known))
        memory |= kernel.stores
    used = {name for kernel in kernels for name in kernel.inputs}
    return Direction(
        tuple(kernels),
        tuple(name for name in ("q", "k", "v", "g") if name in used),
        {root: store_name(use.node, names) for root, use in schedule.roots.items()},
    )


def _buffer(node: Expr, name: str, narrow: bool) -> Buffer:
    return Buffer(name, node.axes, narrow, 2 if isinstance(node, LogSumExp) else 1, isinstance(node, Input))


def store_name(node: Expr, names: Mapping[Expr, str]) -> str:
    return f"{names[node]}_copy" if isinstance(node, Input) else names[node]


def _kernel_text(
    name: str,
    kernel: Kernel,
    program: TileProgram,
    names: Mapping[Expr, str],
    known: Mapping[Expr, str],
) -> KernelText:
    inputs = tuple(buffer.name for buffer in program.reads if buffer.strided)
    loads = [buffer for buffer in program.reads if not buffer.strided]
    bases = [f"{i}_ptr += batch * {i}_batch + head * {i}_head" for i in inputs]
    bases += [f"{buffer.name}_ptr += batch_head * {_size(buffer)}" for buffer in loads]
    for result in program.writes:
        part = "(batch_head * blocks + block)" if result.parts else "batch_head"
        bases.append(f"{result.buffer.name}_ptr += {part} * {_size(result.buffer)}")
    return KernelText(
        name,
        kernel,
        program,
        _summary(kernel),
        tuple(formulas(_computed(kernel, names), known)),
        inputs,
        tuple(buffer.name for buffer in loads),
        tuple(map(_stored, program.writes)),
        tuple(bases),
        tuple(print_body(program.body)),
    )


def _summary(kernel: Kernel) -> str:
    how = "Block by block" if kernel.level == 0 else f"Level {kernel.level}"
    if kernel.paired:
        how += ", a pair of blocks a program"
    if any(map(is_whole_sum, kernel.computes)):
        how += ", with partial sums"
    return f"{how}."


def _computed(kernel: Kernel, names: Mapping[Expr, str]) -> dict[Expr, str]:
    """The values that the kernel computes, and their variables."""
    return {
        node: store_name(node, names) if node in kernel.stores else names[node] for node in kernel.computes
    }


def _stored(result: Result) -> Stored:
    buffer = result.buffer
    name, whole = buffer.name, _shape(buffer, "batch, heads")
    if not result.parts:
        return Stored(name, whole, whole, "dtype" if buffer.narrow else "torch.float32", "")
    combine = "{x}.sum(2)"
    if result.parts == "logsumexp":
        combine = "_add_logsumexp({x}, dtype)"
    elif result.parts == "root":
        combine = "{x}.sum(2).sqrt()"
    if buffer.narrow:
        combine += ".to(dtype)"
    return Stored(name, _shape(buffer, "batch, heads, blocks"), whole, "torch.float32", combine)


def _shape(buffer: Buffer, before: str) -> str:
    """Source of the shape of a tensor; a logsumexp is a maximum, and what the rest adds to it."""
    dims = {AXIS_SEQ: "tokens", AXIS_HEAD: "head_dim"}
    halves = [str(buffer.halves)] if buffer.halves > 1 else []
    return f"({', '.join([before, *halves, *(dims[axis] for axis in buffer.axes)])})"


def _size(buffer: Buffer) -> str:
    """Source of the number of elements of one head of a value."""
    sizes = [EXTENTS[axis] for axis in buffer.axes]
    if buffer.halves > 1:
        sizes.insert(0, str(buffer.halves))
    return " * ".join(sizes) or "1"


def _stem(node: Expr) -> str:
    if isinstance(node, LogSumExp):
        return "logsumexp"
    if isinstance(node, Distance):
        return "distance"
    return {2: "scores", 1: "rows", 0: "state"}[seq_rank(node)] if len(node.axes) > 1 else "sums"
