"""The body of one native kernel: its loops, what it stores, and what it keeps from one tile to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegen.cpp.statements import EXTENTS, Action, Statement, arranged, printed
from codegen.cpp.tiles import Part, Scope, Tile, size_of
from codegen.cpp.writer import Writer
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
    softmax_statistic,
)


@dataclass(frozen=True)
class NativeBody:
    """A kernel's statements.

    Attributes:
        takes: lines that take buffers from scratch memory.
        before: lines before the blocks of a head, where a program owns one; empty otherwise.
        block: lines of one own block.
        after: lines after the blocks.
        owns_head: whether a program goes through all blocks of a head.
        reads: values that stand in memory.
        uses_dropout: whether it draws random numbers.
    """

    takes: tuple[str, ...]
    before: tuple[str, ...]
    block: tuple[str, ...]
    after: tuple[str, ...]
    owns_head: bool
    reads: tuple[Expr, ...]
    uses_dropout: bool


class _Running(NamedTuple):
    """A sum of exponentials on its way."""

    maximum: str
    weight_sum: str
    weights: str
    repair: str
    changed: str


def write_native(
    kernel: Kernel,
    names: Mapping[Expr, str],
    in_memory: frozenset[Expr],
    narrow: frozenset[Expr],
    targets: Mapping[Expr, Sequence[str]],
    swapped: Sequence[Expr] = (),
) -> NativeBody:
    """Write the kernel down.

    Args:
        kernel: what is computed.
        names: the name of each value that stands in memory or is stored.
        in_memory: what earlier kernels and the caller have stored.
        narrow: the stored values that stand in tensors of PyTorch's.
        targets: for stored values the tensors and buffers that they go to.
        swapped: sums at the tiles of the loop, over the own block, which are added up in memory (`codegen.cpp.merge`).
    """
    return _KernelWriter(kernel, names, in_memory, narrow, targets, swapped).write()


class _KernelWriter(Writer):
    def __init__(
        self,
        kernel: Kernel,
        names: Mapping[Expr, str],
        in_memory: frozenset[Expr],
        narrow: frozenset[Expr],
        targets: Mapping[Expr, Sequence[str]],
        swapped: Sequence[Expr],
    ) -> None:
        super().__init__(names, in_memory, narrow, frozenset(kernel.computes) - in_memory)
        self.kernel, self.targets, self.swapped = kernel, targets, swapped
        self.running: dict[Expr, _Running] = {}
        self.totals: dict[Expr, str] = {}
        self.kept_inside: set[str] = set()
        self.first: list[Statement] = []
        self.last: list[Statement] = []

    def write(self) -> NativeBody:
        if self.kernel.paired:
            raise ScheduleError("native kernels do not store tokens x tokens values yet")
        nodes = self.kernel.computes
        for number in sorted(set(self.kernel.passes.values())):
            self.loop([node for node in nodes if self.kernel.passes.get(node) == number])
        for node in nodes:
            if not is_whole_sum(node):
                self.store(node)
        whole = [node for node in nodes if is_whole_sum(node)]
        for node in whole:
            finish = self.add_up(node, self.top, OWN, self.first)
            outer, self.top = self.top, Scope(0)
            self.store_whole(node, finish)
            self.last += self.top.statements
            self.top = outer
        outside = {name for s in (*self.first, *self.last) for name in (*s.reads, *s.writes)}
        parts = [printed(arranged(part), outside) for part in (self.first, self.top.statements, self.last)]
        buffers = {name for _, made in parts for name in made} | self.kept_inside | self.needed
        takes = []
        for name, instances in self.buffers.items():
            if name in buffers:
                kind = "Tile" if len(instances) == 2 else "float*"
                takes.append(f"{kind} {name} = take(scratch, {size_of(instances)});")
        before, block, after = (tuple(lines) for lines, _ in parts)
        return NativeBody(
            tuple(takes),
            before,
            block,
            after,
            bool(whole or self.swapped),
            tuple(self.loads),
            self.uses_dropout,
        )

    # -- stores

    def store(self, node: Expr) -> None:
        """Write a value of the own block out, if it is one that others read from memory."""
        tile = self.tile(Read(node, own_binding(node)))
        if node not in self.kernel.stores:
            return
        for target in self.targets[node]:
            lines, reads = self.stored(node, tile, target, "first_own")
            self.top.statements.append(Action(tuple(lines), reads, ()))

    def stored(self, node: Expr, tile: Tile, target: str, first: str) -> tuple[list[str], tuple[str, ...]]:
        rows = EXTENTS[tile.instances[0]] if tile.instances else "1"
        if target.endswith("_head"):
            return [f"store({target}, {first}, {rows}, head_dim, {tile.name});"], (tile.name,)
        if len(tile.instances) == 2:
            return [f"copy({rows}, head_dim, {tile.name}, {{{target} + {first} * wide, wide}});"], (
                tile.name,
            )
        lines = [f"copy({rows}, {tile.name}, {target} + {first});"]
        if not isinstance(node, LogSumExp):
            return lines, (tile.name,)
        rest = self.rests[tile.name]
        lines.append(f"copy({rows}, {rest}, {target} + {self.length(tile.instances)} + {first});")
        return lines, (tile.name, rest)

    def store_whole(self, node: Expr, finish: str) -> None:
        axes, instances = self.layout(node, ())
        tile = Tile(finish, axes, instances, 0)
        for target in self.targets[node]:
            lines, reads = self.stored(node, tile, target, "0")
            self.top.statements.append(Action(tuple(lines), reads, ()))

    # -- loops

    def loop(self, nodes: list[Expr]) -> None:
        """One loop that computes all of ``nodes``; a statistic before what is merged with it."""
        inner = self.inner = Scope(1, self.top)
        before: list[Statement] = []
        done: list[tuple[Expr, str]] = []
        for node in sorted(nodes, key=lambda node: node in self.kernel.merged):
            done.append((node, self.add_up(node, inner, LOOP, before, later=True)))
        for node in self.swapped:
            self.add_swapped(node, inner)
        made = {name for s in inner.statements for name in s.writes}
        totals = made & ({name for s in before for name in s.writes})
        lines, buffers = printed(arranged(inner.statements), totals)
        self.kept_inside |= buffers
        reads = {name for s in inner.statements for name in s.reads} - made | totals
        header = "for (long first_loop = 0; first_loop < count; first_loop += LOOP) {"
        body = (
            header,
            "    long loop = smaller(LOOP, count - first_loop);",
            *(f"    {line}" for line in lines),
            "}",
        )
        self.top.statements += before
        self.inner = None
        # What follows the loop reads the totals under other names, so that it waits for the loop.
        ended = tuple(f"{name} after" for name in sorted(totals))
        self.top.statements.append(Action(body, tuple(sorted(reads)), ended))
        for node, _ in done:
            name = self.finish(node, waits=True)
            binding = own_binding(node)
            axes, instances = self.layout(node, binding)
            self.top.tiles[Read(node, binding)] = Tile(name, axes, instances, 0)

    def add_up(
        self, node: Expr, scope: Scope, over: str, before: list[Statement], later: bool = False
    ) -> str:
        """Add a sum over S at the instance ``over`` to what earlier tiles gave.

        Args:
            node: the sum.
            scope: where the statements go.
            over: the loop, or the own block of a sum over all of S.
            before: where what it starts from goes.
            later: whether the caller finishes it.
        """
        binding = own_binding(node)
        labels = self.target(node, binding)
        instances = self.label_instances(node, binding)
        frame = [instances[label] for label in labels]
        if isinstance(node, LogSumExp):
            self.add_exponentials(node, labels, instances, scope, before)
            return "" if later else self.finish(node, whole=True)
        total = self.fresh(self.names[node], frame, needed=True)
        self.totals[node] = total
        sizes = [EXTENTS[instance] for instance in frame] or ["1"]
        before.append(Action((f"fill({', '.join([total, *sizes])}, 0.0f);",), (), (total,)))
        match node:
            case Distance():
                self.squares(node, labels, instances, scope, total)
            case Contraction(factors=()):
                scope.statements.append(Action((f"{total}[0] += (float){EXTENTS[over]};",), (), (total,)))
            case Contraction() if node in self.kernel.merged:
                self.add_merged(node, labels, instances, scope, total)
            case Contraction(factors=factors):
                parts = [self.part(use, instances) for use in factors]
                self.contraction(parts, labels, self.summed_labels(node), instances, scope, "", total)
            case _:
                raise ScheduleError(f"a loop cannot compute {type(node).__name__}")
        return "" if later else self.finish(node, whole=True)

    def add_swapped(self, node: Expr, scope: Scope) -> None:
        """Add the own block's part of a sum at the tile of the loop to rows in memory."""
        if not isinstance(node, Contraction):
            raise ScheduleError(f"{type(node).__name__} is not added up in memory")
        labels = self.target(node, (LOOP,))
        (summed,) = self.summed_labels(node)
        instances = dict(enumerate(self.instances(node, (LOOP,)))) | {summed: OWN}
        name = self.fresh(f"{self.names[node]}_loop")
        base = f"{self.names[node]}_all + first_loop"
        parts = [self.part(use, instances) for use in node.factors]
        self.contraction(parts, labels, (summed,), instances, scope, "", name)
        action = scope.statements.pop()
        if len(labels) == 2:
            line = f"Tile {name} = {{{base} * wide, wide}};"
            fill = f"if (first_own == 0) fill({name}, loop, head_dim, 0.0f);"
        else:
            line = f"float* {name} = {base};"
            fill = f"if (first_own == 0) fill({name}, loop, 0.0f);"
        if isinstance(action, Action):
            scope.statements.append(Action((line, fill, *action.lines), action.reads, action.writes))

    def finish(self, node: Expr, waits: bool = False, whole: bool = False) -> str:
        """What makes the value of a sum when all is added; its variable."""
        binding = own_binding(node)
        labels = self.target(node, binding)
        instances = self.label_instances(node, binding)
        frame = [instances[label] for label in labels]
        statements = self.last if whole else self.top.statements
        after = " after" if waits else ""
        if isinstance(node, LogSumExp):
            running = self.running[node]
            rest = self.fresh(f"{running.maximum}_rest", frame, needed=True)
            self.rests[running.maximum] = self.rests[f"{running.maximum}_whole"] = rest
            name = self.fresh(f"{running.maximum}_whole", frame, needed=True)
            self.rests[name] = rest
            size = EXTENTS[frame[0]] if frame else "1"
            lines = (
                f"for (long c = 0; c < {size}; c += WIDTH) {{",
                f"    put({name} + c, at({running.maximum} + c));",
                f"    put({rest} + c, log2(at({running.weight_sum} + c)));",
                "}",
            )
            reads = (f"{running.maximum}{after}", f"{running.weight_sum}{after}")
            statements.append(Action(lines, reads, (name, rest)))
            return name
        total = self.totals[node]
        sums = [f"{total}{after}"]
        if node in self.kernel.merged:
            weight_sum = self.running[self.kernel.merged[node]].weight_sum
            by = f"{weight_sum}[r]" if len(frame) == 2 else f"at({weight_sum} + c)"
            text = f"{{}} / {by}"
            sums.append(f"{weight_sum}{after}")
        elif isinstance(node, Distance):
            text = "square_root({})"
        else:
            name = self.fresh(f"{total}_done")
            kind = "Tile" if len(frame) == 2 else "float*"
            statements.append(Action((f"{kind} {name} = {total};",), tuple(sums), (name,)))
            return name
        name = self.fresh(f"{total}_done", frame, needed=True)
        columns = f"for (long c = 0; c < {EXTENTS[frame[-1]] if frame else 1}; c += WIDTH)"
        if len(frame) == 2:
            value = text.format(f"at(row_of({total}, r) + c)")
            rows = f"for (long r = 0; r < {EXTENTS[frame[0]]}; r++)"
            done = [rows, f"    {columns} put(row_of({name}, r) + c, {value});"]
        else:
            done = [f"{columns} put({name} + c, {text.format(f'at({total} + c)')});"]
        statements.append(Action(tuple(done), tuple(sums), (name,)))
        return name

    def add_exponentials(
        self,
        node: LogSumExp,
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        before: list[Statement],
    ) -> None:
        label = len(node.axes)
        space = self.ordered([*labels, label], instances)
        if len(space) != 2 or space[0] != label:
            raise ScheduleError("a softmax over tokens is one of the columns of tiles")
        rows, columns = (EXTENTS[instances[n]] for n in space)
        logits = self.logits(node.operand, space, instances, scope)
        maximum, weight_sum, repair = (
            self.fresh(stem, [instances[space[1]]], needed=True)
            for stem in ("maximum", "weight_sum", "repair")
        )
        weights, changed = self.fresh("weights"), self.fresh("changed")
        lines = (f"fill({maximum}, {columns}, LOWEST);", f"fill({weight_sum}, {columns}, 0.0f);")
        before.append(Action(lines, (), (maximum, weight_sum)))
        call = f"add_weights({rows}, {columns}, {weights}, {maximum}, {weight_sum}, {repair})"
        scope.statements.append(
            Action(
                (f"Tile {weights} = {logits};", f"bool {changed} = {call};"),
                (logits,),
                (weights, changed, maximum, weight_sum, repair),
            )
        )
        self.running[node] = _Running(maximum, weight_sum, weights, repair, changed)

    def add_merged(
        self,
        node: Contraction,
        labels: tuple[int, ...],
        instances: Mapping[int, str],
        scope: Scope,
        total: str,
    ) -> None:
        """Add a contraction whose softmax is taken against the running maximum."""
        running = self.running[self.kernel.merged[node]]
        own = node.axes.index(AXIS_SEQ)
        (loop,) = self.summed_labels(node)
        space = (loop, own)
        here = Tile(running.weights, space, (LOOP, OWN), 1)
        factors, others = [Part(here, space)], list[Part]()
        for use in product_factors(node):
            if softmax_statistic(use, own) is self.kernel.merged[node]:
                continue
            part = self.part(use, instances)
            (factors if {*part.labels} <= {own, loop} else others).append(part)
        weights = running.weights
        if len(factors) > 1:
            text = " * ".join(f"{{{n}}}" for n in range(len(factors)))
            weights = self.map("weighted", text, factors, space, instances, scope)
        if len(labels) == 2:
            repair = f"if ({running.changed}) scale_rows(own, head_dim, {total}, {running.repair});"
        else:
            product = f"at({total} + c) * at({running.repair} + c)"
            repair = f"for (long c = 0; c < own; c += WIDTH) put({total} + c, {product});"
        part = Part(self.here(weights, space, instances, scope), space)
        if others:
            self.contraction([part, *others], labels, (loop,), instances, scope, "", total)
        else:
            self.needed.add(weights)
            self.reduced(weights, space, labels, instances, scope, "", total)
        action = scope.statements.pop()
        lines = (repair, *action.lines) if isinstance(action, Action) else ()
        reads = (*action.reads, running.repair, running.changed)
        scope.statements.append(Action(lines, reads, action.writes))
