"""The rules of a schedule, checked for every one that is made: each value is computed before it is read, at an instance
where it is known, every sum over S has a loop of its own or joins one by the rule of online softmax, every result is
written once, and the forward leaves what the backward is given.

The rules are stated here anew: of the scheduler only its data are used, so that its faults are not shared.
"""

from __future__ import annotations

from collections.abc import Iterator

from codegen.expr import (
    AXIS_SEQ,
    MINUS,
    ONE,
    Contraction,
    Expr,
    Input,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    children,
    summed_axes,
    topological,
)
from codegen.schedule import LOOP, OTHER, OWN, Binding, Kernel, Read, Schedule, ScheduleError


def check_schedules(forward: Schedule, backward: Schedule) -> None:
    """Verify both directions, and that the forward stores what the backward takes for given.

    Raises:
        ScheduleError: naming the value and the kernel where a rule is broken.
    """
    check_schedule(forward)
    check_schedule(backward)
    left = {node for kernel in forward.kernels for node in kernel.stores}
    for node in backward.given:
        if not isinstance(node, Input) and node not in left:
            raise ScheduleError(
                f"the backward is given value {node.serial}, which the forward does not store"
            )


def check_schedule(schedule: Schedule) -> None:
    """Verify a schedule.

    Raises:
        ScheduleError: naming the value and the kernel where a rule is broken.
    """
    memory, written = set(schedule.given), set[Expr]()
    for number, kernel in enumerate(schedule.kernels, 1):
        where = f"kernel {number}"
        for position, node in enumerate(kernel.computes):
            _check_value(node, kernel, kernel.computes[:position], memory, where)
        if {node for node in memory & kernel.stores if not isinstance(node, Input)}:
            raise ScheduleError(f"{where} writes a value that stands in memory already")
        if not kernel.stores <= set(kernel.computes):
            raise ScheduleError(f"{where} stores what it does not compute")
        memory |= kernel.stores
        written |= kernel.stores
    if written != schedule.stored:
        raise ScheduleError("the kernels do not write what the schedule says is stored")
    for name, use in schedule.roots.items():
        if use.node not in written:
            raise ScheduleError(f"the result {name} is written by no kernel")


def _check_value(node: Expr, kernel: Kernel, before: tuple[Expr, ...], memory: set[Expr], where: str) -> None:
    if isinstance(node, Input) and node not in memory:
        raise ScheduleError(f"{where} copies the input {node.name}, which is not given")
    needs_loop = _sums_over_seq(node) and _seq_axes(node) == 1
    if needs_loop != (node in kernel.passes):
        raise ScheduleError(f"{where}: value {node.serial} and its loop do not fit")
    if _seq_axes(node) == 2 and not kernel.paired:
        raise ScheduleError(f"{where} computes an S x S value but owns no pairs of blocks")
    statistic = kernel.merged.get(node)
    if statistic is not None and not _may_join(node, statistic):
        raise ScheduleError(f"{where}: value {node.serial} may not join the loop of value {statistic.serial}")

    # A value is computed at the block that a program owns; an S x S value at a pair of blocks.
    home = (OWN, OTHER)[: _seq_axes(node)]
    pending, seen = list(_reads(node, home)), set[Read]()
    while pending:
        read = pending.pop()
        if read in seen or read.node in memory:
            continue
        seen.add(read)
        if read.node in kernel.computes:
            _check_same_kernel(node, read, kernel, before, where)
            if read.node in kernel.passes:
                continue
        elif _sums_over_seq(read.node):
            raise ScheduleError(f"{where} reads the sum {read.node.serial} before it is computed")
        elif isinstance(read.node, Input):
            raise ScheduleError(f"{where} reads the input {read.node.name}, which is not given")
        pending += _reads(read.node, read.binding)


def _check_same_kernel(node: Expr, read: Read, kernel: Kernel, before: tuple[Expr, ...], where: str) -> None:
    """A value that the same kernel computes is known at the own block only, after its loop, and not to pairs of
    blocks, which come first."""
    if read.node not in before:
        raise ScheduleError(f"{where} reads value {read.node.serial} before it computes it")
    if read.binding != (OWN,) or _seq_axes(node) == 2:
        raise ScheduleError(f"{where} reads value {read.node.serial} at another instance than it computes it")
    if node not in kernel.passes or read.node not in kernel.passes:
        return
    later = kernel.passes[node] - kernel.passes[read.node]
    if later < 0 or (later == 0) != (kernel.merged.get(node) is read.node):
        raise ScheduleError(f"{where} reads value {read.node.serial} inside of the loop that computes it")


def _may_join(node: Expr, statistic: Expr) -> bool:
    """Whether ``node`` can be added up in the loop that finds ``statistic``.

    It is a product, summed over the loop alone, with one factor ``exp(x - statistic)`` of the own row, where x is what
    the statistic is of; no other factor depends on the statistic. One factor a row then repairs what was added
    against an older maximum.
    """
    if not isinstance(node, Contraction) or not isinstance(statistic, LogSumExp):
        return False
    if node.summed != (AXIS_SEQ,) or statistic.axes != node.summed or statistic.summed != AXIS_SEQ:
        return False
    own, loop = node.axes.index(AXIS_SEQ), len(node.axes)
    x = statistic.operand.relabelled((own, loop))
    subtracted = (MINUS, Use(statistic, (own,)))
    softmax = [{(ONE, x), subtracted}]
    if isinstance(x.node, Linear):
        softmax.append({(number, use.relabelled(x.labels)) for number, use in x.node.terms} | {subtracted})
    factors = list(_factors(node))
    others = [use for use in factors if _exponent(use) not in softmax]
    return len(others) == len(factors) - 1 and not any(statistic in topological(use.node) for use in others)


def _factors(node: Contraction) -> Iterator[Use]:
    """The factors, with those of products of tiles in their place."""
    for use in node.factors:
        if (
            isinstance(use.node, Contraction)
            and use.node.axes == (AXIS_SEQ, AXIS_SEQ)
            and not use.node.summed
        ):
            yield from (factor.relabelled(use.labels) for factor in _factors(use.node))
        else:
            yield use


def _exponent(use: Use) -> set[tuple[object, Use]] | None:
    """The terms of x where ``use`` is ``exp(x)`` of a sum, in the frame that it is read in."""
    match use.node:
        case Pointwise(function="exp", operand=Use(node=Linear(terms=terms)) as x):
            return {(number, term.relabelled(x.labels).relabelled(use.labels)) for number, term in terms}
    return None


def _reads(node: Expr, home: Binding) -> Iterator[Read]:
    """What computing ``node`` at ``home`` reads. A sum over S runs over the loop; over the own block where the value
    has no S axis, as all programs then add up their parts."""
    own_labels = [label for label, axis in enumerate(node.axes) if axis == AXIS_SEQ]
    instances = dict(zip(own_labels, home, strict=True))
    for use in children(node):
        labels = [label for label, axis in zip(use.labels, use.node.axes, strict=True) if axis == AXIS_SEQ]
        yield Read(use.node, tuple(instances.get(label, LOOP if home else OWN) for label in labels))


def _seq_axes(node: Expr) -> int:
    return node.axes.count(AXIS_SEQ)


def _sums_over_seq(node: Expr) -> bool:
    return AXIS_SEQ in summed_axes(node)
