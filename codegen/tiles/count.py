"""What a tile program does, counted: products, other work, loops, tiles. The plan, the roofline and the model of
registers stand on these numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codegen.expr import AXIS_HEAD, AXIS_SEQ, Axes
from codegen.schedule import LOOP, OWN
from codegen.tiles.program import (
    BROADCAST,
    AddWeights,
    Cast,
    Combination,
    CountReal,
    Dot,
    FirstOther,
    Instances,
    Let,
    Load,
    Loop,
    Map,
    Masked,
    Product,
    Quotient,
    RandomField,
    Reduce,
    Spread,
    SquaredDistances,
    Statement,
    Store,
    Tile,
    TileProgram,
    Transpose,
    Value,
    Weights,
    all_values,
    operands,
    statements,
    values,
)


@dataclass(frozen=True)
class Work:
    """What a kernel does.

    Attributes:
        products: the axes of each product of matrices, over all programs: those of its result, then the summed one.
        pointwise: the axes of each other piece of work on tiles.
        loops: for each loop over S, whether S x S tiles exist in it.
        uses_dropout: whether it draws random numbers.
        sums: the most matrices that one loop adds up.
        square_tiles: the most products that are S x S tiles in one loop.
        row_tiles: matrices of the own block outside of loops.
        loop_tiles: the most matrices that one loop reads.
    """

    products: tuple[Axes, ...]
    pointwise: tuple[Axes, ...]
    loops: tuple[bool, ...]
    uses_dropout: bool
    sums: int
    square_tiles: int
    row_tiles: int
    loop_tiles: int


def count_work(program: TileProgram) -> Work:
    """The work of one kernel."""
    loops = list(_loops(program.body))
    return Work(
        tuple(span for statement in statements(program.body) for span in _products(statement)),
        tuple(span for statement in statements(program.body) for span in _pointwise(statement)),
        tuple(_holds_squares(loop) for loop, _ in loops),
        any(isinstance(value, RandomField) for value in all_values(program.body)),
        max((_sums(loop) for loop, _ in loops), default=0),
        max((products - _sums(loop) for loop, products in loops), default=0),
        _row_tiles(program.body),
        max((sum(map(_loads_matrix, loop.body)) for loop, _ in loops), default=0),
    )


def places(body: tuple[Statement, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The instances whose positions, and those whose padded places, the statements read."""
    positions: set[str] = set()
    real: set[str] = set()
    for statement in statements(body):
        if isinstance(statement, Load | Store):
            positions.update(statement.instances)
            real.update(statement.instances)
        elif isinstance(statement, AddWeights):
            real.add(statement.axis)
    for value in all_values(body):
        match value:
            case Masked(axis=axis) | CountReal(axis):
                real.add(axis)
            case RandomField(axes=axes):
                positions.update(axes)
            case SquaredDistances(left, right, same=True):
                positions.update((axes_of_value(left)[0], axes_of_value(right)[0]))
    return frozenset(positions), frozenset(real)


def axes_of_value(value: Value) -> Instances:
    """The instance of each dimension of a value."""
    match value:
        case Tile(axes=axes) | Combination(axes=axes) | Product(axes=axes) | Weights(axes=axes):
            return axes
        case RandomField(axes=axes):
            return axes
        case Transpose(x):
            return axes_of_value(x)[::-1]
        case Spread(x, dimension):
            (axis,) = axes_of_value(x)
            return (axis, BROADCAST) if dimension == 0 else (BROADCAST, axis)
        case Reduce(x, dimension):
            axes = axes_of_value(x)
            return axes[:dimension] + axes[dimension + 1 :]
        case Dot(left, right):
            return axes_of_value(left)[0], axes_of_value(right)[1]
        case SquaredDistances(left, right):
            return axes_of_value(left)[0], axes_of_value(right)[0]
        case CountReal():
            return ()
        case Quotient(value=tile):
            return tile.axes
    return axes_of_value(operands(value)[0])


def _span(axes: Instances) -> Axes:
    """The axes over which all programs together do a piece of work."""
    return tuple(sorted((AXIS_HEAD if axis == AXIS_HEAD else AXIS_SEQ for axis in axes), reverse=True))


def _products(statement: Statement) -> Iterator[Axes]:
    for root in values(statement):
        pending = [root]
        while pending:
            value = pending.pop()
            if isinstance(value, Dot | SquaredDistances):
                yield _span((*axes_of_value(value), axes_of_value(value.left)[1]))
            pending += operands(value)


def _pointwise(statement: Statement) -> Iterator[Axes]:
    """A piece of work a function, a sum, a softmax; a product is one, with the sum over it, where it is all that a
    statement does, and one a multiplication where it is an operand."""
    if isinstance(statement, AddWeights):
        yield _span(statement.axes)
    pending = [(value, True) for value in values(statement)]
    while pending:
        value, is_root = pending.pop()
        match value:
            case Map() | Weights() | RandomField():
                yield _span(axes_of_value(value))
            case Combination(terms=terms) if terms:
                yield _span(value.axes)
            case Product(factors=factors):
                yield from [_span(value.axes)] * (1 if is_root else len(factors) - 1)
        pending += [(x, is_root and isinstance(value, Reduce)) for x in operands(value)]


def _loops(body: tuple[Statement, ...]) -> Iterator[tuple[Loop, int]]:
    """The loops over S, and how many products of matrices stand in each, or before it since the last one: those are
    there for its sake."""
    products = 0
    for statement in body:
        if isinstance(statement, Loop) and statement.over == LOOP:
            yield statement, products + sum(len(list(_products(each))) for each in statements(statement.body))
            products = 0
        elif isinstance(statement, FirstOther):
            yield from _loops(statement.body)
        else:
            products += len(list(_products(statement)))


def _sums(loop: Loop) -> int:
    return sum(len(start.tile.axes) == 2 for start in loop.carried)


def _holds_squares(loop: Loop) -> bool:
    tiles = (statement.tile for statement in loop.body if isinstance(statement, Let | Load))
    return any(OWN in tile.axes and LOOP in tile.axes for tile in tiles)


def _loads_matrix(statement: Statement) -> bool:
    return isinstance(statement, Load) and len(statement.instances) == 2


def _row_tiles(body: tuple[Statement, ...]) -> int:
    found = 0
    for statement in body:
        match statement:
            case Loop(over=over, body=inner):
                found += _sums(statement) if over == LOOP else _row_tiles(inner)
            case Let(tile=tile, value=value) if not isinstance(value, Cast):
                found += len(tile.axes) == 2
            case Load(tile=tile):
                found += len(tile.axes) == 2
    return found
