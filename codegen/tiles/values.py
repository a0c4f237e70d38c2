"""Values as statements on tiles, each statement in the shallowest scope that its instances allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from codegen.expr import (
    AXIS_HEAD,
    AXIS_SEQ,
    ONE,
    SCORES,
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
)
from codegen.pointwise import FUNCTIONS
from codegen.schedule import LOOP, Binding, Read, ScheduleError, reduces_seq
from codegen.tiles.labels import dimension_order, instances_of, label_instances, summed_labels, tile_axes
from codegen.tiles.operands import Part, aligned, axes_of, contract, is_matmul, masked, product_space
from codegen.tiles.program import (
    HIGHEST,
    AddWeights,
    Buffer,
    Cast,
    Combination,
    EndWeights,
    Instances,
    Let,
    Load,
    Map,
    RandomField,
    Root,
    SquaredDistances,
    Tile,
    Value,
    Weights,
)
from codegen.tiles.scopes import RESERVED, Held, Scope

HUGE_NEAR_ZERO = frozenset({"inverse_norm", "inverse_norm_slope"})
"""Functions of norms that reach 1e6 and more: where padding makes such a value, float16 would overflow in a product."""


class ValueBuilder:
    """Writes values down as statements on tiles.

    Args:
        buffers: where each value stands that is in memory or is stored.
        in_memory: what earlier kernels and the caller have stored.
        own: values that this kernel computes: they are never loaded.
    """

    def __init__(
        self, buffers: Mapping[Expr, Buffer], in_memory: frozenset[Expr], own: frozenset[Expr]
    ) -> None:
        self.buffers = buffers
        self.in_memory = in_memory
        self.computed_here = own
        self.top = Scope()
        self.inner: Scope | None = None
        self.loads: dict[Expr, None] = {}
        self.count: Counter[str] = Counter()
        self.reserved = {*RESERVED, *(buffer.name for buffer in buffers.values())}
        self.held: dict[Tile, Held] = {}
        self.loaded: dict[Tile, Load] = {}
        # A logsumexp is held as a maximum and, in base 2, what the rest adds to it: their sum would lose digits.
        self.rests: dict[Tile, Tile] = {}
        self.turns: dict[Tile, Tile] = {}

    # -- names and scopes

    def fresh(self, stem: str) -> str:
        """A name that is not taken."""
        while True:
            self.count[stem] += 1
            name = stem if self.count[stem] == 1 else f"{stem}_{self.count[stem]}"
            if name not in self.reserved:
                return name

    def scope_of(self, binding: Binding) -> Scope:
        if LOOP not in binding:
            return self.top
        if self.inner is None:
            raise ScheduleError("a value at the loop's instance is read outside of a loop")
        return self.inner

    # -- values

    def tile(self, read: Read) -> Held:
        """The tile of a value, computed or loaded where it is not known yet."""
        known = (self.inner or self.top).known(read)
        if known:
            return known
        node, binding = read.node, read.binding
        scope = self.scope_of(binding)
        order = dimension_order(node, binding)
        if isinstance(node, Input) or (node in self.in_memory and node not in self.computed_here):
            tile = self.load(node, binding, scope)
        elif reduces_seq(node):
            raise ScheduleError("a sum over S is read before the loop that computes it")
        elif isinstance(node, LogSumExp):
            tile = self.logsumexp(node, order, label_instances(node, binding), scope)
        else:
            value, zeros = self.compute(node, binding)
            stem = _stem(node)
            dimensions = frozenset(order.index(axis) for axis in zeros)
            tile = Tile(self.fresh(stem), tile_axes(node, binding), dimensions, True, stem)
            scope.body.append(Let(tile, value))
        held = Held(tile, order, scope)
        self.remember(read, held)
        return held

    def remember(self, read: Read, held: Held) -> None:
        """Make a tile known in the scope that it stands in."""
        held.home.tiles[read] = held
        self.held[held.tile] = held

    def load(self, node: Expr, binding: Binding, scope: Scope) -> Tile:
        self.loads[node] = None
        buffer, instances, axes = self.buffers[node], instances_of(node, binding), tile_axes(node, binding)
        name = self.fresh("_".join([buffer.name, *binding]))
        zeros = frozenset(range(len(axes)))
        tile = Tile(name, axes, zeros, not buffer.narrow, buffer.name)
        self.loaded[tile] = Load(tile, buffer, instances, transposed=dimension_order(node, binding) == (1, 0))
        scope.body.append(self.loaded[tile])
        if isinstance(node, LogSumExp):
            rest = Tile(self.fresh(f"{name}_rest"), axes, zeros, True, "rest")
            self.rests[tile] = rest
            scope.body.append(Load(rest, buffer, instances, second=True))
        return tile

    def turned(self, part: Part, space: Sequence[int]) -> Part:
        """The part with its dimensions in the order of ``space``, where that takes another load of a D x D value."""
        if not isinstance(part.value, Tile) or part.value not in self.held:
            return part
        load = self.loaded.get(part.value)
        if load is None or part.labels != tuple(n for n in reversed(space) if n in part.labels):
            return part
        if load.instances != (AXIS_HEAD, AXIS_HEAD):
            return part
        tile = self.turns.get(load.tile)
        if tile is None:
            name = self.fresh(f"{load.tile.name}_transposed")
            tile = Tile(name, load.tile.axes[::-1], load.tile.zeros, load.tile.wide, load.tile.role)
            held = self.held[load.tile]
            held.home.body.append(Load(tile, load.buffer, load.instances, transposed=True))
            self.turns[load.tile] = tile
            self.held[tile] = Held(tile, held.order[::-1], held.home)
        return part._replace(value=tile, labels=part.labels[::-1])

    def compute(self, node: Expr, binding: Binding) -> tuple[Value, frozenset[int]]:
        """A value that needs no sum over S, in the order of `target`, and the labels of its known zeros."""
        target = dimension_order(node, binding)
        instances = label_instances(node, binding)
        match node:
            case Pointwise(function="exp", operand=Use(node=Linear() as linear, labels=labels)) if (
                _subtracts_logsumexp(linear)
            ):
                return self.softmax(linear, labels, target, instances), frozenset()
            case Pointwise(function=function, operand=operand):
                part = self.part(operand, instances, wide=True)
                zeros = part.zeros if FUNCTIONS[function].keeps_zero else frozenset()
                held = Part(Map(function, aligned(part, target)), target, zeros)
                if function in HUGE_NEAR_ZERO:
                    for label in target:
                        held = masked(held, label, instances[label])
                return held.value, held.zeros
            case Linear(terms=terms):
                return self.combination(terms, target, instances)
            case Contraction(factors=factors):
                summed = summed_labels(node)
                parts = self.unpadded([self.part(use, instances) for use in factors], summed, instances)
                zeros = frozenset().union(*(part.zeros for part in parts)) & set(target)
                return self.contracted(parts, target, summed, instances), zeros
            case Distance():
                return Root(self.squares(node, target, instances)), frozenset()
            case Keep(stream=stream):
                # Rows are those of the value, however it is held.
                return RandomField(stream, axes_of(target, instances), target.index(0)), frozenset()
        raise ScheduleError(f"{type(node).__name__} is read but stands nowhere in memory")

    def combination(
        self, terms: Sequence[tuple[Coefficient, Use]], target: tuple[int, ...], instances: Mapping[int, str]
    ) -> tuple[Value, frozenset[int]]:
        parts = [self.part(use, instances, wide=True) for _, use in terms]
        scaled = tuple((c, aligned(part, target)) for (c, _), part in zip(terms, parts, strict=True))
        zeros = frozenset(target).intersection(*(part.zeros for part in parts))
        return Combination(scaled, axes_of(target, instances)), zeros

    def softmax(
        self,
        difference: Linear,
        labels: tuple[int, ...],
        target: tuple[int, ...],
        instances: Mapping[int, str],
    ) -> Value:
        """``exp(x - logsumexp)`` of the ``difference``, which is read with ``labels``."""
        terms = [(c, use.relabelled(labels)) for c, use in difference.terms]
        (statistic,) = (use for _, use in terms if isinstance(use.node, LogSumExp))
        whole = self.part(statistic, instances)
        if not isinstance(whole.value, Tile):
            raise ScheduleError("a logsumexp is no tile")
        rest = whole._replace(value=self.rests[whole.value])
        others = [(c, use) for c, use in terms if use != statistic]
        logits, scale = self.multiple(others, target, instances) or (
            self.combination(others, target, instances)[0],
            ONE,
        )
        return Weights(
            logits, scale, aligned(whole, target), aligned(rest, target), axes_of(target, instances)
        )

    def logits(
        self, operand: Use, target: tuple[int, ...], instances: Mapping[int, str]
    ) -> tuple[Value, Coefficient]:
        """What a logsumexp is taken of, as a tile and a scalar: scalars are multiplied with the change of base."""
        terms = [(ONE, operand)]
        if isinstance(operand.node, Linear):
            terms = [(c, use.relabelled(operand.labels)) for c, use in operand.node.terms]
        return self.multiple(terms, target, instances) or (
            aligned(self.part(operand, instances, wide=True), target),
            ONE,
        )

    def multiple(
        self, terms: Sequence[tuple[Coefficient, Use]], target: tuple[int, ...], instances: Mapping[int, str]
    ) -> tuple[Value, Coefficient] | None:
        """A sum that is one tile times a scalar: both; None for others."""
        if len(terms) != 1 or len(terms[0][1].labels) < len(target):
            return None
        ((coefficient, use),) = terms
        return aligned(self.part(use, instances, wide=True), target), coefficient

    def contracted(
        self,
        parts: Sequence[Part],
        target: tuple[int, ...],
        summed: tuple[int, ...],
        instances: Mapping[int, str],
    ) -> Value:
        """A product, its operands narrow where it is one of matrices and wide elsewhere."""
        wide = not is_matmul(parts, target, summed)
        if wide:
            space = product_space(parts, target, summed)
            parts = [self.turned(part, space) for part in parts]
        return contract([self.converted(part, wide) for part in parts], target, summed, instances)

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
        self, node: LogSumExp, target: tuple[int, ...], instances: Mapping[int, str], scope: Scope
    ) -> Tile:
        """Over an axis that the tile holds whole: its first half; `rests` knows the other."""
        label = len(node.axes)
        dims, axes = (*target, label), axes_of(target, instances)
        logits, scale = self.logits(node.operand, dims, instances)
        maximum, weight_sum = (self.statistic(stem, axes) for stem in ("maximum", "weight_sum"))
        axis, spread = instances[label], axes_of(dims, instances)
        scope.body.append(
            AddWeights(
                logits, scale, axis, len(target), spread, maximum, weight_sum, None, None, running=False
            )
        )
        whole = self.statistic("logsumexp", axes)
        rest = self.rests[whole] = Tile(self.fresh(f"{whole.name}_rest"), axes, frozenset(), True, "rest")
        scope.body.append(EndWeights(whole, rest, maximum, weight_sum, HIGHEST))
        return whole

    def statistic(self, stem: str, axes: Instances) -> Tile:
        """A tile of which nothing is known at padded places."""
        return Tile(self.fresh(stem), axes, frozenset(), True, stem)

    def squares(self, node: Distance, target: tuple[int, ...], instances: Mapping[int, str]) -> Value:
        """Squared distances, of the part of the summed axis that is at hand."""
        parts = {}
        for label, use in ((0, node.left), (1, node.right)):
            part = self.part(use, instances)
            parts[label] = part if 2 in part.zeros else masked(part, 2, instances[2])
        one, two = (aligned(parts[label], (label, 2)) for label in target)
        # A value's distance from itself is zero: such places need not be told from near ones.
        mirrored = tuple(1 if label == 0 else label for label in node.left.labels)
        same = node.left.node is node.right.node and mirrored == node.right.labels
        return SquaredDistances(one, two, same)

    # -- operands

    def part(self, use: Use, instances: Mapping[int, str], wide: bool = False) -> Part:
        """The tile of an operand, in the frame of the expression that reads it."""
        binding = tuple(
            instances[label]
            for axis, label in zip(use.node.axes, use.labels, strict=True)
            if axis == AXIS_SEQ
        )
        held = self.tile(Read(use.node, binding))
        tile = self.cast(held, True) if wide and not held.tile.wide else held.tile
        return Part(
            tile,
            tuple(use.labels[axis] for axis in held.order),
            frozenset(use.labels[axis] for axis in held.zeros),
            tile.wide,
        )

    def cast(self, held: Held, wide: bool) -> Tile:
        """The tile in the other type; once, where the tile itself stands."""
        tile = held.tile
        known = held.home.casts.get((tile, wide))
        if known is None:
            name = self.fresh(f"{tile.name}_wide" if wide else f"{tile.name}_narrow")
            known = held.home.casts[tile, wide] = Tile(name, tile.axes, tile.zeros, wide, tile.role)
            held.home.body.append(Let(known, Cast(tile, wide)))
        return known

    def converted(self, part: Part, wide: bool) -> Part:
        """The part in the other type, where it must change; outside of the loop where the tile stands there."""
        if part.wide == wide:
            return part
        held = self.held.get(part.value) if isinstance(part.value, Tile) else None
        if held is not None and (wide or held.home is not (self.inner or self.top)):
            return part._replace(value=self.cast(held, wide), wide=wide)
        return part._replace(value=Cast(part.value, wide), wide=wide)


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
        case Distance():
            return "distances"
        case Keep():
            return "kept"
        case Contraction(summed=summed) if node.axes == SCORES and summed:
            return "scores"
    return "product"
