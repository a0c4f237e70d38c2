"""Kernels and their launches as source: pointers, shapes and strides for what `codegen.kernel_body` wrote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
from codegen.kernel_body import KernelBody, write_body
from codegen.schedule import Kernel, Schedule, is_whole_sum, reduces_seq, seq_rank
from codegen.statements import Block, Line, Load, Store
from codegen.tiles import POSITIONS, REAL

_EXTENTS = {AXIS_SEQ: "tokens", AXIS_HEAD: "D"}
"""Source of the length of an axis, in kernels."""
_OPTIONAL_CONSTANTS = ("SCALE", "DTYPE", "PRECISION", "DROPOUT", "BLOCK_LOOP")


@dataclass(frozen=True)
class Stored:
    """A value that a kernel writes.

    Attributes:
        name: the variable of its tensor.
        shape: source of its shape.
        dtype: source of its element type.
        combine: source that turns partial sums into the value, with ``{x}``; empty where it is written whole.
    """

    name: str
    shape: str
    dtype: str
    combine: str


@dataclass(frozen=True)
class KernelText:
    """A kernel, ready for the template.

    Attributes:
        name: of its function, without ``_kernel``.
        kernel, body: what was written down.
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
    body: KernelBody
    summary: str
    formulas: tuple[str, ...]
    inputs: tuple[str, ...]
    loads: tuple[str, ...]
    stores: tuple[Stored, ...]
    bases: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def constants(self) -> tuple[str, ...]:
        """The compile-time constants that it takes."""
        text = "\n".join(self.lines)
        used = [name for name in _OPTIONAL_CONSTANTS if re.search(rf"\b{name}\b", text)]
        if self.kernel.paired:
            used.append("BLOCK_OTHER")
        return (*used, "D", "BLOCK_D", "BLOCK_OWN", "OFFSET", "FULL", "HAS_MASK")


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
        return any(kernel.body.uses_dropout for kernel in self.kernels)


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
    memory = set(schedule.given)
    kernels = []
    for number, kernel in enumerate(schedule.kernels, 1):
        body = write_body(kernel, names, frozenset(memory), narrow)
        known = {node: names[node] for node in memory}
        kernels.append(_kernel_text(f"{prefix}_{number}", kernel, body, names, narrow, known))
        memory |= kernel.stores
    used = {name for kernel in kernels for name in kernel.inputs}
    return Direction(
        tuple(kernels),
        tuple(name for name in ("q", "k", "v", "g") if name in used),
        {root: store_name(use.node, names) for root, use in schedule.roots.items()},
    )


def store_name(node: Expr, names: Mapping[Expr, str]) -> str:
    return f"{names[node]}_copy" if isinstance(node, Input) else names[node]


def _kernel_text(
    name: str,
    kernel: Kernel,
    body: KernelBody,
    names: Mapping[Expr, str],
    narrow: frozenset[Expr],
    known: Mapping[Expr, str],
) -> KernelText:
    inputs = tuple(names[node] for node in body.loads if isinstance(node, Input))
    bases = [f"{i}_ptr += batch * {i}_batch + head * {i}_head" for i in inputs]
    loads = [node for node in body.loads if not isinstance(node, Input)]
    bases += [f"{names[node]}_ptr += batch_head * {_size(node)}" for node in loads]
    stored = [node for node in kernel.computes if node in kernel.stores]
    for node in stored:
        part = "(batch_head * blocks + block)" if is_whole_sum(node) else "batch_head"
        bases.append(f"{store_name(node, names)}_ptr += {part} * {_size(node)}")
    return KernelText(
        name,
        kernel,
        body,
        _summary(kernel),
        tuple(formulas(_computed(kernel, names), known)),
        inputs,
        tuple(names[node] for node in loads),
        tuple(_stored(node, store_name(node, names), node in narrow) for node in stored),
        tuple(bases),
        tuple(_lines(body.lines, names)),
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


def _lines(lines: Sequence[Line], names: Mapping[Expr, str]) -> Iterator[str]:
    for line in lines:
        match line:
            case Block(header=header, lines=inner):
                yield header
                for nested in _lines(inner, names):
                    yield f"    {nested}"
            case Load():
                yield f"{line.variable} = {_load(line, names[line.node])}"
            case Store():
                yield _store(line, store_name(line.node, names))
            case _:
                yield line


def _load(access: Load, name: str) -> str:
    places = [POSITIONS[instance] for instance in access.instances]
    real = [REAL[instance] for instance in access.instances]
    if not places:
        return f"tl.load({name}_ptr)"
    if len(places) == 1:
        if access.second:
            return f"_load_rest({name}_ptr + {_EXTENTS[access.node.axes[0]]}, {places[0]}, {real[0]}, DTYPE)"
        return f"tl.load({name}_ptr + {places[0]}, mask={real[0]}, other=0.0)"
    # Rows of matrices that kernels store are contiguous.
    row_stride = f"{name}_row" if isinstance(access.node, Input) else _EXTENTS[access.node.axes[1]]
    strides = [row_stride, "1"]
    order = (1, 0) if access.transposed else (0, 1)
    at = ", ".join(f"{places[n]}, {strides[n]}" for n in order)
    return f"_load({name}_ptr, {at}, {real[order[0]]}, {real[order[1]]})"


def _store(access: Store, name: str) -> str:
    """Rows at padded positions are written as zero, so that nothing that stands in memory is not finite."""
    places = [POSITIONS[instance] for instance in access.instances]
    real = [REAL[instance] for instance in access.instances]
    if not places:
        return f"tl.store({name}_ptr, {access.source})"
    limits = [_EXTENTS[axis] for axis in access.node.axes]
    if len(places) == 1:
        value = f"tl.where({real[0]}, {access.source}, 0.0)"
        second = f"{limits[0]} + " if access.second else ""
        return f"tl.store({name}_ptr + {second}{places[0]}, {value}, mask={places[0]} < {limits[0]})"
    at = f"{places[0]}, {places[1]}, {real[0]}, {real[1]}, {limits[0]}, {limits[1]}"
    return f"_store({name}_ptr, {access.source}, {at})"


def _stored(node: Expr, name: str, is_narrow: bool) -> Stored:
    dims = {AXIS_SEQ: "tokens", AXIS_HEAD: "head_dim"}
    shape = ", ".join(dims[axis] for axis in node.axes)
    if isinstance(node, LogSumExp):
        shape = f"2, {shape}"  # a maximum, and what the rest adds to it
    if not is_whole_sum(node):
        return Stored(name, f"(batch, heads, {shape})", "dtype" if is_narrow else "torch.float32", "")
    combine = "{x}.sum(2)"
    if isinstance(node, LogSumExp):
        combine = "_add_logsumexp({x}, dtype)"
    elif isinstance(node, Distance):
        combine = "{x}.sum(2).sqrt()"
    if is_narrow:
        combine += ".to(dtype)"
    partial = "(batch, heads, blocks" + (f", {shape})" if shape else ")")
    return Stored(name, partial, "torch.float32", combine)


def _size(node: Expr) -> str:
    """Source of the number of elements of one head of a value."""
    sizes = [_EXTENTS[axis] for axis in node.axes]
    if isinstance(node, LogSumExp):
        sizes.insert(0, "2")
    return " * ".join(sizes) or "1"


def _stem(node: Expr) -> str:
    if isinstance(node, LogSumExp):
        return "logsumexp"
    if isinstance(node, Distance):
        return "distance"
    return {2: "scores", 1: "rows", 0: "state"}[seq_rank(node)] if len(node.axes) > 1 else "sums"
