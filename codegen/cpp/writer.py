"""Values of a native kernel as statements on tiles, each in the shallowest scope that its instances allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codegen.cpp.functions import CPP_FUNCTIONS
from codegen.cpp.statements import EXTENTS, Action
from codegen.cpp.tiles import Part, Scope, Tile, Tiles
from codegen.expr import (
    AXIS_HEAD,
    AXIS_SEQ,
    ONE,
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
from codegen.schedule import Binding, Read, ScheduleError, reduces_seq


class Writer(Tiles):
    """Writes values down as statements, each in the shallowest scope that its instances allow."""

    # -- values

    def tile(self, read: Read) -> Tile:
        """The tile of a value, computed or loaded where it is not known yet."""
        known = (self.inner or self.top).known(read)
        if known:
            return known
        node, binding = read.node, read.binding
        scope = self.scope_of(binding)
        axes, instances = self.layout(node, binding)
        if isinstance(node, Input) or (node in self.in_memory and node not in self.computed_here):
            name = self.load(node, instances, scope)
        elif reduces_seq(node):
            raise ScheduleError("a sum over S is read before the loop that computes it")
        else:
            name = self.compute(node, binding, scope)
        tile = scope.tiles[read] = Tile(name, axes, instances, scope.depth)
        return tile

    def load(self, node: Expr, instances: tuple[str, ...], scope: Scope) -> str:
        self.loads[node] = None
        base = self.names[node]
        where = [instance for instance in instances if instance != AXIS_HEAD]
        first = f"first_{where[0]}" if where else "0"
        stem = "_".join([base, *where]) if where else f"{base}_here"
        if self.is_strided(node):
            name = self.fresh(stem)
            place = self.fresh(f"{name}_place", instances, needed=True)
            line = f"Tile {name} = load({base}_head, {first}, {EXTENTS[instances[0]]}, head_dim, {place});"
        elif len(instances) == 2:
            name = self.fresh(stem)
            line = f"Tile {name} = {{{base}_all + {first} * wide, wide}};"
        else:
            name = self.fresh(stem)
            line = f"float* {name} = {base}_all + {first};"
        lines = [line]
        if isinstance(node, LogSumExp):
            rest = self.rests[name] = self.fresh(f"{name}_rest")
            lines.append(f"float* {rest} = {name} + {self.length(instances)};")
        scope.statements.append(
            Action(tuple(lines), (), (name, *([self.rests[name]] if len(lines) > 1 else [])))
        )
        return name

    def is_strided(self, node: Expr) -> bool:
        """Whether a value stands in a tensor of PyTorch's."""
        return isinstance(node, Input) or node in self.narrow

    def length(self, instances: Sequence[str]) -> str:
        """Numbers from one vector of a stored value to the next."""
        return "wide" if instances and instances[0] == AXIS_HEAD else "long_" if instances else "16"

    def compute(self, node: Expr, binding: Binding, scope: Scope) -> str:
        """Statements for a value that needs no sum over S; its variable."""
        labels = self.target(node, binding)
        instances = self.label_instances(node, binding)
        match node:
            case Pointwise(function="exp", operand=Use(node=Linear() as linear, labels=read)) if any(
                isinstance(use.node, LogSumExp) for _, use in linear.terms
            ):
                return self.softmax(linear, read, labels, instances, scope)
            case Pointwise(function=function, operand=operand):
                text = CPP_FUNCTIONS[function].format(x="{0}")
                return self.map(
                    f"{function}_tile", text, [self.part(operand, instances)], labels, instances, scope
                )
            case Linear(terms=terms):
                return self.combination(terms, labels, instances, scope)
            case Contraction(factors=factors):
                parts = [self.part(use, instances) for use in factors]
                return self.contraction(
                    parts, labels, self.summed_labels(node), instances, scope, _stem(node)
                )
            case Distance():
                squares = self.squares(node, labels, instances, scope, None)
                return self.map(
                    "distances", "square_root({0})", [Part(squares, labels)], labels, instances, scope
                )
            case Keep():
                return self.keep(node, labels, instances, scope)
            case LogSumExp(operand=operand):
                return self.logsumexp(node, operand, labels, instances, scope)
        raise ScheduleError(f"{type(node).__name__} is read but stands nowhere in memory")

    # -- maps

    def combination(
        self,
        terms: Sequence[tuple[Coefficient, Use]],
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
    ) -> str:
        parts = [self.part(use, instances) for _, use in terms]
        if not terms:
            return self.map("zeros", "Vector{{}}", [], labels, instances, scope)
        text = ""
        for place, (coefficient, _) in enumerate(terms):
            factor, sign = scalar(coefficient), "-" if coefficient.number < 0 else "+"
            term = f"{factor} * {{{place}}}" if factor else f"{{{place}}}"
            text += (f" {sign} " if text else ("-" if sign == "-" else "")) + term
        stem = "scaled" if len(terms) == 1 else "sum"
        return self.map(stem, text, parts, labels, instances, scope)

    def softmax(
        self,
        linear: Linear,
        read: tuple[int, ...],
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
    ) -> str:
        """``exp(x - logsumexp)``."""
        terms = [(c, use.relabelled(read)) for c, use in linear.terms]
        (statistic,) = (use for _, use in terms if isinstance(use.node, LogSumExp))
        whole = self.part(statistic, instances)
        rest = whole._replace(tile=whole.tile._replace(name=self.rests[whole.tile.name]))
        others = [(c, use) for c, use in terms if use != statistic]
        logits = self.combination(others, labels, instances, scope)
        part = Part(self.here(logits, labels, instances, scope), labels)
        return self.map("p", "weight_of({0}, {1}, {2})", [part, whole, rest], labels, instances, scope)

    def keep(self, node: Keep, labels: tuple[int, ...], instances: Mapping[int, str], scope: Scope) -> str:
        """The random field; its rows and columns are those of the value, however the tile is held."""
        self.uses_dropout = True
        places = []
        for label in (0, 1):
            along, first = label == labels[0], f"first_{instances[label]}"
            if instances[label] == AXIS_HEAD:
                places.append("Integers{{}} + (int32_t)r" if along else "numbers_from(c)")
            elif along:
                places.append(f"Integers{{{{}}}} + position_of(real, {first} + r)")
            else:
                places.append(f"positions_at(real, {first} + c, count)")
        drawn = f"keep(dropout->seed, {node.stream}, (int32_t)head, {places[0]}, {places[1]}, dropout->p)"
        text = f"dropout->p > 0.0f ? {drawn} : all(1.0f)"
        return self.map("keeps", text, [], labels, instances, scope)

    # -- products and sums

    def contraction(
        self,
        parts: Sequence[Part],
        labels: tuple[int, ...],
        summed: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        stem: str,
        total: str | None = None,
    ) -> str:
        """The sum of products of ``parts`` over ``summed``, as a new variable, or added to ``total``."""
        if not summed:
            text = " * ".join(f"{{{n}}}" for n in range(len(parts)))
            return self.map(stem, text, parts, labels, instances, scope)
        if len(parts) == 2 and len(summed) == 1 and len(labels) == 2:
            left, right = parts if labels[0] in parts[0].labels else parts[::-1]
            if {*left.labels} == {labels[0], summed[0]} and {*right.labels} == {labels[1], summed[0]}:
                return self.product(left, right, labels, summed[0], instances, scope, stem, total)
        space = self.ordered([*labels, *summed], instances)
        if len(space) > 2:
            raise ScheduleError("a sum of products is no product of two matrices")
        if len(parts) == 1 and len(parts[0].labels) == len(space):
            factor = parts[0].tile.name if parts[0].labels == space else self.transposed(parts[0].tile)
        else:
            text = " * ".join(f"{{{n}}}" for n in range(len(parts)))
            factor = self.map("products", text, parts, space, instances, scope)
            self.needed.add(factor)
        return self.reduced(factor, space, labels, instances, scope, stem, total)

    def product(
        self,
        left: Part,
        right: Part,
        labels: tuple[int, ...],
        summed: int,
        instances: Mapping[int, str],
        scope: Scope,
        stem: str,
        total: str | None,
    ) -> str:
        """A product of matrices; the right operand is turned where it does not stand as [summed, columns]."""
        b = right.tile.name if right.labels[0] == summed else self.transposed(right.tile)
        a = left.tile.name
        rows, columns, depth = (EXTENTS[instances[label]] for label in (*labels, summed))
        name = total or self.fresh(stem, [instances[label] for label in labels], needed=True)
        call = "multiply" if left.labels[0] == labels[0] else "multiply_transposed"
        add = ", true" if total else ""
        line = f"{call}({rows}, {columns}, {depth}, {a}, {b}, {name}{add});"
        scope.statements.append(Action((line,), (a, b), (name,)))
        return name

    def reduced(
        self,
        factor: str,
        space: tuple[int, ...],
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        stem: str,
        total: str | None,
    ) -> str:
        """The sum of a tile over the labels of its space that are not ``labels``."""
        name = total or self.fresh(stem, [instances[label] for label in labels], needed=True)
        sizes = [EXTENTS[instances[label]] for label in space]
        size = EXTENTS[instances[labels[0]]] if labels else "1"
        lines = [] if total else [f"fill({name}, {size}, 0.0f);"]
        if len(space) == 1:
            lines.append(f"{name}[0] += sum_of_row({factor}, {sizes[0]});")
        elif not labels:
            lines.append(
                f"for (long r = 0; r < {sizes[0]}; r++) {name}[0] += sum_of_row(row_of({factor}, r), {sizes[1]});"
            )
        else:
            call = "add_rows" if labels[0] == space[1] else "add_columns"
            lines.append(f"{call}({', '.join(sizes)}, {factor}, {name});")
        scope.statements.append(Action(tuple(lines), (factor,), (name,)))
        return name

    def squares(
        self,
        node: Distance,
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        total: str | None,
    ) -> Tile:
        """Squared distances, of the part of the summed axis that is at hand."""
        parts = {0: self.part(node.left, instances), 1: self.part(node.right, instances)}
        one, two = parts[labels[0]], parts[labels[1]]
        b = two.tile.name if two.labels[0] == 2 else self.transposed(two.tile)
        a = one.tile.name
        strides = f"{a}.row, 1" if one.labels[0] == labels[0] else f"1, {a}.row"
        frame = [instances[label] for label in labels]
        rows, columns, depth = (EXTENTS[instances[label]] for label in (*labels, 2))
        name = total or self.fresh("squares", frame, needed=True)
        norms = self.fresh("norms", frame[1:], needed=True)
        products = self.fresh("inner_products", frame, needed=True)
        mirrored = node.left.node is node.right.node and node.right.labels == tuple(
            1 if label == 0 else label for label in node.left.labels
        )
        firsts = [f"first_{i}" if i != AXIS_HEAD else "0" for i in frame]
        flags = f"{'true' if total else 'false'}, {'true' if mirrored else 'false'}"
        lines = (
            f"squared_distances({rows}, {columns}, {depth}, {a}.data, {strides}, {b}, {name}, {flags},",
            f"                  {', '.join(firsts)}, {norms}, {products});",
        )
        scope.statements.append(Action(lines, (a, b), (name,)))
        return self.here(name, labels, instances, scope)

    def logsumexp(
        self,
        node: LogSumExp,
        operand: Use,
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
    ) -> str:
        """Over an axis that a tile holds whole: the variable of its first half; `rests` knows that of the other."""
        label = len(node.axes)
        space = (*labels, label)
        frame = [instances[n] for n in space]
        logits = self.logits(operand, space, instances, scope)
        name = self.fresh("logsumexp", frame[:-1], needed=True)
        rest = self.rests[name] = self.fresh(f"{name}_rest", frame[:-1], needed=True)
        if labels:
            line = f"logsumexp_of_rows({EXTENTS[frame[0]]}, {EXTENTS[frame[1]]}, {logits}, {name}, {rest});"
        else:
            line = f"logsumexp_of_rows(1, {EXTENTS[frame[0]]}, {{{logits}, 0}}, {name}, {rest});"
        scope.statements.append(Action((line,), (logits,), (name, rest)))
        return name

    def logits(self, operand: Use, space: tuple[int, ...], instances: Mapping[int, str], scope: Scope) -> str:
        """What a logsumexp is taken of, as a tile that may be written over."""
        terms = [(ONE, operand)]
        if isinstance(operand.node, Linear):
            terms = [(c, use.relabelled(operand.labels)) for c, use in operand.node.terms]
        name = self.combination(terms, space, instances, scope)
        self.needed.add(name)
        return name

    # -- operands

    def part(self, use: Use, instances: Mapping[int, str]) -> Part:
        """The tile of an operand, in the frame of the expression that reads it."""
        binding = tuple(
            instances[label]
            for axis, label in zip(use.node.axes, use.labels, strict=True)
            if axis == AXIS_SEQ
        )
        tile = self.tile(Read(use.node, binding))
        return Part(tile, tuple(use.labels[axis] for axis in tile.axes))


def scalar(coefficient: Coefficient) -> str:
    """The source of a coefficient's magnitude; empty for one."""
    factors = ["scale"] * coefficient.scales
    if abs(coefficient.number) != 1:
        factors.insert(0, f"{float(abs(coefficient.number))}f")
    return " * ".join(factors)


def _stem(node: Expr) -> str:
    return "scores" if node.axes == (AXIS_SEQ, AXIS_SEQ) else "product"
