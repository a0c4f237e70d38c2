"""The tile program of one kernel: its loops, what it stores, and what it keeps from one tile to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from codegen.expr import AXIS_SEQ, Contraction, Distance, Expr, LogSumExp
from codegen.schedule import (
    LOOP,
    OWN,
    Kernel,
    Read,
    ScheduleError,
    is_whole_sum,
    own_binding,
    product_factors,
    seq_rank,
    softmax_statistic,
)
from codegen.tiles.labels import dimension_order, instances_of, label_instances, summed_labels, tile_axes
from codegen.tiles.operands import Part, aligned, axes_of
from codegen.tiles.program import (
    HIGHEST,
    LOWEST,
    Accumulate,
    AddWeights,
    Buffer,
    CountReal,
    EndWeights,
    FirstOther,
    Load,
    Loop,
    Product,
    Quotient,
    Result,
    Root,
    Start,
    Statement,
    Store,
    Tile,
    TileProgram,
    Transpose,
    Update,
    Value,
    all_values,
)
from codegen.tiles.scopes import Held, Scope
from codegen.tiles.values import ValueBuilder


def build_kernel(kernel: Kernel, buffers: Mapping[Expr, Buffer], in_memory: frozenset[Expr]) -> TileProgram:
    """The tile program of a kernel.

    Args:
        kernel: what is computed.
        buffers: where each value stands that is in memory or is stored.
        in_memory: what earlier kernels and the caller have stored.
    """
    return _KernelBuilder(kernel, buffers, in_memory).build()


def stored_buffer(buffer: Buffer) -> Buffer:
    """Where a value is written: an input that is a result is copied."""
    return replace(buffer, name=f"{buffer.name}_copy", strided=False) if buffer.strided else buffer


def _parts(node: Expr) -> str:
    if not is_whole_sum(node):
        return ""
    return "logsumexp" if isinstance(node, LogSumExp) else "root" if isinstance(node, Distance) else "sum"


class _Running(NamedTuple):
    """A sum of exponentials on its way: its sum against its maximum, the weights of the tile at hand, and the factor
    that repairs what was summed against an older maximum."""

    weight_sum: Tile
    weights: Tile | None
    repair: Tile | None


class _Statistic(NamedTuple):
    """What a logsumexp is made of after its loop, and what stands for that of nothing."""

    maximum: Tile
    weight_sum: Tile
    empty: float


class _KernelBuilder(ValueBuilder):
    def __init__(self, kernel: Kernel, buffers: Mapping[Expr, Buffer], in_memory: frozenset[Expr]) -> None:
        super().__init__(buffers, in_memory, frozenset(kernel.computes))
        self.kernel = kernel
        self.running: dict[Expr, _Running] = {}

    def build(self) -> TileProgram:
        squares = [node for node in self.kernel.computes if seq_rank(node) == 2]
        others = [node for node in self.kernel.computes if seq_rank(node) < 2]
        for node in squares:
            self.loop([node])
            self.store(node)
        if squares and others:
            outer, self.top = self.top, Scope(parent=self.top)
            self.rows(others)
            outer.body.append(FirstOther(tuple(self.top.body)))
            self.top = outer
        elif self.kernel.chunked:
            self.chunk(others)
        else:
            self.rows(others)
        read = {value for value in all_values(tuple(self.top.body)) if isinstance(value, Tile)}
        stored = (node for node in self.kernel.computes if node in self.kernel.stores)
        return TileProgram(
            "pairs" if self.kernel.paired else "chunks" if self.kernel.chunked else "rows",
            tuple(self.buffers[node] for node in self.loads),
            tuple(Result(stored_buffer(self.buffers[node]), _parts(node)) for node in stored),
            _without_unread_loads(self.top.body, read),
        )

    def rows(self, nodes: list[Expr]) -> None:
        """Values of one own block: its loops, then what needs none, then its part of sums over all of S."""
        for number in sorted({self.kernel.passes[node] for node in nodes if node in self.kernel.passes}):
            self.loop([node for node in nodes if self.kernel.passes.get(node) == number])
        for node in nodes:
            if not is_whole_sum(node):
                self.store(node)
        for node in filter(is_whole_sum, nodes):
            starts, end = self.add_up(node, self.top, OWN)
            # What the running sum starts from stands before all that adds to it.
            self.top.body[:0] = starts
            self.store_partial(node, end)

    def chunk(self, nodes: list[Expr]) -> None:
        """A walk over a chunk of own blocks, which adds up its part of sums over all of S."""
        outer, self.top = self.top, Scope()
        for node in nodes:
            if not is_whole_sum(node):
                self.store(node)
        sums = [(node, *self.add_up(node, self.top, OWN)) for node in nodes if is_whole_sum(node)]
        carried = [start for _, starts, _ in sums for start in starts]
        outer.body.append(Loop(OWN, tuple(carried), tuple(self.top.body)))
        self.top = outer
        for node, _, end in sums:
            self.store_partial(node, end)

    # -- stores

    def store(self, node: Expr) -> None:
        """Write a value out, if it is one that others read from memory."""
        if node in self.kernel.stores:
            binding = own_binding(node)
            tile = self.tile(Read(node, binding))
            value = Transpose(tile.tile) if tile.order == (1, 0) else tile.tile
            instances = instances_of(node, binding)
            self.top.body.append(Store(stored_buffer(self.buffers[node]), value, instances))
            if isinstance(node, LogSumExp):
                rest = self.rests[tile.tile]
                self.top.body.append(Store(self.buffers[node], rest, instances, second=True))

    def store_partial(self, node: Expr, end: Value | _Statistic) -> None:
        body, buffer, instances = self.top.body, self.buffers[node], instances_of(node, ())
        if isinstance(end, _Statistic):
            whole, rest = self.new_logsumexp(node, end)
            body.append(Store(buffer, whole, instances))
            body.append(Store(buffer, rest, instances, second=True))
            return
        body.append(Store(buffer, Transpose(end) if dimension_order(node, ()) == (1, 0) else end, instances))

    # -- loops

    def loop(self, nodes: list[Expr]) -> None:
        """One loop that computes all of ``nodes``; a statistic before what is merged with it."""
        inner = self.inner = Scope(parent=self.top)
        carried: list[Start] = []
        after: list[tuple[Expr, Value | _Statistic]] = []
        for node in sorted(nodes, key=lambda node: node in self.kernel.merged):
            starts, end = self.add_up(node, inner, LOOP)
            carried += starts
            after.append((node, end))
        self.inner = None
        self.top.body.append(Loop(LOOP, tuple(carried), tuple(inner.body)))
        for node, end in after:
            binding = own_binding(node)
            if isinstance(end, _Statistic):
                tile, self.rests[tile] = self.new_logsumexp(node, end)
            else:
                tile = self.total(node)
                if end != tile:
                    self.top.body.append(Update(tile, end))
            self.remember(Read(node, binding), Held(tile, dimension_order(node, binding), self.top))

    def total(self, node: Expr) -> Tile:
        """The running sum of a value; nothing is known of its padded places."""
        name = self.buffers[node].name
        return Tile(name, tile_axes(node, own_binding(node)), frozenset(), True, "sum")

    def new_logsumexp(self, node: LogSumExp | Expr, end: _Statistic) -> tuple[Tile, Tile]:
        """The two halves of a logsumexp."""
        whole = self.total(node)
        rest = Tile(self.fresh(f"{whole.name}_rest"), whole.axes, frozenset(), True, "rest")
        self.top.body.append(EndWeights(whole, rest, end.maximum, end.weight_sum, end.empty))
        return whole, rest

    def add_up(self, node: Expr, scope: Scope, over: str) -> tuple[list[Start], Value | _Statistic]:
        """Add a sum over S at the instance ``over`` to what earlier tiles gave, by statements in ``scope``.

        Returns:
            What stands before the loop, and the value after it.
        """
        binding = own_binding(node)
        target = dimension_order(node, binding)
        instances = label_instances(node, binding)
        if isinstance(node, LogSumExp):
            return self.add_exponentials(node, target, instances, scope, over)
        total = self.total(node)
        starts = [Start(total, 0.0)]
        match node:
            case Distance():
                scope.body.append(Accumulate(total, self.squares(node, target, instances)))
                return starts, Root(total) if over == LOOP else total
            case Contraction(factors=()):
                scope.body.append(Accumulate(total, CountReal(over)))
                return starts, total
            case Contraction() if node in self.kernel.merged:
                return starts, self.add_merged(node, target, instances, scope, total)
            case Contraction(factors=factors):
                summed = summed_labels(node)
                parts = self.unpadded([self.part(use, instances) for use in factors], summed, instances)
                scope.body.append(Accumulate(total, self.contracted(parts, target, summed, instances)))
                return starts, total
        raise ScheduleError(f"a loop cannot compute {type(node).__name__}")

    def add_exponentials(
        self, node: LogSumExp, target: tuple[int, ...], instances: Mapping[int, str], scope: Scope, over: str
    ) -> tuple[list[Start], _Statistic]:
        label = len(node.axes)
        # Over the loop [own, loop] is reduced, over the own block [own, D]: the parallel index stands first.
        dims = (*target, label) if over == LOOP else (label, *target)
        logits, scale = self.logits(node.operand, dims, instances)
        axes, spread = axes_of(target, instances), axes_of(dims, instances)
        maximum, weight_sum = (self.statistic(stem, axes) for stem in ("maximum", "weight_sum"))
        weights = repair = None
        if node in self.kernel.merged.values():
            # Padded scores are minus infinity.
            unpadded = frozenset({dims.index(label)})
            weights = Tile(self.fresh("weights"), spread, unpadded, True, "weights")
            repair = self.statistic("repair", axes)
        scope.body.append(
            AddWeights(
                *(logits, scale, over, dims.index(label), spread, maximum, weight_sum, weights, repair),
                running=True,
            )
        )
        self.running[node] = _Running(weight_sum, weights, repair)
        # Without a real position there are no weights; a part counts nothing then.
        empty = HIGHEST if over == LOOP else LOWEST
        return [Start(maximum, LOWEST), Start(weight_sum, 0.0)], _Statistic(maximum, weight_sum, empty)

    def add_merged(
        self,
        node: Contraction,
        target: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        total: Tile,
    ) -> Value:
        """Add a contraction whose softmax is taken against the running maximum."""
        statistic = self.kernel.merged[node]
        running = self.running[statistic]
        if running.weights is None or running.repair is None:
            raise ScheduleError("a sum joins the loop of a softmax that gives no weights")
        own = node.axes.index(AXIS_SEQ)
        (loop,) = summed_labels(node)
        weights: list[Value] = [running.weights]
        others = []
        for use in product_factors(node):
            if softmax_statistic(use, own) is statistic:
                continue
            part = self.part(use, instances)
            if set(part.labels) <= {own, loop}:
                weights.append(aligned(self.converted(part, wide=True), (own, loop)))
            else:
                others.append(part)
        product = Product(tuple(weights), running.weights.axes)
        tile = Part(product if len(weights) > 1 else running.weights, (own, loop), frozenset({loop}))
        value = self.contracted([tile, *others], target, (loop,), instances)
        scope.body.append(Accumulate(total, value, running.repair))
        return Quotient(total, running.weight_sum)


def _without_unread_loads(body: Sequence[Statement], read: set[Tile]) -> tuple[Statement, ...]:
    """The statements but for loads of D x D values that are read only the other way round (`ValueBuilder.turned`)."""
    kept: list[Statement] = []
    for statement in body:
        match statement:
            case Load(tile=tile) if tile not in read:
                continue
            case Loop(over, carried, inner):
                kept.append(Loop(over, carried, _without_unread_loads(inner, read)))
            case FirstOther(inner):
                kept.append(FirstOther(_without_unread_loads(inner, read)))
            case _:
                kept.append(statement)
    return tuple(kept)
