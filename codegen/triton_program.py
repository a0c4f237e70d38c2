"""The Triton form of a graph: kernels of the forward and the backward, from one expression."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from codegen.algebra import Builder
from codegen.check_schedule import check_schedules
from codegen.contraction_order import order_contractions
from codegen.derive import GRADIENT, derive
from codegen.expr import SCORES, Expr
from codegen.kernel_text import (
    Direction,
    KernelText,
    name_values,
    narrow_values,
    store_name,
    write_direction,
)
from codegen.line_breaking import break_lines
from codegen.lower import KERNEL_RULES, lower
from codegen.rendering import render
from codegen.schedule import Schedule, leaf_reads, make_schedule, own_binding, reduces_seq
from codegen.tile_sizes import tile_table
from graphir import AttentionGraph

_OPERATOR = f"attention_{'x' * 16}"
"""Stands in the text for the name of the operator, which is as long, until that is known."""


@dataclass(frozen=True)
class TritonProgram:
    """Both directions of a graph, ready for the template.

    Attributes:
        equation: of the graph.
        inputs: those that the graph uses, ``q`` and so on.
        forward_schedule, backward_schedule: what was decided.
        forward, backward: what was written down.
        residuals: values of the forward that the backward reads, the result included where it does.
        names: of all values that stand in memory.
        narrow: those of them that have the type of the inputs.
    """

    equation: str
    inputs: tuple[str, ...]
    forward_schedule: Schedule
    backward_schedule: Schedule
    forward: Direction
    backward: Direction
    residuals: tuple[str, ...]
    names: Mapping[Expr, str]
    narrow: frozenset[Expr]

    @cached_property
    def source(self) -> str:
        """The generated Python text."""
        lines = render("triton/attention.py.jinja", program=self, operator=_OPERATOR).splitlines()
        text = "\n".join([*break_lines(lines), ""])
        # Operators are named after all of the text: two versions of a graph's kernels never answer for each other, and
        # two names of a graph share one.
        return text.replace(_OPERATOR, f"attention_{hashlib.sha256(text.encode()).hexdigest()[:16]}")

    @property
    def kernels(self) -> tuple[KernelText, ...]:
        """Of both directions."""
        return self.forward.kernels + self.backward.kernels

    @property
    def unused(self) -> tuple[str, ...]:
        return tuple(name for name in ("q", "k", "v") if name not in self.inputs)

    @property
    def kept(self) -> tuple[str, ...]:
        """What the forward hands out beside its result."""
        return tuple(name for name in self.residuals if name != self.forward.results["out"])

    @property
    def dropout(self) -> bool:
        return self.forward.dropout

    @property
    def squares(self) -> int:
        """How many S x S values are stored, in both directions together."""
        stored = self.forward_schedule.stored | self.backward_schedule.stored
        return sum(node.axes == SCORES for node in stored)

    @property
    def tiles(self) -> dict[str, dict[tuple[str, int], tuple[tuple[int, int, int, int], ...]]]:
        """First choices of tile sizes by kernel, device and bytes of an element."""
        return {kernel.name: tile_table(kernel) for kernel in self.kernels}

    @property
    def functions(self) -> frozenset[str]:
        """The small device functions that the kernels call."""
        return frozenset({"_real", "_inside"}).union(*(kernel.functions for kernel in self.kernels))

    # -- source of signatures

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.inputs, "key_mask", *(("seed", "dropout_p") if self.dropout else ()))

    @property
    def backward_arguments(self) -> tuple[str, ...]:
        return ("g", *self.arguments, *self.residuals)

    @property
    def results(self) -> tuple[str, ...]:
        return (self.forward.results["out"], *self.kept)

    @property
    def unpacked(self) -> str:
        """The results of the forward as names for those that the backward reads."""
        out = self.forward.results["out"]
        return ", ".join([out if out in self.residuals else "_", *self.kept])

    @property
    def saved(self) -> str:
        """The backward's arguments but ``g``, as the autograd formula calls it."""
        first = len(self.inputs) + 2
        return f"*saved[:{first}], ctx.dropout_p, *saved[{first}:]" if self.dropout else "*saved"

    @property
    def fakes(self) -> list[tuple[str, str, str]]:
        """Name, shape and type of what the forward hands out."""
        narrow = {store_name(node, self.names) for node in self.narrow}
        stored = {item.name: item for kernel in self.forward.kernels for item in kernel.stores}
        return [
            (name, stored[name].whole_shape, "dtype" if name in narrow else "torch.float32")
            for name in self.results
        ]

    @property
    def gradients(self) -> tuple[str, ...]:
        """The backward's results; a tensor is handed out once, and an input without one gets zeros."""
        seen: set[str] = set()
        sources = []
        for name in self.inputs:
            result = self.backward.results.get(name)
            if result is None:
                sources.append(f"torch.zeros_like({name}, memory_format=torch.contiguous_format)")
            else:
                sources.append(f"{result}.clone()" if result in seen else result)
                seen.add(result)
        return tuple(sources)


def triton_program(graph: AttentionGraph) -> TritonProgram:
    """Lower, simplify, differentiate, schedule and write ``graph``.

    Raises:
        ScheduleError, TileError: where a schedule or a tile program breaks its own rules (a fault of the compiler).
    """
    builder = Builder()
    root = order_contractions(lower(graph, builder, KERNEL_RULES), builder)
    gradients = {
        name.lower(): order_contractions(use, builder)
        for name, use in derive(root, builder).items()
        if name != GRADIENT
    }
    inputs = [builder.input(name).node for name in graph.inputs]
    forward = make_schedule({"out": root}, inputs)
    # Sums over S that the forward computes are not computed again: those that the backward reads are kept.
    sums = [node for kernel in forward.kernels for node in kernel.computes if reduces_seq(node)]
    given = [*inputs, builder.input(GRADIENT).node]
    backward = make_schedule(gradients, [*given, *sums], split_roles=True)
    residuals = _read_from(backward, set(sums))
    backward = replace(backward, given=frozenset([*given, *residuals]))
    forward = make_schedule({"out": root}, inputs, keep=residuals)
    check_schedules(forward, backward)
    names = name_values(forward, backward)
    narrow = narrow_values(forward, backward)
    return TritonProgram(
        graph.equation(),
        tuple(name.lower() for name in graph.inputs),
        forward,
        backward,
        write_direction(forward, names, narrow, "forward"),
        write_direction(backward, names, narrow, "backward"),
        tuple(names[node] for node in residuals),
        names,
        narrow,
    )


def _read_from(schedule: Schedule, candidates: Iterable[Expr]) -> list[Expr]:
    """Those of ``candidates`` that the kernels of ``schedule`` read."""
    wanted = set(candidates)
    computed = {node for kernel in schedule.kernels for node in kernel.computes}
    read: dict[Expr, None] = {}
    for kernel in schedule.kernels:
        for node in kernel.computes:
            leaves = leaf_reads(node, own_binding(node), lambda n: n in computed or n in schedule.given)
            read |= dict.fromkeys(leaf.node for leaf in leaves if leaf.node in wanted)
    return sorted(read, key=lambda node: node.serial)
