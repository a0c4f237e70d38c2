"""The body of one kernel: statements on tiles, each in the shallowest scope that its instances allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.expr import (
    AXIS_HEAD,
    AXIS_SEQ,
    Coefficient,
    Contraction,
    Distance,
    Expr,
    Input,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    summed_axes,
)
from codegen.pointwise import FUNCTIONS
from codegen.schedule import (
    LOOP,
    OWN,
    Binding,
    Kernel,
    Read,
    ScheduleError,
    own_binding,
    product_factors,
    reduces_seq,
    seq_rank,
    softmax_statistic,
)
from codegen.tiles import LOWEST, ORDER, Part, aligned, contract, masked, scalar, shape
from codegen.triton_functions import TRITON_FUNCTIONS


class Tile(NamedTuple):
    """A variable: ``axes[n]`` is the axis of the value that its dimension ``n`` holds, ``zeros`` are the axes at whose
    padded places it is known to be zero."""

    name: str
    axes: tuple[int, ...]
    zeros: frozenset[int]


class Access(NamedTuple):
    """A load or store: the value, where its axes are, and the variable."""

    node: Expr
    instances: tuple[str, ...]
    variable: str


@dataclass
class Scope:
    """Statements of one depth, and the tiles that are known there."""

    lines: list[str | Access] = field(default_factory=list)
    tiles: dict[Read, Tile] = field(default_factory=dict)


@dataclass(frozen=True)
class Loop:
    """A loop over tiles."""

    lines: tuple[str | Access, ...]


@dataclass(frozen=True)
class KernelBody:
    """What the template of a kernel needs.

    Attributes:
        lines: statements, loads (`Access`) and loops, in order.
        stores: what is written at the end.
        loads: the values that are read from memory, each once.
    """

    lines: tuple[str | Access | Loop, ...]
    stores: tuple[Access, ...]
    loads: tuple[Expr, ...]


def write_body(kernel: Kernel, in_memory: frozenset[Expr]) -> KernelBody:
    """Write the kernel down. ``in_memory`` is what earlier kernels and the caller have stored."""
    return _Writer(kernel, in_memory).write()


class _Writer:
    def __init__(self, kernel: Kernel, in_memory: frozenset[Expr]) -> None:
        self.kernel = kernel
        self.in_memory = in_memory
        self.top = Scope()
        self.inner: Scope | None = None
        self.body: list[str | Access | Loop] = []
        self.loads: dict[Expr, None] = {}
        self.count = 0
        self.online: dict[Expr, tuple[str, str]] = {}  # statistic -> weights exp(x - running maximum), repair
        self.running: dict[Expr, tuple[str, str]] = {}  # statistic -> running maximum, running sum of weights

    def write(self) -> KernelBody:
        kernel = self.kernel
        if kernel.paired:
            for node in kernel.computes:
                self.loop([node])
        for number in sorted(set(kernel.passes.values())):
            self.loop([node for node in kernel.computes if kernel.passes.get(node) == number])
        stores = []
        for node in kernel.computes:
            if node in kernel.stores:
                binding = own_binding(node)
                tile = (
                    self.partial(node)
                    if seq_rank(node) == 0 and reduces_seq(node)
                    else self.tile(Read(node, binding))
                )
                stores.append(Access(node, self.instances(node, binding), self.in_order(tile)))
        self.flush()
        return KernelBody(tuple(self.body), tuple(stores), tuple(self.loads))

    # -- scopes

    def flush(self) -> None:
        self.body += self.top.lines
        self.top.lines = []

    def new(self, stem: str, source: str, scope: Scope) -> str:
        self.count += 1
        name = f"{stem}_{self.count}"
        scope.lines.append(f"{name} = {source}")
        return name

    def scope_of(self, binding: Binding) -> Scope:
        if LOOP not in binding:
            return self.top
        if self.inner is None:
            raise ScheduleError("a value at the loop's instance is read outside of a loop")
        return self.inner

    # -- loops

    def loop(self, nodes: list[Expr]) -> None:
        """One loop that computes all of ``nodes``; a statistic before what is merged with it."""
        self.inner = Scope()
        before: list[str] = []
        after: list[tuple[Expr, str]] = []
        for node in sorted(nodes, key=lambda node: node in self.kernel.merged):
            start, end = self.accumulate(node)
            before += start
            after.append((node, end))
        lines = tuple(self.inner.lines)
        self.inner = None
        self.flush()
        self.body += [*before, Loop(lines)]
        for node, source in after:
            target = self.target(node, own_binding(node))
            name = self.new("result", source, self.top)
            self.top.tiles[Read(node, own_binding(node))] = Tile(name, target, frozenset())

    def accumulate(self, node: Expr) -> tuple[list[str], str]:
        """Add the loop's statements for ``node``; returns what stands before the loop, and its value after it."""
        assert self.inner is not None
        binding = own_binding(node)
        target = self.target(node, binding)
        instances = self.label_instances(node, binding)
        self.count += 1
        total = f"total_{self.count}"
        zeros = f"{total} = tl.zeros({shape(target, instances)}, tl.float32)"
        match node:
            case LogSumExp(operand=operand):
                return self.accumulate_logsumexp(node, operand, target, instances)
            case Distance(left=left, right=right):
                self.inner.lines.append(f"{total} += {self.squares(left, right, target, instances)}")
                return [zeros], f"tl.sqrt({total})"
            case Contraction() if node in self.kernel.merged:
                statistic = self.kernel.merged[node]
                weights, repair = self.online[statistic]
                _, weight_sum = self.running[statistic]
                spread = f"{repair}[:, None]" if len(target) == 2 else repair
                added = self.merged_product(node, weights, target, instances)
                self.inner.lines.append(f"{total} = {total} * {spread} + {added}")
                divisor = f"tl.where({weight_sum} > 0.0, {weight_sum}, 1.0)"
                spread = f"({divisor})[:, None]" if len(target) == 2 else divisor
                return [zeros], f"{total} / {spread}"
            case Contraction(factors=factors):
                parts = [self.part(use, instances) for use in factors]
                summed = self.summed_labels(node)
                self.inner.lines.append(f"{total} += {contract(parts, target, summed, instances)}")
                return [zeros], total
        raise ScheduleError(f"a loop cannot compute {type(node).__name__}")

    def accumulate_logsumexp(
        self, node: LogSumExp, operand: Use, target: tuple[int, ...], instances: Mapping[int, str]
    ) -> tuple[list[str], str]:
        assert self.inner is not None
        label = len(node.axes)
        part = self.part(operand, instances)
        x = aligned(masked(part, label, LOOP, LOWEST), (*target, label))
        self.count += 1
        maximum, weight_sum = f"maximum_{self.count}", f"weight_sum_{self.count}"
        x = self.new("logits", x, self.inner)
        newest = self.new("maximum", f"tl.maximum({maximum}, tl.max({x}, 1))", self.inner)
        repair = self.new("repair", f"tl.exp({maximum} - {newest})", self.inner)
        weights = self.new(
            "weights", f"tl.where(real_loop[None, :], tl.exp({x} - {newest}[:, None]), 0.0)", self.inner
        )
        self.inner.lines += [
            f"{weight_sum} = {weight_sum} * {repair} + tl.sum({weights}, 1)",
            f"{maximum} = {newest}",
        ]
        self.online[node] = (weights, repair)
        self.running[node] = (maximum, weight_sum)
        before = [
            f"{maximum} = tl.full([BLOCK_OWN], {LOWEST}, tl.float32)",
            f"{weight_sum} = tl.zeros([BLOCK_OWN], tl.float32)",
        ]
        some = f"{weight_sum} > 0.0"
        return before, f"tl.where({some}, {maximum} + tl.log(tl.where({some}, {weight_sum}, 1.0)), 0.0)"

    def merged_product(
        self,
        node: Contraction,
        weights: str,
        target: tuple[int, ...],
        instances: Mapping[int, str],
    ) -> str:
        """The contribution of a contraction whose softmax is taken against the running maximum."""
        own = node.axes.index(AXIS_SEQ)
        (loop,) = self.summed_labels(node)
        tile_source, others = weights, []
        for use in product_factors(node):
            if softmax_statistic(use, own) is self.kernel.merged[node]:
                continue
            part = self.part(use, instances)
            if set(part.labels) <= {own, loop}:
                tile_source += f" * {aligned(part, (own, loop))}"
            else:
                others.append(part)
        tile = Part(f"({tile_source})" if "*" in tile_source else tile_source, (own, loop), frozenset({loop}))
        return contract([tile, *others], target, (loop,), instances)

    # -- values

    def tile(self, read: Read) -> Tile:
        """The tile of a value, computed or loaded where it is not known yet."""
        known = self.top.tiles.get(read) or (self.inner and self.inner.tiles.get(read))
        if known:
            return known
        node, binding = read.node, read.binding
        scope = self.scope_of(binding)
        if isinstance(node, Input) or (node in self.in_memory and node not in self.kernel.computes):
            tile = self.load(node, binding, scope)
        elif reduces_seq(node):
            raise ScheduleError("a sum over S is read before the loop that computes it")
        else:
            source, zeros = self.compute(node, binding)
            target = self.target(node, binding)
            tile = Tile(self.new(_stem(node), source, scope), target, zeros)
        scope.tiles[read] = tile
        return tile

    def load(self, node: Expr, binding: Binding, scope: Scope) -> Tile:
        self.loads[node] = None
        self.count += 1
        name = f"loaded_{self.count}"
        scope.lines.append(Access(node, self.instances(node, binding), name))
        return Tile(name, tuple(range(len(node.axes))), frozenset(range(len(node.axes))))

    def compute(self, node: Expr, binding: Binding) -> tuple[str, frozenset[int]]:
        """The source of a value that needs no sum over S, in the order of `target`, and its known zeros."""
        target = self.target(node, binding)
        instances = self.label_instances(node, binding)
        match node:
            case Pointwise(function=function, operand=operand):
                part = self.part(operand, instances)
                source = aligned(part, target)
                if function == "exp" and _subtracts_logsumexp(operand.node):
                    # At padded places the statistic may be far below x; nothing may become infinite there.
                    source = f"tl.minimum({source}, 0.0)"
                zeros = part.zeros if FUNCTIONS[function].keeps_zero else frozenset()
                return TRITON_FUNCTIONS[function].format(x=source), zeros
            case Linear(terms=terms):
                return self.combination(terms, target, instances)
            case Contraction(factors=factors):
                parts = [self.part(use, instances) for use in factors]
                zeros = frozenset().union(*(part.zeros for part in parts)) & set(target)
                return contract(parts, target, self.summed_labels(node), instances), zeros
            case LogSumExp(operand=operand):
                return self.logsumexp(node, operand, target, instances), frozenset()
            case Distance(left=left, right=right):
                return f"tl.sqrt({self.squares(left, right, target, instances)})", frozenset()
        raise ScheduleError(f"{type(node).__name__} is read but stands nowhere in memory")

    def combination(
        self,
        terms: tuple[tuple[Coefficient, Use], ...],
        target: tuple[int, ...],
        instances: Mapping[int, str],
    ) -> tuple[str, frozenset[int]]:
        parts = [self.part(use, instances) for _, use in terms]
        if not terms:
            return f"tl.zeros({shape(target, instances)}, tl.float32)", frozenset(target)
        pieces = []
        for (coefficient, _), part in zip(terms, parts, strict=True):
            factor = scalar(coefficient)
            source = aligned(part, target)
            pieces.append(f"{factor} * {source}" if factor else source)
        source = " + ".join(pieces)
        if all(len(part.labels) < len(target) for part in parts):
            source = f"tl.zeros({shape(target, instances)}, tl.float32) + {source}"
        zeros = frozenset(target).intersection(*(part.zeros for part in parts))
        return source, zeros

    def logsumexp(
        self, node: LogSumExp, operand: Use, target: tuple[int, ...], instances: Mapping[int, str]
    ) -> str:
        """Over an axis that the tile holds whole."""
        label = len(node.axes)
        part = masked(self.part(operand, instances), label, instances[label], LOWEST)
        scope = self.scope_of(tuple(instances[n] for n in target))
        x = self.new("logits", aligned(part, (*target, label)), scope)
        last = len(target)
        maximum = self.new("maximum", f"tl.max({x}, {last})", scope)
        spread = f"{maximum}[:, None]" if last else maximum
        return f"{maximum} + tl.log(tl.sum(tl.exp({x} - {spread}), {last}))"

    def squares(self, left: Use, right: Use, target: tuple[int, ...], instances: Mapping[int, str]) -> str:
        parts = {}
        for label, use in ((0, left), (1, right)):
            part = self.part(use, instances)
            parts[label] = part if 2 in part.zeros else masked(part, 2, instances[2])
        one, two = (aligned(parts[label], (label, 2)) for label in target)
        return f"_squared_distances({one}, {two})"

    def partial(self, node: Expr) -> Tile:
        """The part that the own block adds to a sum over all of S."""
        instances = self.label_instances(node, ())
        target = self.target(node, ())
        match node:
            case Contraction(factors=()):
                source = "tl.sum(real_own.to(tl.float32), 0)"
            case Contraction(factors=factors):
                parts = [self.part(use, instances) for use in factors]
                source = contract(parts, target, self.summed_labels(node), instances)
            case Distance(left=left, right=right):
                source = self.squares(left, right, target, instances)
            case LogSumExp(operand=operand):
                label = len(node.axes)
                part = masked(self.part(operand, instances), label, OWN, LOWEST)
                x = self.new("logits", aligned(part, (label, *target)), self.top)
                maximum = self.new("maximum", f"tl.max({x}, 0)", self.top)
                # A block without a real position adds nothing: its maximum is the lowest number.
                source = f"{maximum} + tl.log(tl.sum(tl.exp({x} - {maximum}[None, :]), 0))"
            case _:
                raise ScheduleError(f"{type(node).__name__} is no sum over S")
        return Tile(self.new("partial", source, self.top), target, frozenset())

    # -- labels

    def part(self, use: Use, instances: Mapping[int, str]) -> Part:
        """The tile of an operand, in the frame of the expression that reads it."""
        binding = tuple(
            instances[label]
            for axis, label in zip(use.node.axes, use.labels, strict=True)
            if axis == AXIS_SEQ
        )
        tile = self.tile(Read(use.node, binding))
        return Part(
            tile.name,
            tuple(use.labels[axis] for axis in tile.axes),
            frozenset(use.labels[axis] for axis in tile.zeros),
        )

    def instances(self, node: Expr, binding: Binding) -> tuple[str, ...]:
        """The instance of each axis of a value; D for a head axis."""
        seq = iter(binding)
        return tuple(next(seq) if axis == AXIS_SEQ else AXIS_HEAD for axis in node.axes)

    def label_instances(self, node: Expr, binding: Binding) -> dict[int, str]:
        """The instance of every label of the node's frame, the summed ones included."""
        instances = dict(enumerate(self.instances(node, binding)))
        over = LOOP if binding else OWN
        for label, axis in zip(self.summed_labels(node), summed_axes(node), strict=True):
            instances[label] = over if axis == AXIS_SEQ else AXIS_HEAD
        return instances

    def summed_labels(self, node: Expr) -> tuple[int, ...]:
        rank = len(node.axes)
        return tuple(range(rank, rank + len(summed_axes(node))))

    def target(self, node: Expr, binding: Binding) -> tuple[int, ...]:
        """The axes of a value in the order of its tile's dimensions: the parallel index first."""
        instances = self.instances(node, binding)
        return tuple(sorted(range(len(node.axes)), key=lambda axis: (ORDER[instances[axis]], axis)))

    def in_order(self, tile: Tile) -> str:
        """The tile with its dimensions in the order of the value's axes."""
        return f"tl.trans({tile.name})" if tile.axes == (1, 0) else tile.name


def _subtracts_logsumexp(node: Expr) -> bool:
    return isinstance(node, Linear) and any(isinstance(use.node, LogSumExp) for _, use in node.terms)


def _stem(node: Expr) -> str:
    match node:
        case Pointwise(function=function):
            return function
        case Linear():
            return "sum"
        case LogSumExp():
            return "logsumexp"
        case Distance():
            return "distance"
    return "product"
