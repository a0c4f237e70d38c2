"""The rules of a tile program, checked for every one that is built: each tile is known where it is read, axes and types
fit, what is summed is zero at padded places, what is added up begins once and is repaired, every result is written.

The rules are stated here anew: what `codegen.tiles.values` believes of zeros is derived again.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from codegen.expr import AXIS_HEAD, AXIS_SEQ
from codegen.pointwise import FUNCTIONS
from codegen.schedule import LOOP, OWN
from codegen.tiles.count import axes_of_value
from codegen.tiles.program import (
    BROADCAST,
    Accumulate,
    AddWeights,
    Buffer,
    Cast,
    Combination,
    Dot,
    EndWeights,
    FirstOther,
    Instances,
    Let,
    Load,
    Loop,
    Map,
    Masked,
    Product,
    Reduce,
    Root,
    Spread,
    SquaredDistances,
    Start,
    Statement,
    Store,
    Tile,
    TileProgram,
    Transpose,
    Update,
    Value,
    Weights,
    operands,
    statements,
    values,
)


class TileError(RuntimeError):
    """A tile program that breaks its own rules: a fault of the compiler, never of who gave the graph."""


def check_tiles(program: TileProgram) -> None:
    """Verify the tile program of one kernel.

    Raises:
        TileError: naming the tile or the buffer where a rule is broken.
    """
    walks = [part for part in statements(program.body) if isinstance(part, Loop) and part.over == OWN]
    if len(walks) != (program.grid == "chunks"):
        raise TileError(f"a program that owns {program.grid} walks over own blocks {len(walks)} times")
    _check_body(program.body, set(), frozenset(), ())
    loaded = {statement.buffer for statement in statements(program.body) if isinstance(statement, Load)}
    if loaded != set(program.reads):
        raise TileError("the buffers that are loaded are not those that the kernel is said to read")
    written: Counter[tuple[Buffer, bool]] = Counter()
    for statement in statements(program.body):
        if isinstance(statement, Store):
            written[statement.buffer, statement.second] += 1
    if {buffer for buffer, _ in written} != {result.buffer for result in program.writes}:
        raise TileError("the buffers that are stored are not those that the kernel is said to write")
    for buffer in {buffer for buffer, _ in written}:
        if [written[buffer, False], written[buffer, True]] != [1, buffer.halves - 1]:
            raise TileError(f"{buffer.name} is not written once, whole")


def _check_body(
    body: tuple[Statement, ...], known: set[Tile], running: frozenset[Tile], loops: tuple[str, ...]
) -> None:
    """``known``: tiles that may be read; ``running``: those that are added up; ``loops``: over what, outer first."""
    added: Counter[Tile] = Counter()
    repairs: dict[Tile, Tile | None] = {}
    for statement in body:
        for value in values(statement):
            _check_value(value, known, loops)
        match statement:
            case Let(tile, value):
                _check_result(tile, value)
                known.add(tile)
            case Load(tile=tile):
                _check_places(statement.buffer, statement.instances, loops)
                axes = statement.instances[::-1] if statement.transposed else statement.instances
                if tile.axes != axes or (tile.wide == statement.buffer.narrow):
                    raise TileError(f"{tile.name} is not what is loaded")
                known.add(tile)
            case Store(buffer=buffer, value=value, instances=instances):
                _check_places(buffer, instances, loops)
                if axes_of_value(value) != instances or LOOP in loops:
                    raise TileError(f"{buffer.name} is written where it does not stand")
            case Start(tile=tile):
                if loops:
                    raise TileError(f"{tile.name} begins anew with each tile of a loop")
                known.add(tile)
                running |= {tile}
            case Accumulate(total, value, repair):
                added[total] += 1
                if total not in running or total.zeros or axes_of_value(value) != total.axes:
                    raise TileError(f"{total.name} is not added up as it began")
                if repair != next(
                    (repairs[x] for x in _parts(value) if isinstance(x, Tile) and x in repairs), None
                ):
                    raise TileError(f"{total.name} is not repaired when the maximum grows")
            case Update(tile, value):
                if tile not in running or axes_of_value(value) != tile.axes:
                    raise TileError(f"{tile.name} is not changed as it stands")
            case AddWeights():
                _check_statistic(statement, running)
                added.update([statement.maximum, statement.weight_sum] if statement.running else [])
                new = {statement.maximum, statement.weight_sum, statement.weights, statement.repair}
                known |= {tile for tile in new if tile}
                if statement.weights:
                    repairs[statement.weights] = statement.repair
            case EndWeights(whole=whole, rest=rest):
                known |= {whole, rest}
            case Loop(over, carried, inner):
                if over in loops:
                    raise TileError("a loop stands in another one over the same axis")
                tiles = {start.tile for start in carried}
                _check_body(inner, known | tiles, frozenset(tiles), (*loops, over))
                known |= tiles
                running |= tiles
            case FirstOther(inner):
                _check_body(inner, set(known), frozenset(), loops)
    wanted = running if loops else frozenset(added)
    if added != Counter(wanted):
        raise TileError("what a loop carries is not added to once")


def _check_statistic(step: AddWeights, running: frozenset[Tile]) -> None:
    kept = tuple(axis for n, axis in enumerate(step.axes) if n != step.dimension)
    fits = (
        step.axes[step.dimension] == step.axis
        and step.maximum.axes == kept
        and step.weight_sum.axes == kept
        and _broadcasts(step.logits, step.axes)
    )
    if not fits or (step.running and not {step.maximum, step.weight_sum} <= running):
        raise TileError(f"the softmax of {step.weight_sum.name} does not fit its tiles")


def _check_places(buffer: Buffer, instances: Instances, loops: tuple[str, ...]) -> None:
    axes = tuple(AXIS_HEAD if instance == AXIS_HEAD else AXIS_SEQ for instance in instances)
    if axes != buffer.axes or (LOOP in instances and LOOP not in loops):
        raise TileError(f"{buffer.name} [{', '.join(buffer.axes)}] is read or written at {instances}")


def _check_result(tile: Tile, value: Value) -> None:
    axes = [axis for axis in tile.axes if axis != AXIS_HEAD]
    if len(set(axes)) != len(axes):
        raise TileError(f"{tile.name} has one block along both axes")
    if axes_of_value(value) != tile.axes:
        raise TileError(f"{tile.name} {tile.axes} is given a value {axes_of_value(value)}")
    if not tile.zeros <= _zeros(value):
        raise TileError(f"{tile.name} is taken for zero at padded places where it is not")
    if tile.wide != _is_wide(value):
        raise TileError(f"{tile.name} is not of the type of its value")


def _check_value(value: Value, known: set[Tile], loops: tuple[str, ...]) -> None:
    for operand in operands(value):
        _check_value(operand, known, loops)
    match value:
        case Tile(name=name, axes=axes):
            if value not in known or (LOOP in axes and LOOP not in loops):
                raise TileError(f"{name} is read where it is not known")
        case Dot(left, right):
            inner = axes_of_value(left)[1], axes_of_value(right)[0]
            if inner[0] != inner[1] or not (1 in _zeros(left) or 0 in _zeros(right)):
                raise TileError(f"a product sums over padded places of {inner}")
        case Reduce(x, dimension):
            if dimension not in _zeros(x):
                raise TileError(f"a sum counts padded places of {axes_of_value(x)[dimension]}")
        case SquaredDistances(left, right):
            if axes_of_value(left)[1] != axes_of_value(right)[1] or not (
                1 in _zeros(left) and 1 in _zeros(right)
            ):
                raise TileError("distances count padded places")
        case Combination(axes=axes) | Product(axes=axes):
            if not all(_broadcasts(operand, axes) for operand in operands(value)):
                raise TileError(f"operands do not fit their sum or product {axes}")
        case Weights(axes=axes):
            if not all(_broadcasts(operand, axes) for operand in operands(value)):
                raise TileError(f"weights {axes} do not fit their logits or their statistic")
    if isinstance(value, Map | Root | Combination | Product | Reduce | Weights) and not all(
        map(_is_wide, operands(value))
    ):
        raise TileError(f"a {type(value).__name__} is taken of values in 16 bits")
    if isinstance(value, Dot) and any(map(_is_wide, operands(value))):
        raise TileError("a product of matrices is taken of values in 32 bits")


def _broadcasts(value: Value, axes: Instances) -> bool:
    found = axes_of_value(value)
    if not found:
        return True
    return len(found) == len(axes) and all(a in (b, BROADCAST) for a, b in zip(found, axes, strict=True))


def _is_wide(value: Value) -> bool:
    match value:
        case Tile(wide=wide) | Cast(wide=wide):
            return wide
        case Transpose(x) | Spread(x) | Masked(x):
            return _is_wide(x)
    return True


def _zeros(value: Value) -> frozenset[int]:
    """The dimensions at whose padded places a value is zero for sure."""
    match value:
        case Tile(zeros=zeros):
            return zeros
        case Transpose(x):
            return frozenset(1 - dimension for dimension in _zeros(x))
        case Spread(x, dimension):
            return frozenset({dimension} if _zeros(x) else ())
        case Cast(x) | Root(x):
            return _zeros(x)
        case Masked(x, axis, dimension):
            return _zeros(x) | ({dimension} if axes_of_value(x)[dimension] == axis else set())
        case Map(function, x):
            return _zeros(x) if FUNCTIONS[function].numpy(np.zeros(1))[0] == 0 else frozenset()
        case Combination(terms=terms, axes=axes):
            return frozenset(range(len(axes))).intersection(*(_zeros(x) for _, x in terms))
        case Product(factors=factors):
            return frozenset().union(*map(_zeros, factors))
        case Reduce(x, dimension):
            return frozenset(n - (n > dimension) for n in _zeros(x) if n != dimension)
        case Dot(left, right):
            return (_zeros(left) & {0}) | (_zeros(right) & {1})
    return frozenset()


def _parts(value: Value) -> list[Value]:
    """A value and all that it is made of."""
    return [value, *(part for operand in operands(value) for part in _parts(operand))]
