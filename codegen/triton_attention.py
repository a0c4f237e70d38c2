"""The Triton form of a graph: kernels of the forward and the backward, from one expression."""

from __future__ import annotations

from dataclasses import dataclass

from codegen.algebra import Builder
from codegen.contract import order_contractions
from codegen.derive import GRADIENT, derive
from codegen.emit_triton import name_values, write_direction
from codegen.expr import Expr
from codegen.lower import lower
from codegen.rendering import render
from codegen.schedule import Schedule, leaf_reads, make_schedule, own_binding, reduces_seq
from codegen.spec import check_schedule
from graphir import AttentionGraph


@dataclass(frozen=True)
class TritonProgram:
    """Both directions of a graph.

    Attributes:
        source: the generated Python text.
        forward, backward: the schedules.
    """

    source: str
    forward: Schedule
    backward: Schedule


def triton_program(graph: AttentionGraph) -> TritonProgram:
    """Lower, simplify, differentiate, schedule and write ``graph``; without attention dropout.

    Raises:
        ScheduleError: where a schedule breaks its own rules (a fault of the compiler).
    """
    builder = Builder(dropout=False)
    root = order_contractions(lower(graph, builder), builder)
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
    forward = make_schedule({"out": root}, inputs, keep=residuals)
    check_schedule(forward)
    check_schedule(backward)
    names = name_values(forward, backward)
    return TritonProgram(
        render(
            "triton/attention.py.jinja",
            title=graph.name,
            equation=graph.equation(),
            inputs=[name.lower() for name in graph.inputs],
            any_input=graph.inputs[0].lower(),
            forward=write_direction(forward, names, residuals, "forward"),
            backward=write_direction(backward, names, residuals, "backward"),
        ),
        forward,
        backward,
    )


def _read_from(schedule: Schedule, candidates: set[Expr]) -> list[Expr]:
    """Those of ``candidates`` that the kernels of ``schedule`` read."""
    computed = {node for kernel in schedule.kernels for node in kernel.computes}
    read: dict[Expr, None] = {}
    for kernel in schedule.kernels:
        for node in kernel.computes:
            leaves = leaf_reads(node, own_binding(node), lambda n: n in computed or n in schedule.given)
            read |= dict.fromkeys(leaf.node for leaf in leaves if leaf.node in candidates)
    return sorted(read, key=lambda node: node.serial)
