"""The scheduler: which values are stored, and which kernel computes which.

A kernel is parallel over blocks of one S index, its *own* instance. A sum over another S index is a *loop* over tiles;
``S x S`` values exist only as tiles. What is needed at another instance than its own must be stored by an earlier
kernel. *What is stored is one explicit set*; levels, kernels, passes and residuals follow from it, and
`codegen.check_schedule.check_schedule` verifies every schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from codegen.algebra import softmax_parts
from codegen.expr import (
    AXIS_SEQ,
    Contraction,
    Expr,
    Input,
    Linear,
    LogSumExp,
    Use,
    children,
    summed_axes,
    topological,
)


class ScheduleError(RuntimeError):
    """A schedule that breaks its own rules: a fault of the compiler, never of who gave the graph."""


OWN, OTHER, LOOP = "own", "other", "loop"
"""Instances of an S index inside a kernel: the block that a program owns, the second block that a program over pairs
of blocks owns, and the tile that a loop is at."""

Binding = tuple[str, ...]
"""The instance of each S axis of a value, in the order of its axes."""


@dataclass(frozen=True)
class Read:
    """A value that is needed, and at which instances."""

    node: Expr
    binding: Binding


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        computes: the values that it computes and others wait for, operands first: row results, partial sums
            over S, blocks of S x S results, and values prepared for loops.
        stores: those of ``computes`` that are written to memory.
        passes: the number of the loop that computes a row result; equal numbers share a loop.
        merged: row results that join the loop of the logsumexp that they depend on.
        level: how long the chain of results needed at another instance is before it; 0 for a preparation.
        paired: whether a program owns a pair of blocks: it computes S x S results. What the kernel computes
            beside them is computed by the programs whose second block is the first.
    """

    computes: tuple[Expr, ...]
    stores: frozenset[Expr]
    passes: Mapping[Expr, int]
    merged: Mapping[Expr, Expr]
    level: int
    paired: bool

    @property
    def chunked(self) -> bool:
        """Whether a program walks over a chunk of own blocks: it adds up sums over all of S and has no loop."""
        return not self.paired and not self.passes and any(map(is_whole_sum, self.computes))


@dataclass(frozen=True)
class Schedule:
    """The kernels of one direction in the order of their launch.

    Attributes:
        kernels: the launches.
        given: what stands in memory before: inputs and residuals.
        stored: what the kernels write.
        roots: the results by name.
    """

    kernels: tuple[Kernel, ...]
    given: frozenset[Expr]
    stored: frozenset[Expr]
    roots: Mapping[str, Use]

    @property
    def levels(self) -> int:
        """The longest chain of results that are needed at another instance of S."""
        return max((kernel.level for kernel in self.kernels), default=0)


def seq_rank(node: Expr) -> int:
    """How many S axes a value has."""
    return node.axes.count(AXIS_SEQ)


def reduces_seq(node: Expr) -> bool:
    """Whether computing the value itself sums over S."""
    return AXIS_SEQ in summed_axes(node)


def is_whole_sum(node: Expr) -> bool:
    """Whether a value is a sum over S without an S axis: blocks write partial sums, which are then added up."""
    return reduces_seq(node) and seq_rank(node) == 0


def is_cheap(node: Expr) -> bool:
    """Whether a loop may read a row value without preparation: an input, or a multiple of one."""
    match node:
        case Input():
            return True
        case Linear(terms=((_, use),)):
            return isinstance(use.node, Input) and len(use.labels) == len(node.axes)
    return False


def operand_reads(node: Expr, binding: Binding) -> list[Read]:
    """What computing ``node`` at ``binding`` reads. A sum over S runs over the loop, or, where the result has no S
    axis left, over the own block (partial sums)."""
    instances: dict[int, str] = {}
    seq_labels = [label for label, axis in enumerate(node.axes) if axis == AXIS_SEQ]
    instances.update(zip(seq_labels, binding, strict=True))
    summed = OWN if not seq_labels else LOOP
    reads = []
    for use in children(node):
        seq = [label for axis, label in zip(use.node.axes, use.labels, strict=True) if axis == AXIS_SEQ]
        reads.append(Read(use.node, tuple(instances.get(label, summed) for label in seq)))
    return reads


def leaf_reads(node: Expr, binding: Binding, is_leaf: Callable[[Expr], bool]) -> dict[Read, None]:
    """What computing ``node`` at ``binding`` needs of leaves, through everything that is recomputed on the way."""
    found: dict[Read, None] = {}
    seen: set[Read] = set()

    def visit(read: Read) -> None:
        if read in seen:
            return
        seen.add(read)
        for operand in operand_reads(read.node, read.binding):
            if is_leaf(operand.node):
                found[operand] = None
            else:
                visit(operand)

    visit(Read(node, binding))
    return found


def own_binding(node: Expr) -> Binding:
    """Where a value is computed: at the own block, or at a pair of blocks."""
    return (OWN, OTHER)[: seq_rank(node)]


@dataclass
class _Decision:
    """The explicit decision: what is computed once and waited for, and what of it is stored."""

    given: frozenset[Expr]
    awaited: dict[Expr, None] = field(default_factory=dict)
    stored: set[Expr] = field(default_factory=set)
    demanded: set[Read] = field(default_factory=set)

    def is_leaf(self, node: Expr) -> bool:
        return node in self.given or node in self.awaited

    def demand(self, read: Read) -> None:
        """Make sure that a value can be had at the instances where it is read."""
        node = read.node
        if node in self.given or read in self.demanded:
            return
        self.demanded.add(read)
        at_home = read.binding == own_binding(node) and seq_rank(node) < 2
        if reduces_seq(node) or (not at_home and seq_rank(node) == 1 and not is_cheap(node)):
            # A sum over S is computed once. A row value that a loop reads is prepared by an earlier kernel.
            if node in self.awaited:
                return
            for operand in operand_reads(node, own_binding(node)):
                self.demand(operand)
            self.awaited[node] = None
            return
        for operand in operand_reads(node, read.binding):
            self.demand(operand)


def make_schedule(
    roots: Mapping[str, Use], given: Iterable[Expr], keep: Iterable[Expr] = (), split_roles: bool = False
) -> Schedule:
    """Schedule the computation of ``roots``.

    Args:
        roots: results by name, each ``[i, d]``.
        given: what stands in memory already.
        keep: further values to be stored (residuals of a later backward).
        split_roles: put row results whose tiles have the own block second into kernels of their own.
    """
    decision = _Decision(frozenset(given))
    for node in [*keep, *(use.node for use in roots.values())]:
        decision.demand(Read(node, own_binding(node)))
        if node not in decision.given or isinstance(node, Input):
            decision.awaited.setdefault(node)
            decision.stored.add(node)
    awaited = _in_order(decision)
    levels = _levels(awaited, decision)
    groups: dict[tuple[int, bool, int], list[Expr]] = {}
    place: dict[Expr, tuple[int, bool, int]] = {}
    for node in awaited:
        place[node] = _place(node, levels, place, decision, split_roles)
        groups.setdefault(place[node], []).append(node)
    for node in awaited:
        for read in leaf_reads(node, own_binding(node), decision.is_leaf):
            if read.node in place and place[read.node] != place[node]:
                decision.stored.add(read.node)
    for level, paired, role in list(groups):
        if paired and (level, False, 0) in groups:
            groups[level, paired, role] += groups.pop((level, False, 0))
    # Pairs of blocks before the rows of their level, which may read row results that were put beside them.
    order = sorted(groups, key=lambda key: (key[0], not key[1], key[2]))
    kernels = tuple(_kernel(key, groups[key], decision) for key in order)
    return Schedule(kernels, decision.given, frozenset(decision.stored), dict(roots))


def _in_order(decision: _Decision) -> list[Expr]:
    """The awaited values, each after those that it reads."""
    order: dict[Expr, None] = {}

    def visit(node: Expr) -> None:
        if node in order:
            return
        for read in leaf_reads(node, own_binding(node), decision.is_leaf):
            if read.node in decision.awaited and read.node is not node:
                visit(read.node)
        order[node] = None

    for node in decision.awaited:
        visit(node)
    return list(order)


def _levels(awaited: list[Expr], decision: _Decision) -> dict[Expr, int]:
    levels: dict[Expr, int] = {}
    for node in awaited:
        level = int(reduces_seq(node))
        for read in leaf_reads(node, own_binding(node), decision.is_leaf):
            if read.node in levels:
                at_home = read.binding == (OWN,) and seq_rank(node) < 2
                level = max(level, levels[read.node] + (not at_home))
        levels[node] = level
    return levels


def _place(
    node: Expr,
    levels: Mapping[Expr, int],
    place: Mapping[Expr, tuple[int, bool, int]],
    decision: _Decision,
    split_roles: bool,
) -> tuple[int, bool, int]:
    """The kernel of a value: its level, whether it is of pairs of blocks, and the role of its tiles."""
    level, paired = levels[node], seq_rank(node) == 2
    if paired or not split_roles:
        return level, paired, 0
    before = [
        place[read.node][2]
        for read in leaf_reads(node, own_binding(node), decision.is_leaf)
        if read.node in place and place[read.node][:2] == (level, paired)
    ]
    return level, paired, max([_role(node), *before])


def _role(node: Expr) -> int:
    """1 for a row result some of whose tiles have the own block second, else 0."""
    if not reduces_seq(node) or seq_rank(node) != 1:
        return 0
    tiles = [read for read in operand_reads(node, (OWN,)) if len(read.binding) == 2]
    return int(any(read.binding == (LOOP, OWN) for read in tiles))


def _kernel(key: tuple[int, bool, int], computes: list[Expr], decision: _Decision) -> Kernel:
    level, paired, _ = key
    passes: dict[Expr, int] = {}
    merged: dict[Expr, Expr] = {}
    for node in computes:
        if not (reduces_seq(node) and seq_rank(node) == 1):
            continue
        before = [
            read.node
            for read in leaf_reads(node, own_binding(node), decision.is_leaf)
            if read.node in computes and read.node is not node
        ]
        needed = _row_results_before(before, set(passes), decision)
        statistic = online_statistic(node)
        # Whatever else it needs must be known before that loop begins.
        if statistic in passes and all(passes[n] < passes[statistic] for n in needed - {statistic}):
            passes[node], merged[node] = passes[statistic], statistic
            continue
        passes[node] = 1 + max((passes[result] for result in needed), default=-1)
    return Kernel(tuple(computes), frozenset(decision.stored & set(computes)), passes, merged, level, paired)


def _row_results_before(nodes: list[Expr], results: set[Expr], decision: _Decision) -> set[Expr]:
    """The row results of this kernel that ``nodes`` are, or are computed from."""
    found: set[Expr] = set()
    for node in nodes:
        if node in results:
            found.add(node)
        else:
            reads = leaf_reads(node, own_binding(node), decision.is_leaf)
            found |= _row_results_before(
                [r.node for r in reads if r.node is not node and r.node not in decision.given],
                results,
                decision,
            )
    return found


def online_statistic(node: Expr) -> LogSumExp | None:
    """The logsumexp whose loop ``node`` may join.

    The one predicate of online merging: a contraction over j with exactly one factor ``exp(x - L)``, L taken of the
    same x over j, and no other factor that depends on L. The running sum is then repaired by one factor a row.
    """
    if not isinstance(node, Contraction) or not reduces_seq(node) or seq_rank(node) != 1:
        return None
    own = node.axes.index(AXIS_SEQ)
    found: list[LogSumExp] = []
    others: list[Expr] = []
    for use in product_factors(node):
        statistic = softmax_statistic(use, own)
        if statistic is None:
            others.append(use.node)
        else:
            found.append(statistic)
    if len(found) != 1 or any(found[0] in topological(other) for other in others):
        return None
    return found[0]


def product_factors(node: Contraction) -> list[Use]:
    """The factors, with those of S x S products without a sum in their place."""
    factors: list[Use] = []
    for use in node.factors:
        if isinstance(use.node, Contraction) and not use.node.summed and seq_rank(use.node) == 2:
            factors += [factor.relabelled(use.labels) for factor in product_factors(use.node)]
        else:
            factors.append(use)
    return factors


def softmax_statistic(use: Use, own: int) -> LogSumExp | None:
    """L where ``use`` is ``exp(x - L)`` with L at the own row, taken of the same x over the other index."""
    if parts := softmax_parts(use.node):
        statistic, _, axis = parts
        if statistic.summed == AXIS_SEQ and use.labels[1 - axis] == own:
            return statistic
    return None
