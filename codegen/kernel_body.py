"""The body of one kernel: its loops, what it stores, and what it keeps from one tile to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen.expr import (
    AXIS_SEQ,
    SCORES,
    Axes,
    Contraction,
    Distance,
    Expr,
    LogSumExp,
)
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
from codegen.statements import Block, Line, Load, Store, names_in, without_unread_loads
from codegen.tile_source import (
    HIGHEST,
    LOWEST,
    POSITIONS,
    REAL,
    SIZES,
    Part,
    aligned,
    is_matmul,
    shape,
    spread,
)
from codegen.tile_writer import Scope, Tile, TileWriter


@dataclass(frozen=True)
class KernelBody:
    """What the template of a kernel needs, and what its plan tells.

    Attributes:
        lines: statements, loads, stores, loops and branches, in order.
        names: the names that they mention.
        loads: the values that are read from memory, each once.
        products: the axes of each product of matrices: those of its result, then the summed one.
        pointwise: the axes of each other piece of work on tiles.
        loops: for each loop over S, whether S x S tiles exist in it.
        uses_dropout: whether it draws random numbers.
        sums: the most matrices that one loop adds up.
        square_tiles: the most products that are S x S tiles in one loop.
        row_tiles: matrices of the own block outside of loops.
        loop_tiles: the most matrices that one loop reads.
    """

    lines: tuple[Line, ...]
    names: frozenset[str]
    loads: tuple[Expr, ...]
    products: tuple[Axes, ...]
    pointwise: tuple[Axes, ...]
    loops: tuple[bool, ...]
    uses_dropout: bool
    sums: int
    square_tiles: int
    row_tiles: int
    loop_tiles: int


def write_body(
    kernel: Kernel, names: Mapping[Expr, str], in_memory: frozenset[Expr], narrow: frozenset[Expr]
) -> KernelBody:
    """Write the kernel down.

    Args:
        kernel: what is computed.
        names: the name of each value that stands in memory or is stored.
        in_memory: what earlier kernels and the caller have stored.
        narrow: the stored values that have the type of the inputs.
    """
    return _KernelWriter(kernel, names, in_memory, narrow).write()


def _places(instance: str, lines: Sequence[Line]) -> list[Line]:
    """The positions of the tile that a loop is at, and which of them are real, as far as ``lines`` read them."""
    read, at, real = names_in(lines), POSITIONS[instance], REAL[instance]
    places: list[Line] = []
    if read & {at, real}:
        places.append(f"{at} = (start + tl.arange(0, {SIZES[instance]})).to(OFFSET)")
    if real in read:
        places.append(f"{real} = _real(mask_ptr, batch, {at}, tokens, FULL, HAS_MASK)")
    return places


@dataclass(frozen=True)
class _Running:
    """A sum of exponentials on its way: its maximum, its sum against that, the weights of the tile at hand, and the
    factor that repairs what was summed against an older maximum."""

    maximum: str
    weight_sum: str
    weights: str
    repair: str


class _KernelWriter(TileWriter):
    def __init__(
        self,
        kernel: Kernel,
        names: Mapping[Expr, str],
        in_memory: frozenset[Expr],
        narrow: frozenset[Expr],
    ) -> None:
        super().__init__(names, in_memory, narrow, frozenset(kernel.computes))
        self.kernel = kernel
        self.running: dict[Expr, _Running] = {}
        self.loops: list[bool] = []
        self.sums = self.square_tiles = self.loop_tiles = 0

    def write(self) -> KernelBody:
        squares = [node for node in self.kernel.computes if seq_rank(node) == 2]
        others = [node for node in self.kernel.computes if seq_rank(node) < 2]
        for node in squares:
            self.loop([node])
            self.store(node)
        if squares and others:
            outer, self.top = self.top, Scope(parent=self.top)
            self.rows(others)
            outer.lines.append(Block("if other_block == 0:", self.top.lines))
            self.top = outer
        elif self.kernel.chunked:
            self.chunk(others)
        else:
            self.rows(others)
        lines = without_unread_loads(self.top.lines, names_in(self.top.lines))
        return KernelBody(
            tuple(lines),
            frozenset(names_in(lines)),
            tuple(self.loads),
            tuple(self.products),
            tuple(self.pointwise),
            tuple(self.loops),
            self.uses_dropout,
            self.sums,
            self.square_tiles,
            sum(len(tile.axes) == 2 for tile in self.by_name.values() if tile.home.parent is None),
            self.loop_tiles,
        )

    def rows(self, nodes: list[Expr]) -> None:
        """Values of one own block: its loops, then what needs none, then its part of sums over all of S."""
        for number in sorted({self.kernel.passes[node] for node in nodes if node in self.kernel.passes}):
            self.loop([node for node in nodes if self.kernel.passes.get(node) == number])
        for node in nodes:
            if not is_whole_sum(node):
                self.store(node)
        for node in filter(is_whole_sum, nodes):
            self.store_partial(node, *self.add_up(node, self.top, OWN))

    def chunk(self, nodes: list[Expr]) -> None:
        """A walk over a chunk of own blocks, which adds up its part of sums over all of S."""
        outer, self.top = self.top, Scope()
        for node in nodes:
            if not is_whole_sum(node):
                self.store(node)
        sums = [(node, *self.add_up(node, self.top, OWN)) for node in nodes if is_whole_sum(node)]
        for _, before, _ in sums:
            outer.lines += before
        places = _places(OWN, self.top.lines)
        start = "start" if places else "_"
        header = f"for {start} in range(first, tl.minimum(first + chunk, tokens), BLOCK_OWN):"
        outer.lines.append(Block(header, [*places, *self.top.lines]))
        self.top = outer
        for node, _, source in sums:
            self.store_partial(node, [], source)

    # -- stores

    def store(self, node: Expr) -> None:
        """Write a value out, if it is one that others read from memory."""
        if node in self.kernel.stores:
            binding = own_binding(node)
            tile = self.tile(Read(node, binding))
            source = f"tl.trans({tile.name})" if tile.axes == (1, 0) else tile.name
            instances = self.instances(node, binding)
            self.top.lines.append(Store(node, instances, source))
            if isinstance(node, LogSumExp):
                self.top.lines.append(Store(node, instances, self.rests[tile.name], second=True))

    def store_partial(self, node: Expr, before: Sequence[str], source: str) -> None:
        lines = self.top.lines
        # What the running sum starts from stands before all that adds to it.
        lines[:0] = before
        target = self.target(node, ())
        if target == (1, 0):
            source = f"tl.trans({source})"
        if isinstance(node, LogSumExp):
            name, rest = self.new_logsumexp(node, source)
            lines.append(Store(node, self.instances(node, ()), name))
            lines.append(Store(node, self.instances(node, ()), rest, second=True))
            return
        lines.append(Store(node, self.instances(node, ()), source))

    # -- loops

    def loop(self, nodes: list[Expr]) -> None:
        """One loop that computes all of ``nodes``; a statistic before what is merged with it."""
        inner = self.inner = Scope(parent=self.top)
        before_products = len(self.products)
        before: list[str] = []
        after: list[tuple[Expr, str]] = []
        for node in sorted(nodes, key=lambda node: node in self.kernel.merged):
            start, end = self.add_up(node, inner, LOOP)
            before += start
            after.append((node, end))
        self.inner = None
        self.sums = max(self.sums, sum(len(node.axes) == 2 for node in nodes))
        made = self.products[before_products:]
        self.square_tiles = max(self.square_tiles, len(made) - sum(len(node.axes) == 2 for node in nodes))
        loads = sum(isinstance(line, Load) and len(line.instances) == 2 for line in inner.lines)
        self.loop_tiles = max(self.loop_tiles, loads)
        places = _places(LOOP, inner.lines)
        self.loops.append(any(OWN in read.binding and LOOP in read.binding for read in inner.tiles))
        self.top.lines += [
            *before,
            Block(
                f"for {'start' if places else '_'} in range(0, tokens, BLOCK_LOOP):", [*places, *inner.lines]
            ),
        ]
        for node, source in after:
            binding = own_binding(node)
            name = self.names[node]
            if isinstance(node, LogSumExp):
                name, self.rests[name] = self.new_logsumexp(node, source)
            elif source != name:
                self.top.lines.append(f"{name} = {source}")
            self.remember(
                Read(node, binding), Tile(name, self.target(node, binding), frozenset(), True, self.top)
            )

    def new_logsumexp(self, node: LogSumExp, source: str) -> tuple[str, str]:
        """The two halves of a logsumexp as variables, from the source of both."""
        name = self.names[node]
        rest = self.fresh(f"{name}_rest")
        self.top.lines.append(f"{name}, {rest} = {source}")
        return name, rest

    def add_up(self, node: Expr, scope: Scope, over: str) -> tuple[list[str], str]:
        """Add a sum over S at the instance ``over`` to what earlier tiles gave, by statements in ``scope``.

        Returns:
            What stands before the loop, and the source of the value after it.
        """
        binding = own_binding(node)
        target = self.target(node, binding)
        instances = self.label_instances(node, binding)
        total = self.names[node]
        zeros = f"{total} = tl.zeros({shape(target, instances)}, tl.float32)"
        match node:
            case LogSumExp():
                return self.add_exponentials(node, target, instances, scope, over)
            case Distance():
                scope.lines.append(f"{total} += {self.squares(node, target, instances)}")
                return [zeros], f"tl.sqrt({total})" if over == LOOP else total
            case Contraction(factors=()):
                scope.lines.append(f"{total} += tl.sum({'real_' + over}.to(tl.float32), 0)")
                return [f"{total} = 0.0"], total
            case Contraction() if node in self.kernel.merged:
                return [zeros], self.add_merged(node, target, instances, scope, total)
            case Contraction(factors=factors):
                summed = self.summed_labels(node)
                parts = self.unpadded([self.part(use, instances) for use in factors], summed, instances)
                if is_matmul(parts, target, summed):
                    scope.lines.append(
                        f"{total} = {self.contracted(parts, target, summed, instances, total)}"
                    )
                else:
                    scope.lines.append(f"{total} += {self.contracted(parts, target, summed, instances)}")
                return [zeros], total
        raise ScheduleError(f"a loop cannot compute {type(node).__name__}")

    def add_exponentials(
        self, node: LogSumExp, target: tuple[int, ...], instances: Mapping[int, str], scope: Scope, over: str
    ) -> tuple[list[str], str]:
        label = len(node.axes)
        # Over the loop [own, loop] is reduced, over the own block [own, D]: the parallel index stands first.
        dims = (*target, label) if over == LOOP else (label, *target)
        logits, scale = self.logits(node.operand, dims, instances)
        self.pointwise.append(self.span(dims, instances))
        maximum, weight_sum = self.fresh("maximum"), self.fresh("weight_sum")
        weights = repair = "_"
        if node in self.kernel.merged.values():
            weights, repair = self.fresh("weights"), self.fresh("repair")
        before_and_real = f"real_{over}, {maximum}, {weight_sum}, {dims.index(label)}"
        scope.lines.append(
            f"{maximum}, {weight_sum}, {weights}, {repair} = "
            f"_add_weights({logits}, {scale}, {before_and_real}, FULL, DTYPE)"
        )
        self.running[node] = _Running(maximum, weight_sum, weights, repair)
        size = shape(target, instances)
        before = [
            f"{maximum} = tl.full({size}, {LOWEST}, tl.float32)",
            f"{weight_sum} = tl.zeros({size}, tl.float32)",
        ]
        # Without a real position there are no weights; a part counts nothing then.
        nothing = HIGHEST if over == LOOP else LOWEST
        return before, f"_logsumexp({maximum}, {weight_sum}, {nothing}, DTYPE)"

    def add_merged(
        self,
        node: Contraction,
        target: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        total: str,
    ) -> str:
        """Add a contraction whose softmax is taken against the running maximum."""
        statistic = self.kernel.merged[node]
        running = self.running[statistic]
        own = node.axes.index(AXIS_SEQ)
        (loop,) = self.summed_labels(node)
        weights, others = running.weights, []
        for use in product_factors(node):
            if softmax_statistic(use, own) is statistic:
                continue
            part = self.part(use, instances)
            if set(part.labels) <= {own, loop}:
                weights += f" * {aligned(self.converted(part, wide=True), (own, loop))}"
                self.pointwise.append(SCORES)
            else:
                others.append(part)
        tile = Part(f"({weights})" if "*" in weights else weights, (own, loop), frozenset({loop}))
        repaired = f"{total} * {spread(running.repair, 0, len(target))}"
        source = self.contracted([tile, *others], target, (loop,), instances, repaired)
        scope.lines.append(f"{total} = {source}")
        weight_sum = running.weight_sum
        return f"{total} / {spread(f'tl.where({weight_sum} > 0.0, {weight_sum}, 1.0)', 0, len(target))}"
