"""The tile program of a kernel as statements in Triton."""

from __future__ import annotations

from collections.abc import Iterator

from codegen.expr import AXIS_HEAD, AXIS_SEQ, MINUS, Coefficient
from codegen.schedule import LOOP, OTHER, OWN
from codegen.tiles.count import axes_of_value, places
from codegen.tiles.program import (
    Accumulate,
    AddWeights,
    Buffer,
    Cast,
    Combination,
    CountReal,
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
    Quotient,
    RandomField,
    Reduce,
    Root,
    Spread,
    SquaredDistances,
    Start,
    Statement,
    Store,
    Tile,
    Transpose,
    Update,
    Value,
    Weights,
)
from codegen.triton_functions import TRITON_FUNCTIONS

SIZES = {OWN: "BLOCK_OWN", OTHER: "BLOCK_OTHER", LOOP: "BLOCK_LOOP", AXIS_HEAD: "BLOCK_D"}
POSITIONS = {OWN: "own", OTHER: "other", LOOP: "loop", AXIS_HEAD: "columns"}
"""Per instance: the variable of the positions along the axis."""
REAL = {OWN: "real_own", OTHER: "real_other", LOOP: "real_loop", AXIS_HEAD: "real_columns"}
"""Per instance: the mask of places that are not padding."""
EXTENTS = {AXIS_SEQ: "tokens", AXIS_HEAD: "D"}
"""The length of an axis."""


def print_body(body: tuple[Statement, ...]) -> Iterator[str]:
    """The lines of statements, without the indentation of the first one."""
    for statement in body:
        match statement:
            case Loop(over=over, carried=carried, body=inner):
                yield from (_start(start) for start in carried)
                placed = list(_places(over, inner))
                start = "start" if placed else "_"
                if over == LOOP:
                    yield f"for {start} in range(0, tokens, BLOCK_LOOP):"
                else:
                    yield f"for {start} in range(first, tl.minimum(first + chunk, tokens), BLOCK_OWN):"
                yield from (f"    {line}" for line in [*placed, *print_body(inner)])
            case FirstOther(body=inner):
                yield "if other_block == 0:"
                yield from (f"    {line}" for line in print_body(inner))
            case _:
                yield _statement(statement)


def print_value(value: Value) -> str:
    """The source of a value."""
    match value:
        case Tile(name=name):
            return name
        case Transpose(x):
            return f"tl.trans({print_value(x)})"
        case Spread(x, dimension):
            return _spread(print_value(x), dimension, 2)
        case Cast(x, wide):
            return f"{_held(x)}.to({'tl.float32' if wide else 'DTYPE'})"
        case Masked(x, axis, dimension):
            mask = _spread(REAL[axis], dimension, len(axes_of_value(x)))
            return f"tl.where({mask}, {print_value(x)}, 0.0)"
        case Map(function, x):
            return TRITON_FUNCTIONS[function].format(x=print_value(x))
        case Root(x):
            return f"tl.sqrt({print_value(x)})"
        case Combination():
            return _combination(value)
        case Product(factors=factors):
            return " * ".join(_held(factor) for factor in factors)
        case Reduce(x, dimension):
            return f"tl.sum({print_value(x)}, {dimension})"
        case Dot():
            return _dot(value, "")
        case SquaredDistances(left, right, same):
            rows, columns = (POSITIONS[axes_of_value(x)[0]] for x in (left, right))
            equal = f"{rows}[:, None] == {columns}[None, :]" if same else "None"
            return f"_squared_distances({print_value(left)}, {print_value(right)}, {equal}, DTYPE)"
        case Weights(logits, scale, whole, rest):
            statistic = f"{print_value(whole)}, {print_value(rest)}"
            return f"_weights({print_value(logits)}, {_factor(scale)}, {statistic}, FULL, DTYPE)"
        case RandomField(stream, axes, row):
            rows, columns = (_spread(POSITIONS[axes[n]], n, 2) for n in (row, 1 - row))
            return f"_keep(seed_ptr, {stream}, batch_head, {rows}, {columns}, dropout_p, DROPOUT)"
        case CountReal(axis):
            return f"tl.sum({REAL[axis]}.to(tl.float32), 0)"
        case Quotient(x, weight_sum):
            sums = f"tl.where({weight_sum.name} > 0.0, {weight_sum.name}, 1.0)"
            return f"{x.name} / {_spread(sums, 0, len(x.axes))}"


def _statement(statement: Statement) -> str:
    match statement:
        case Let(tile=tile, value=value) | Update(tile=tile, value=value):
            return f"{tile.name} = {print_value(value)}"
        case Load():
            return f"{statement.tile.name} = {_load(statement)}"
        case Store():
            return _store(statement)
        case Start():
            return _start(statement)
        case Accumulate(total=total, value=value, repair=repair):
            before = total.name
            if repair is not None:
                before = f"{before} * {_spread(repair.name, 0, len(total.axes))}"
            if isinstance(value, Dot):
                return f"{total.name} = {_dot(value, before)}"
            if repair is not None:
                return f"{total.name} = {before} + {print_value(value)}"
            return f"{total.name} += {print_value(value)}"
        case AddWeights():
            return _add_weights(statement)
        case EndWeights(whole, rest, maximum, weight_sum, empty):
            arguments = f"{maximum.name}, {weight_sum.name}, {_number(empty)}, DTYPE"
            return f"{whole.name}, {rest.name} = _logsumexp({arguments})"
    raise TypeError(f"not a statement of one line: {type(statement).__name__}")


def _add_weights(step: AddWeights) -> str:
    before = ", ".join(
        (step.maximum.name, step.weight_sum.name) if step.running else (_number(-1.0e30), "0.0")
    )
    results = ", ".join(
        tile.name if tile else "_" for tile in (step.maximum, step.weight_sum, step.weights, step.repair)
    )
    logits = f"{print_value(step.logits)}, {_factor(step.scale)}, {REAL[step.axis]}"
    return f"{results} = _add_weights({logits}, {before}, {step.dimension}, FULL, DTYPE)"


def _start(start: Start) -> str:
    tile = start.tile
    if not tile.axes:
        return f"{tile.name} = {_number(start.initial)}"
    if start.initial == 0.0:
        return f"{tile.name} = tl.zeros({shape(tile.axes)}, tl.float32)"
    return f"{tile.name} = tl.full({shape(tile.axes)}, {_number(start.initial)}, tl.float32)"


def _places(instance: str, body: tuple[Statement, ...]) -> Iterator[str]:
    """The positions of the tile that a loop is at, and which of them are real, as far as ``body`` reads them."""
    positions, real = places(body)
    at = POSITIONS[instance]
    if instance in positions | real:
        yield f"{at} = (start + tl.arange(0, {SIZES[instance]})).to(OFFSET)"
    if instance in real:
        yield f"{REAL[instance]} = _real(mask_ptr, batch, {at}, tokens, FULL, HAS_MASK)"


def _load(load: Load) -> str:
    name, buffer = load.buffer.name, load.buffer
    at, real = _at(load.instances)
    if not at:
        return f"tl.load({name}_ptr)"
    if len(at) == 1:
        if load.second:
            return f"_load_rest({name}_ptr + {EXTENTS[buffer.axes[0]]}, {at[0]}, {real[0]}, DTYPE)"
        return f"tl.load({name}_ptr + {at[0]}, mask={real[0]}, other=0.0)"
    strides = [_row_stride(buffer), "1"]
    order = (1, 0) if load.transposed else (0, 1)
    where = ", ".join(f"{at[n]}, {strides[n]}" for n in order)
    return f"_load({name}_ptr, {where}, {real[order[0]]}, {real[order[1]]})"


def _row_stride(buffer: Buffer) -> str:
    """Rows of matrices that kernels store are contiguous."""
    return f"{buffer.name}_row" if buffer.strided else EXTENTS[buffer.axes[1]]


def _store(store: Store) -> str:
    """Rows at padded positions are written as zero, so that nothing that stands in memory is not finite."""
    name, source = store.buffer.name, print_value(store.value)
    at, real = _at(store.instances)
    if not at:
        return f"tl.store({name}_ptr, {source})"
    limits = [EXTENTS[axis] for axis in store.buffer.axes]
    if len(at) == 1:
        second = f"{limits[0]} + " if store.second else ""
        value = f"tl.where({real[0]}, {source}, 0.0)"
        return f"tl.store({name}_ptr + {second}{at[0]}, {value}, mask={at[0]} < {limits[0]})"
    where = f"{at[0]}, {at[1]}, {real[0]}, {real[1]}, {limits[0]}, {limits[1]}"
    return f"_store({name}_ptr, {source}, {where})"


def _at(instances: Instances) -> tuple[list[str], list[str]]:
    """The variables of the positions along each axis, and of the masks."""
    return [POSITIONS[instance] for instance in instances], [REAL[instance] for instance in instances]


def _combination(value: Combination) -> str:
    if not value.terms:
        return f"tl.zeros({shape(value.axes)}, tl.float32)"
    source = ""
    # A positive term first, so that the sum reads well.
    for coefficient, term in sorted(value.terms, key=lambda each: each[0].number < 0):
        sign = "-" if coefficient.number < 0 else "+"
        factor = scalar(coefficient if coefficient.number > 0 else coefficient * MINUS)
        text = f"{factor} * {print_value(term)}" if factor else print_value(term)
        if source:
            source += f" {sign} {text}"
        else:
            source = text if sign == "+" else f"-{text}"
    if all(_lacks_an_axis(term, value.axes) for _, term in value.terms):
        source = f"tl.zeros({shape(value.axes)}, tl.float32) + ({source})"
    return source


def _lacks_an_axis(term: Value, axes: Instances) -> bool:
    return isinstance(term, Spread) or len(axes_of_value(term)) < len(axes)


def _dot(value: Dot, total: str) -> str:
    added = f", {total}" if total else ""
    return f"tl.dot({print_value(value.left)}, {print_value(value.right)}{added}, input_precision=PRECISION)"


def _held(value: Value) -> str:
    """A factor, or what a method is called of: products and sums stand in parentheses."""
    source = print_value(value)
    return f"({source})" if isinstance(value, Product | Combination) else source


def _spread(source: str, dimension: int, rank: int) -> str:
    """A vector as dimension number ``dimension`` of a tile of ``rank`` dimensions."""
    if rank < 2:
        return source
    return f"{source}[:, None]" if dimension == 0 else f"{source}[None, :]"


def scalar(coefficient: Coefficient) -> str:
    """Source of a coefficient of positive number; empty for one."""
    factors = ["SCALE"] * coefficient.scales
    if coefficient.number != 1:
        factors.insert(0, f"{float(coefficient.number)}")
    return " * ".join(factors)


def _factor(coefficient: Coefficient) -> str:
    """Source of any coefficient."""
    sign = "-" if coefficient.number < 0 else ""
    return sign + (scalar(coefficient * MINUS if sign else coefficient) or "1.0")


def _number(number: float) -> str:
    """A number with its point: -1.0e30."""
    digits, exponent, power = f"{number:.1e}".partition("e+")
    return f"{digits}e{int(power)}" if exponent and int(power) else f"{number}"


def shape(axes: Instances) -> str:
    """The shape of a tile, e.g. ``[BLOCK_OWN, BLOCK_D]``."""
    return f"[{', '.join(SIZES[axis] for axis in axes)}]"
