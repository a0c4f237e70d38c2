"""Values as statements on tiles, each statement in the shallowest scope that its instances allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.expr import (
    AXIS_HEAD,
    AXIS_SEQ,
    MINUS,
    ONE,
    SCORES,
    Axes,
    Coefficient,
    Contraction,
    Distance,
    Expr,
    Input,
    Keep,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    summed_axes,
)
from codegen.pointwise import FUNCTIONS
from codegen.schedule import LOOP, OWN, Binding, Read, ScheduleError, reduces_seq
from codegen.statements import Line, Load
from codegen.tiles import (
    HIGHEST,
    LOWEST,
    ORDER,
    POSITIONS,
    REAL,
    Part,
    aligned,
    contract,
    is_matmul,
    masked,
    product_space,
    scalar,
    shape,
    spread,
)
from codegen.triton_functions import HUGE_NEAR_ZERO, TRITON_FUNCTIONS

RESERVED = (
    "own",
    "other",
    "loop",
    "columns",
    "head",
    "heads",
    "batch",
    "tokens",
    "start",
    "block",
    "chunk",
    "first",
    "program",
)
"""Names that kernels use for something else."""


@dataclass
class Scope:
    """Statements of one depth, and the tiles that are known there."""

    parent: Scope | None = None
    lines: list[Line] = field(default_factory=list)
    tiles: dict[Read, Tile] = field(default_factory=dict)
    casts: dict[tuple[str, bool], str] = field(default_factory=dict)

    def known(self, read: Read) -> Tile | None:
        """The tile of a value that is known here or further out."""
        return self.tiles.get(read) or (self.parent.known(read) if self.parent else None)


class Tile(NamedTuple):
    """A variable: ``axes[n]`` is the axis of the value that its dimension ``n`` holds, ``zeros`` are the axes at whose
    padded places it is known to be zero; ``home`` is the scope that it stands in."""

    name: str
    axes: tuple[int, ...]
    zeros: frozenset[int]
    wide: bool
    home: Scope


class TileWriter:
    """Writes values down as statements on tiles.

    Args:
        names: the name of each value that stands in memory or is stored.
        in_memory: what earlier kernels and the caller have stored.
        narrow: the stored values that have the type of the inputs.
        own: values that this kernel computes: they are never loaded.
    """

    def __init__(
        self,
        names: Mapping[Expr, str],
        in_memory: frozenset[Expr],
        narrow: frozenset[Expr],
        own: frozenset[Expr],
    ) -> None:
        self.names = names
        self.in_memory = in_memory
        self.narrow_values = narrow
        self.computed_here = own
        self.top = Scope()
        self.inner: Scope | None = None
        self.loads: dict[Expr, None] = {}
        self.products: list[Axes] = []
        self.pointwise: list[Axes] = []
        self.uses_dropout = False
        self.count: Counter[str] = Counter()
        self.reserved = {*RESERVED, *names.values()}
        self.by_name: dict[str, Tile] = {}
        self.loaded: dict[str, Load] = {}
        # A logsumexp is held as a maximum and, in base 2, what the rest adds to it: their sum would lose digits.
        self.rests: dict[str, str] = {}
        self.turns: dict[str, str] = {}

    # -- names and scopes

    def fresh(self, stem: str) -> str:
        """A variable that is not taken."""
        while True:
            self.count[stem] += 1
            name = stem if self.count[stem] == 1 else f"{stem}_{self.count[stem]}"
            if name not in self.reserved:
                return name

    def new(self, stem: str, source: str, scope: Scope) -> str:
        """A statement; returns its variable."""
        name = self.fresh(stem)
        scope.lines.append(f"{name} = {source}")
        return name

    def scope_of(self, binding: Binding) -> Scope:
        if LOOP not in binding:
            return self.top
        if self.inner is None:
            raise ScheduleError("a value at the loop's instance is read outside of a loop")
        return self.inner

    # -- values

    def tile(self, read: Read) -> Tile:
        """The tile of a value, computed or loaded where it is not known yet."""
        known = (self.inner or self.top).known(read)
        if known:
            return known
        node, binding = read.node, read.binding
        scope = self.scope_of(binding)
        if isinstance(node, Input) or (node in self.in_memory and node not in self.computed_here):
            tile = self.load(node, binding, scope)
        elif reduces_seq(node):
            raise ScheduleError("a sum over S is read before the loop that computes it")
        elif isinstance(node, LogSumExp):
            target = self.target(node, binding)
            name = self.logsumexp(node, node.operand, target, self.label_instances(node, binding), scope)
            tile = Tile(name, target, frozenset(), True, scope)
        else:
            source, zeros = self.compute(node, binding)
            target = self.target(node, binding)
            tile = Tile(self.new(_stem(node), source, scope), target, zeros, True, scope)
        self.remember(read, tile)
        return tile

    def remember(self, read: Read, tile: Tile) -> None:
        """Make a tile known in the scope that it stands in."""
        tile.home.tiles[read] = tile
        self.by_name[tile.name] = tile

    def load(self, node: Expr, binding: Binding, scope: Scope) -> Tile:
        self.loads[node] = None
        instances = self.instances(node, binding)
        name = self.fresh("_".join([self.names[node], *binding]))
        axes = self.target(node, binding)
        self.loaded[name] = Load(node, instances, name, axes == (1, 0))
        scope.lines.append(self.loaded[name])
        if isinstance(node, LogSumExp):
            self.rests[name] = self.fresh(f"{name}_rest")
            scope.lines.append(Load(node, instances, self.rests[name], False, second=True))
        return Tile(name, axes, frozenset(axes), node not in self.narrow_values, scope)

    def turned(self, part: Part, space: Sequence[int]) -> Part:
        """The part with its dimensions in the order of ``space``, where that takes another load of a D x D value."""
        tile, load = self.by_name.get(part.source), self.loaded.get(part.source)
        if (
            tile is None
            or load is None
            or part.labels != tuple(n for n in reversed(space) if n in part.labels)
        ):
            return part
        if load.instances != (AXIS_HEAD, AXIS_HEAD):
            return part
        name = self.turns.get(load.variable)
        if name is None:
            name = self.turns[load.variable] = self.fresh(f"{load.variable}_transposed")
            tile.home.lines.append(load._replace(variable=name, transposed=True))
            self.by_name[name] = Tile(name, tile.axes[::-1], tile.zeros, tile.wide, tile.home)
        return part._replace(source=name, labels=part.labels[::-1])

    def compute(self, node: Expr, binding: Binding) -> tuple[str, frozenset[int]]:
        """The source of a value that needs no sum over S, in the order of `target`, and its known zeros."""
        target = self.target(node, binding)
        instances = self.label_instances(node, binding)
        match node:
            case Pointwise(function="exp", operand=Use(node=Linear() as linear, labels=labels)) if (
                _subtracts_logsumexp(linear)
            ):
                self.pointwise.append(self.span(target, instances))
                return self.softmax(linear, labels, target, instances), frozenset()
            case Pointwise(function=function, operand=operand):
                self.pointwise.append(self.span(target, instances))
                part = self.part(operand, instances, wide=True)
                zeros = part.zeros if FUNCTIONS[function].keeps_zero else frozenset()
                source = TRITON_FUNCTIONS[function].format(x=aligned(part, target))
                if function in HUGE_NEAR_ZERO:
                    held = Part(source, target, frozenset())
                    for label in target:
                        held = masked(held, label, instances[label])
                    return held.source, held.zeros
                return source, zeros
            case Linear(terms=terms):
                return self.combination(terms, target, instances)
            case Contraction(factors=factors):
                summed = self.summed_labels(node)
                parts = self.unpadded([self.part(use, instances) for use in factors], summed, instances)
                zeros = frozenset().union(*(part.zeros for part in parts)) & set(target)
                return self.contracted(parts, target, summed, instances), zeros
            case Distance():
                return f"tl.sqrt({self.squares(node, target, instances)})", frozenset()
            case Keep():
                return self.keep(node, target, instances), frozenset()
        raise ScheduleError(f"{type(node).__name__} is read but stands nowhere in memory")

    def combination(
        self, terms: Sequence[tuple[Coefficient, Use]], target: tuple[int, ...], instances: Mapping[int, str]
    ) -> tuple[str, frozenset[int]]:
        parts = [self.part(use, instances, wide=True) for _, use in terms]
        if not terms:
            return f"tl.zeros({shape(target, instances)}, tl.float32)", frozenset(target)
        self.pointwise.append(self.span(target, instances))
        source = ""
        # A positive term first, so that the sum reads well.
        for (coefficient, _), part in sorted(
            zip(terms, parts, strict=True), key=lambda t: t[0][0].number < 0
        ):
            sign = "-" if coefficient.number < 0 else "+"
            factor = scalar(coefficient if coefficient.number > 0 else coefficient * MINUS)
            term = f"{factor} * {aligned(part, target)}" if factor else aligned(part, target)
            if source:
                source += f" {sign} {term}"
            else:
                source = term if sign == "+" else f"-{term}"
        if all(len(part.labels) < len(target) for part in parts):
            source = f"tl.zeros({shape(target, instances)}, tl.float32) + ({source})"
        zeros = frozenset(target).intersection(*(part.zeros for part in parts))
        return source, zeros

    def softmax(
        self,
        difference: Linear,
        labels: tuple[int, ...],
        target: tuple[int, ...],
        instances: Mapping[int, str],
    ) -> str:
        """``exp(x - logsumexp)`` of the ``difference``, which is read with ``labels``."""
        terms = [(c, use.relabelled(labels)) for c, use in difference.terms]
        (statistic,) = (use for _, use in terms if isinstance(use.node, LogSumExp))
        whole = self.part(statistic, instances)
        rest = whole._replace(source=self.rests[whole.source])
        others = [(c, use) for c, use in terms if use != statistic]
        source, scale = self.multiple(others, target, instances) or (
            self.combination(others, target, instances)[0],
            "1.0",
        )
        return f"_weights({source}, {scale}, {aligned(whole, target)}, {aligned(rest, target)}, FULL, DTYPE)"

    def logits(self, operand: Use, target: tuple[int, ...], instances: Mapping[int, str]) -> tuple[str, str]:
        """What a logsumexp is taken of, as a tile and a scalar: scalars are multiplied with the change of base."""
        terms = [(ONE, operand)]
        if isinstance(operand.node, Linear):
            terms = [(c, use.relabelled(operand.labels)) for c, use in operand.node.terms]
        return self.multiple(terms, target, instances) or (
            aligned(self.part(operand, instances, wide=True), target),
            "1.0",
        )

    def multiple(
        self, terms: Sequence[tuple[Coefficient, Use]], target: tuple[int, ...], instances: Mapping[int, str]
    ) -> tuple[str, str] | None:
        """A sum that is one tile times a scalar: the sources of both; None for others."""
        if len(terms) != 1 or len(terms[0][1].labels) < len(target):
            return None
        ((coefficient, use),) = terms
        sign = "-" if coefficient.number < 0 else ""
        scale = sign + (scalar(coefficient if not sign else coefficient * MINUS) or "1.0")
        return aligned(self.part(use, instances, wide=True), target), scale

    def contracted(
        self,
        parts: Sequence[Part],
        target: tuple[int, ...],
        summed: tuple[int, ...],
        instances: Mapping[int, str],
        total: str | None = None,
    ) -> str:
        """A product, its operands narrow where it is one of matrices and wide elsewhere."""
        span = self.span((*target, *summed), instances)
        wide = not is_matmul(parts, target, summed)
        if wide:
            self.pointwise.append(span)
            space = product_space(parts, target, summed)
            parts = [self.turned(part, space) for part in parts]
        else:
            self.products.append(span)
        return contract([self.converted(part, wide) for part in parts], target, summed, total)

    def unpadded(
        self, parts: Sequence[Part], summed: Sequence[int], instances: Mapping[int, str]
    ) -> list[Part]:
        """The operands of a sum; padded places add nothing since one of them is zero there."""
        parts = list(parts)
        for label in summed:
            if not any(label in part.zeros for part in parts):
                # The smallest part that has the label is the cheapest to mask.
                position = min(
                    (n for n, part in enumerate(parts) if label in part.labels),
                    key=lambda n: len(parts[n].labels),
                )
                parts[position] = masked(parts[position], label, instances[label])
        return parts

    def logsumexp(
        self,
        node: LogSumExp,
        operand: Use,
        target: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
    ) -> str:
        """Over an axis that the tile holds whole: the variable of its first half; `rests` knows that of the other."""
        label = len(node.axes)
        dims = (*target, label)
        logits, scale = self.logits(operand, dims, instances)
        self.pointwise.append(self.span(dims, instances))
        maximum, weight_sum = self.fresh("maximum"), self.fresh("weight_sum")
        before_and_real = f"{REAL[instances[label]]}, {LOWEST}, 0.0, {len(target)}"
        scope.lines.append(
            f"{maximum}, {weight_sum}, _, _ = _add_weights({logits}, {scale}, {before_and_real}, FULL, DTYPE)"
        )
        name = self.fresh("logsumexp")
        rest = self.rests[name] = self.fresh(f"{name}_rest")
        scope.lines.append(f"{name}, {rest} = _logsumexp({maximum}, {weight_sum}, {HIGHEST}, DTYPE)")
        return name

    def squares(self, node: Distance, target: tuple[int, ...], instances: Mapping[int, str]) -> str:
        """Squared distances, of the part of the summed axis that is at hand."""
        parts = {}
        for label, use in ((0, node.left), (1, node.right)):
            part = self.part(use, instances)
            parts[label] = part if 2 in part.zeros else masked(part, 2, instances[2])
        one, two = (aligned(parts[label], (label, 2)) for label in target)
        # A value's distance from itself is zero: such places need not be told from near ones.
        same = "None"
        positions = [POSITIONS[instances[label]] for label in target]
        mirrored = tuple(1 if label == 0 else label for label in node.left.labels)
        if node.left.node is node.right.node and mirrored == node.right.labels:
            same = f"{positions[0]}[:, None] == {positions[1]}[None, :]"
        self.products.append(self.span((*target, 2), instances))
        return f"_squared_distances({one}, {two}, {same}, DTYPE)"

    def keep(self, node: Keep, target: tuple[int, ...], instances: Mapping[int, str]) -> str:
        """The random field at the places of the tile; rows and columns are those of the value, however it is held."""
        self.uses_dropout = True
        self.pointwise.append(self.span(target, instances))
        rows, columns = (
            spread(POSITIONS[instances[axis]], target.index(axis), 2) for axis in range(len(node.axes))
        )
        return f"_keep(seed_ptr, {node.stream}, batch_head, {rows}, {columns}, dropout_p, DROPOUT)"

    # -- operands

    def part(self, use: Use, instances: Mapping[int, str], wide: bool = False) -> Part:
        """The tile of an operand, in the frame of the expression that reads it."""
        binding = tuple(
            instances[label]
            for axis, label in zip(use.node.axes, use.labels, strict=True)
            if axis == AXIS_SEQ
        )
        tile = self.tile(Read(use.node, binding))
        name = self.cast(tile, True) if wide and not tile.wide else tile.name
        return Part(
            name,
            tuple(use.labels[axis] for axis in tile.axes),
            frozenset(use.labels[axis] for axis in tile.zeros),
            tile.wide or wide,
        )

    def cast(self, tile: Tile, wide: bool) -> str:
        """The tile in the other type; once, where the tile itself stands."""
        known = tile.home.casts.get((tile.name, wide))
        if known is None:
            kind, stem = ("tl.float32", f"{tile.name}_wide") if wide else ("DTYPE", f"{tile.name}_narrow")
            known = self.new(stem, f"{tile.name}.to({kind})", tile.home)
            tile.home.casts[tile.name, wide] = known
        return known

    def converted(self, part: Part, wide: bool) -> Part:
        """The part in the other type, where it must change; outside of the loop where the tile stands there."""
        if part.wide == wide:
            return part
        tile = self.by_name.get(part.source)
        if tile is not None and (wide or tile.home is not (self.inner or self.top)):
            return part._replace(source=self.cast(tile, wide), wide=wide)
        kind = "tl.float32" if wide else "DTYPE"
        return part._replace(source=f"{part.source}.to({kind})", wide=wide)

    # -- labels

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

    def span(self, labels: Sequence[int], instances: Mapping[int, str]) -> Axes:
        """The axes over which all programs together do a piece of work."""
        return tuple(
            sorted((AXIS_HEAD if instances[n] == AXIS_HEAD else AXIS_SEQ for n in labels), reverse=True)
        )


def _subtracts_logsumexp(node: Linear) -> bool:
    return any(isinstance(use.node, LogSumExp) for _, use in node.terms)


def _stem(node: Expr) -> str:
    match node:
        case Pointwise(function="exp", operand=Use(node=Linear() as linear)) if _subtracts_logsumexp(linear):
            return "weights"
        case Pointwise(function=function):
            return function
        case Linear(terms=terms) if len(terms) > 1:
            return "difference" if any(c.number < 0 for c, _ in terms) else "total"
        case Linear():
            return "scaled"
        case LogSumExp():
            return "logsumexp"
        case Distance():
            return "distances"
        case Keep():
            return "kept"
        case Contraction(summed=summed) if node.axes == SCORES and summed:
            return "scores"
    return "product"
