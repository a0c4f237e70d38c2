"""One pass for two kernels whose tiles are each other's: ``dQ`` together with ``dK`` and ``dV``.

A pair of blocks gives terms of sums of either block. Where one program owns a head it can add those of the other block
to rows in memory, and each product of tiles is made once: seven for attention with its forward instead of nine. It
needs at least as many heads as there are threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codegen.expr import Contraction, Distance, Expr, LogSumExp
from codegen.schedule import LOOP, OWN, Kernel, Read, leaf_reads, operand_reads, own_binding


@dataclass(frozen=True)
class OnePass:
    """What two kernels become.

    Attributes:
        first: the pass over pairs of blocks, with the sums of the own block.
        swapped: sums of the other block, which ``first`` adds up in memory.
        kept: what ``first`` stores for ``then`` beside them.
        then: what is made of these, without a loop.
    """

    first: Kernel
    swapped: tuple[Expr, ...]
    kept: tuple[Expr, ...]
    then: Kernel


def one_pass(kernels: Sequence[Kernel], memory: frozenset[Expr], roots: frozenset[Expr]) -> OnePass | None:
    """Kernels as one pass; None where that saves nothing, or where the other block's program lacks what a sum needs.

    Args:
        kernels: of one level, neighbours in their schedule; or one, whose sums have tiles both ways round.
        memory: what stands in memory before them.
        roots: results, which are not stored in memory.
    """
    level = kernels[0].level
    for kernel in kernels:
        if kernel.level != level or kernel.paired or kernel.merged or {*kernel.passes.values()} != {0}:
            return None
    computes = [node for kernel in reversed(kernels) for node in kernel.computes]
    sums = [node for kernel in reversed(kernels) for node in kernel.computes if node in kernel.passes]
    if any(isinstance(node, LogSumExp) for node in sums):
        return None
    swapped = _swapped(sums)
    if not swapped or not all(_is_at_hand(node, memory) for node in swapped):
        return None
    later, kept = set(swapped), dict[Expr, None]()
    for node in computes:
        read = {r.node for r in leaf_reads(node, own_binding(node), lambda n: n in memory or n in computes)}
        if node not in sums and read & later:
            later.add(node)
            kept |= dict.fromkeys(n for n in computes if n in read and n not in later)
    if kept.keys() & roots:
        return None
    stores = frozenset().union(*(kernel.stores for kernel in kernels))
    first = [node for node in computes if node not in later]
    then = [node for node in computes if node in later]
    passes = {node: 0 for node in sums if node not in later}
    return OnePass(
        Kernel(tuple(first), stores & {*first} | {*kept}, passes, {}, level, False),
        tuple(swapped),
        tuple(kept),
        Kernel(tuple(then), stores & {*then}, {}, {}, level, False),
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
