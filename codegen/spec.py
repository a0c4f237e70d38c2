"""The rules of a schedule, checked for every one that is made: each value is computed before it is read, at an instance
where it is known, every sum over S has a loop of its own, and every result is written once."""

from __future__ import annotations

from codegen.expr import Expr, Input
from codegen.schedule import (
    OWN,
    Kernel,
    Read,
    Schedule,
    ScheduleError,
    online_statistic,
    operand_reads,
    own_binding,
    reduces_seq,
    seq_rank,
)


def check_schedule(schedule: Schedule) -> None:
    """Verify a schedule.

    Raises:
        ScheduleError: naming the value and the kernel where a rule is broken.
    """
    memory: set[Expr] = set(schedule.given)
    for number, kernel in enumerate(schedule.kernels, 1):
        where = f"kernel {number}"
        for position, node in enumerate(kernel.computes):
            _check_value(node, kernel, kernel.computes[:position], memory, where)
        written = memory & kernel.stores
        if {node for node in written if not isinstance(node, Input)}:
            raise ScheduleError(f"{where} writes a value that stands in memory already")
        if not kernel.stores <= set(kernel.computes):
            raise ScheduleError(f"{where} stores what it does not compute")
        memory |= kernel.stores
    for name, use in schedule.roots.items():
        if use.node not in memory:
            raise ScheduleError(f"the result {name} is written by no kernel")


def _check_value(node: Expr, kernel: Kernel, before: tuple[Expr, ...], memory: set[Expr], where: str) -> None:
    if isinstance(node, Input) and node not in memory:
        raise ScheduleError(f"{where} copies the input {node.name}, which is not given")
    needs_loop = reduces_seq(node) and seq_rank(node) == 1
    if needs_loop != (node in kernel.passes):
        raise ScheduleError(f"{where}: value {node.serial} and its loop do not fit")
    if seq_rank(node) == 2 and reduces_seq(node) and not kernel.paired:
        raise ScheduleError(f"{where} computes an S x S value but owns no pairs of blocks")
    statistic = kernel.merged.get(node)
    if statistic is not None and online_statistic(node) is not statistic:
        raise ScheduleError(f"{where}: value {node.serial} may not join the loop of value {statistic.serial}")

    pending, seen = operand_reads(node, own_binding(node)), set()
    while pending:
        read = pending.pop()
        if read in seen:
            continue
        seen.add(read)
        if read.node in memory:
            continue
        if read.node in kernel.computes:
            _check_same_kernel(node, read, kernel, before, where)
        elif reduces_seq(read.node):
            raise ScheduleError(f"{where} reads the sum {read.node.serial} before it is computed")
        elif isinstance(read.node, Input):
            raise ScheduleError(f"{where} reads the input {read.node.name}, which is not given")
        else:
            pending += operand_reads(read.node, read.binding)


def _check_same_kernel(node: Expr, read: Read, kernel: Kernel, before: tuple[Expr, ...], where: str) -> None:
    """A value that the same kernel computes is known at the own block only, and only after its loop."""
    if read.node not in before:
        raise ScheduleError(f"{where} reads value {read.node.serial} before it computes it")
    if read.binding != (OWN,):
        raise ScheduleError(f"{where} reads value {read.node.serial} at another instance than it computes it")
    own_pass, read_pass = kernel.passes.get(node), kernel.passes.get(read.node)
    if own_pass is None or read_pass is None or kernel.merged.get(node) is read.node:
        return
    if read_pass >= own_pass:
        raise ScheduleError(f"{where} reads value {read.node.serial} inside of the loop that computes it")
