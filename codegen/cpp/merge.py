"""One pass for two kernels whose tiles are each other's: ``dQ`` together with ``dK`` and ``dV``.

A pair of blocks gives terms of sums of either block. Where one program owns a head it can add those of the other block
to rows in memory, and each product of tiles is made once: seven for attention with its forward instead of nine. It
needs at least as many heads as there are threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from codegen.expr import Contraction, Distance, Expr, LogSumExp
from codegen.schedule import LOOP, OWN, Kernel, Read, leaf_reads, operand_reads, own_binding


@dataclass(frozen=True)
class OnePass:
    """What two kernels become.

    Attributes:
        first: the pass over pairs of blocks, with the sums of the own block.
        swapped: sums of the other block, which ``first`` adds up in memory.
        then: what is made of these, without a loop.
    """

    first: Kernel
    swapped: tuple[Expr, ...]
    then: Kernel


def one_pass(rows: Kernel, columns: Kernel, memory: frozenset[Expr]) -> OnePass | None:
    """The two kernels as one pass; None where a sum needs what the other block's program has not at hand.

    Args:
        rows, columns: kernels of one level, neighbours in their schedule.
        memory: what stands in memory before both.
    """
    if rows.level != columns.level or rows.paired or columns.paired:
        return None
    sums = [node for kernel in (columns, rows) for node in kernel.computes if node in kernel.passes]
    if {*rows.passes.values(), *columns.passes.values()} != {0} or rows.merged or columns.merged:
        return None
    if not rows.passes or not columns.passes or any(isinstance(node, LogSumExp) for node in sums):
        return None
    swapped = _swapped(sums)
    computes = [node for kernel in (columns, rows) for node in kernel.computes]
    if not swapped or not all(_is_at_hand(node, memory) for node in swapped):
        return None
    stores = rows.stores | columns.stores
    later = set(swapped)
    for node in computes:
        read = {r.node for r in leaf_reads(node, own_binding(node), lambda n: n in memory or n in computes)}
        if node not in sums and read & later:
            later.add(node)
            if read & {*computes} - later:
                return None
    first = [node for node in computes if node not in later]
    then = [node for node in computes if node in later]
    passes = {node: 0 for node in sums if node not in later}
    return OnePass(
        Kernel(tuple(first), stores & {*first}, passes, {}, rows.level, False),
        tuple(swapped),
        Kernel(tuple(then), stores & {*then}, {}, {}, rows.level, False),
    )


def _is_at_hand(node: Expr, memory: frozenset[Expr]) -> bool:
    """Whether all that a sum is computed from can be had at a tile of the loop."""
    if not isinstance(node, Contraction) or not node.factors:
        return False
    return all(
        read.node in memory
        for read in leaf_reads(node, own_binding(node), lambda n: n in memory or isinstance(n, LogSumExp))
    )


def _swapped(sums: Iterable[Expr]) -> list[Expr]:
    """The sums to be taken at the other block, so that as many products of tiles as can be are the same tiles."""
    made: set[Read] = set()
    own: list[Expr] = []
    other: list[Expr] = []
    for node in sums:
        straight = _products(node)
        turned = {_turned(read) for read in straight}
        swaps = len(turned & made) > len(straight & made)
        made |= turned if swaps else straight
        (other if swaps else own).append(node)
    return other if len(other) <= len(own) else own


def _products(node: Expr) -> set[Read]:
    """The products and distances on tiles of pairs that a sum at the own block reads."""
    found: set[Read] = set()
    seen: set[Read] = set()

    def visit(value: Expr, binding: tuple[str, ...]) -> None:
        for read in operand_reads(value, binding):
            if len(read.binding) == 2 and read not in seen:
                seen.add(read)
                if isinstance(read.node, Distance) or (
                    isinstance(read.node, Contraction) and read.node.summed
                ):
                    found.add(read)
                visit(read.node, read.binding)

    visit(node, own_binding(node))
    return found


def _turned(read: Read) -> Read:
    return Read(read.node, tuple({OWN: LOOP, LOOP: OWN}[instance] for instance in read.binding))
