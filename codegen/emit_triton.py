"""Kernels and their launches as source: pointers and shapes for what `codegen.kernel_body` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen.expr import AXIS_HEAD, AXIS_SEQ, Distance, Expr, Input, LogSumExp
from codegen.kernel_body import Access, KernelBody, Loop, write_body
from codegen.schedule import Kernel, Schedule, reduces_seq, seq_rank
from codegen.tiles import REAL

_OFFSETS = {"own": "own", "other": "other", "loop": "loop", AXIS_HEAD: "head"}


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
        name: of its function.
        inputs: strided inputs that it reads.
        loads: stored values that it reads.
        stores: values that it writes.
        paired: whether a program owns a pair of blocks.
        bases: statements that move pointers to the program's batch and head.
        lines: the body.
        writes: the stores at its end.
    """

    name: str
    inputs: tuple[str, ...]
    loads: tuple[str, ...]
    stores: tuple[Stored, ...]
    paired: bool
    bases: tuple[str, ...]
    lines: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Direction:
    """The forward or the backward: its kernels and what they are called with.

    Attributes:
        kernels: in the order of launch.
        inputs: strided inputs, ``q`` and so on.
        residuals: names of what the forward hands to the backward.
        results: name of the tensor of each root; None where it is zero.
    """

    kernels: tuple[KernelText, ...]
    inputs: tuple[str, ...]
    residuals: tuple[str, ...]
    results: Mapping[str, str | None]


def name_values(forward: Schedule, backward: Schedule) -> dict[Expr, str]:
    """A name for every value that stands in memory in either direction."""
    names: dict[Expr, str] = {}
    for schedule, prefix in ((forward, ""), (backward, "grad_")):
        for root, use in schedule.roots.items():
            if not isinstance(use.node, Input):
                names.setdefault(use.node, prefix + root)
        for kernel in schedule.kernels:
            for node in kernel.computes:
                names.setdefault(node, f"{_stem(node)}_{node.serial}")
        for node in schedule.given:
            if isinstance(node, Input):
                names[node] = node.name.lower()
    return names


def write_direction(
    schedule: Schedule, names: Mapping[Expr, str], residuals: Sequence[Expr], prefix: str
) -> Direction:
    """All kernels of one direction."""
    memory = set(schedule.given)
    kernels = []
    roots = {use.node for use in schedule.roots.values()}
    for number, kernel in enumerate(schedule.kernels, 1):
        body = write_body(kernel, frozenset(memory))
        kernels.append(_kernel_text(f"{prefix}_{number}", kernel, body, names, roots))
        memory |= kernel.stores
    used = {name for kernel in kernels for name in kernel.inputs}
    return Direction(
        tuple(kernels),
        tuple(name for name in ("q", "k", "v", "g") if name in used),
        tuple(names[node] for node in residuals),
        {root: _store_name(use.node, names) for root, use in schedule.roots.items()},
    )


def _store_name(node: Expr, names: Mapping[Expr, str]) -> str:
    return f"{names[node]}_copy" if isinstance(node, Input) else names[node]


def _kernel_text(
    name: str, kernel: Kernel, body: KernelBody, names: Mapping[Expr, str], roots: set[Expr]
) -> KernelText:
    inputs = tuple(names[node] for node in body.loads if isinstance(node, Input))
    loads = tuple(names[node] for node in body.loads if not isinstance(node, Input))
    bases = [f"{i}_ptr += batch * {i}_batch + head_index * {i}_head" for i in inputs]
    bases += [
        f"{names[node]}_ptr += batch_head * {_size(node)}"
        for node in body.loads
        if not isinstance(node, Input)
    ]
    writes = []
    stored = []
    for access in body.stores:
        node = access.node
        target = _store_name(node, names)
        stored.append(_stored(node, target, node in roots))
        if _is_partial(node):
            bases.append(
                f"{target}_ptr += (tl.program_id(0) * tl.num_programs(1) + batch_head) * {_size(node)}"
            )
        else:
            bases.append(f"{target}_ptr += batch_head * {_size(node)}")
        writes.append(_store(access, target))
    return KernelText(
        name,
        inputs,
        loads,
        tuple(stored),
        kernel.paired,
        tuple(bases),
        tuple(_lines(body, names)),
        tuple(writes),
    )


def _lines(body: KernelBody, names: Mapping[Expr, str]) -> list[str]:
    lines = []
    for line in body.lines:
        if not isinstance(line, Loop):
            lines.append(_line(line, names))
            continue
        lines += [
            "for start in range(0, tokens, BLOCK_LOOP):",
            "    loop = (start + tl.arange(0, BLOCK_LOOP)).to(OFFSET)",
            "    real_loop = _real(mask_ptr, batch, loop, tokens, HAS_MASK)",
        ]
        lines += [f"    {_line(inner, names)}" for inner in line.lines]
    return lines


def _line(line: str | Access, names: Mapping[Expr, str]) -> str:
    return line if isinstance(line, str) else f"{line.variable} = {_load(line, names[line.node])}"


def _pointer(access: Access, name: str, strided: bool) -> tuple[str, str]:
    """Pointers and the mask of an access."""
    rank = len(access.instances)
    offsets = [_OFFSETS[instance] for instance in access.instances]
    reals = [REAL[instance] for instance in access.instances]
    if rank == 0:
        return f"{name}_ptr", ""
    if rank == 1:
        return f"{name}_ptr + {offsets[0]}", reals[0]
    columns = "D" if access.node.axes[1] == AXIS_HEAD else "tokens"
    stride = f"{name}_row" if strided else columns
    return (
        f"{name}_ptr + {offsets[0]}[:, None] * {stride} + {offsets[1]}[None, :]",
        f"{reals[0]}[:, None] & {reals[1]}[None, :]",
    )


def _load(access: Access, name: str) -> str:
    pointer, mask = _pointer(access, name, isinstance(access.node, Input))
    arguments = f"{pointer}, mask={mask}, other=0.0" if mask else pointer
    return f"tl.load({arguments}).to(tl.float32)"


def _store(access: Access, name: str) -> str:
    """Rows at padded positions are written as zero, so that nothing that stands in memory is not finite."""
    pointer, mask = _pointer(access, name, strided=False)
    if not mask:
        return f"tl.store({pointer}, {access.variable})"
    inside = {"real_own": "(own < tokens)", "real_other": "(other < tokens)"}
    bounds = mask
    for real, bound in inside.items():
        bounds = bounds.replace(real, bound)
    value = f"tl.where({mask}, {access.variable}, 0.0)"
    return f"tl.store({pointer}, {value}.to({name}_ptr.dtype.element_ty), mask={bounds})"


def _stored(node: Expr, name: str, is_root: bool) -> Stored:
    dims = {AXIS_SEQ: "tokens", AXIS_HEAD: "head_dim"}
    shape = ", ".join(["batch", "heads", *(dims[axis] for axis in node.axes)])
    # Results and what is prepared for products have the inputs' type; sums that wait stay in float32.
    narrow = is_root or (len(node.axes) == 2 and (seq_rank(node) == 2 or not reduces_seq(node)))
    if not _is_partial(node):
        return Stored(name, f"({shape})", "dtype" if narrow else "torch.float32", "")
    combine = "{x}.sum(0)"
    if isinstance(node, LogSumExp):
        combine = "{x}.logsumexp(0)"
    elif isinstance(node, Distance):
        combine = "{x}.sum(0).sqrt()"
    return Stored(name, f"(blocks, {shape})", "torch.float32", combine)


def _is_partial(node: Expr) -> bool:
    return reduces_seq(node) and seq_rank(node) == 0


def _size(node: Expr) -> str:
    """Source of the number of elements of one head of a value."""
    sizes = ["tokens" if axis == AXIS_SEQ else "D" for axis in node.axes]
    return " * ".join(sizes) or "1"


def _stem(node: Expr) -> str:
    if isinstance(node, LogSumExp):
        return "logsumexp"
    if isinstance(node, Distance):
        return "distance"
    return {2: "scores", 1: "rows", 0: "state"}[seq_rank(node)] if len(node.axes) > 1 else "sums"
