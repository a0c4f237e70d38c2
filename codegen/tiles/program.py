"""The tile program: how a kernel does what the schedule gave it. Data alone, no text of any language.

    kernel    = buffers read, statement*
    statement = Let          tile = value
              | Load         tile = what stands in a buffer at the tile's places; zero at padded ones
              | Store        a buffer at the tile's places = value; zero at padded ones
              | Start        tile = a number; what is added up begins so
              | Accumulate   tile = tile [* repair] + value
              | Update       tile = value, of the tile itself
              | AddWeights   one more tile of a running softmax
              | EndWeights   its logsumexp, as two numbers
              | Loop         over an S axis, with what it carries from tile to tile
              | FirstOther   a branch: only the programs whose other block is the first
    value     = Tile | work on matrices | entries
    work      = Dot(x, y) | Reduce(entries) | SquaredDistances(x, y)
    entries   = Map(function, x) | Root(x) | Combination(terms) | Product(factors) | Weights(x, statistic)
              | RandomField | CountReal | Quotient(x, weight sum) | Masked(x) | Cast(x) | Transpose(x) | Spread(x)

A tile has at most two dimensions. Each is an S axis at an *instance* (`OWN`, the block of the program; `OTHER`, the
second block of a program of pairs; `LOOP`, the tile of a loop) or the whole of D (`AXIS_HEAD`). ``BROADCAST`` is a
dimension of length one, along which entries are constant. A *narrow* tile has the type of the inputs, a *wide* one is
float32: entries are computed wide, operands of `Dot` are narrow and its result is wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codegen.expr import Axes, Coefficient

BROADCAST = "1"
Instances = tuple[str, ...]

LOWEST = -1.0e30
"""Stands for minus infinity; finite, so that differences stay finite."""
HIGHEST = 1.0e30
"""The logsumexp of nothing where weights are taken from it: they are zero, whatever the logits at padded places."""


@dataclass(frozen=True)
class Buffer:
    """A value in memory, of one head, its rows behind each other.

    Attributes:
        name: of the tensor.
        axes: its own, ``S`` and ``D``.
        narrow: whether it has the type of the inputs; float32 otherwise.
        halves: 2 for a logsumexp, whose second half stands behind the first one; else 1.
        strided: whether it is an input, whose batches, heads and rows lie as far apart as the caller says.
    """

    name: str
    axes: Axes
    narrow: bool
    halves: int
    strided: bool


@dataclass(frozen=True)
class Tile:
    """A variable: the instance of each dimension, the dimensions at whose padded places it is known to be zero, whether
    it is float32, and what it is (its role), e.g. ``"weights"``."""

    name: str
    axes: Instances
    zeros: frozenset[int]
    wide: bool
    role: str


@dataclass(frozen=True)
class Transpose:
    value: Value


@dataclass(frozen=True)
class Spread:
    """A vector as dimension ``dimension`` of a matrix, constant along the other one."""

    value: Value
    dimension: int


@dataclass(frozen=True)
class Cast:
    """Rounded to the type of the inputs, or widened to float32."""

    value: Value
    wide: bool


@dataclass(frozen=True)
class Masked:
    """Zero at the padded places along one dimension, whose instance is ``axis``."""

    value: Value
    axis: str
    dimension: int


@dataclass(frozen=True)
class Map:
    """A function of `codegen.pointwise.FUNCTIONS`, entry by entry."""

    function: str
    value: Value


@dataclass(frozen=True)
class Root:
    """The square root of entries that are not negative."""

    value: Value


@dataclass(frozen=True)
class Combination:
    """A sum of values times scalars ``number / sqrt(D) ** scales``; zeros where there are no terms."""

    terms: tuple[tuple[Coefficient, Value], ...]
    axes: Instances


@dataclass(frozen=True)
class Product:
    """Entry by entry."""

    factors: tuple[Value, ...]
    axes: Instances


@dataclass(frozen=True)
class Reduce:
    """The sum over one dimension, which goes away."""

    value: Value
    dimension: int


@dataclass(frozen=True)
class Dot:
    """[a, c] x [c, b] -> [a, b], added up in float32."""

    left: Value
    right: Value


@dataclass(frozen=True)
class SquaredDistances:
    """[a, c], [b, c] -> [a, b]: sum_c (x - y)^2, never negative, with the digits of differences where rows are near.

    ``same``: both are one value, so that entries at equal positions are zero. Operands are rounded to the type of the
    inputs first.
    """

    left: Value
    right: Value
    same: bool


@dataclass(frozen=True)
class Weights:
    """``exp(scale * logits - L)`` where L stands in two halves (`EndWeights`); finite at padded places too."""

    logits: Value
    scale: Coefficient
    whole: Value
    rest: Value
    axes: Instances


@dataclass(frozen=True)
class RandomField:
    """Attention dropout: 1 / (1 - p) at entries that are kept, else 0, drawn by Philox from the seed and (row, column,
    head, ``stream``); dimension ``row_dimension`` of the tile holds the rows."""

    stream: int
    axes: Instances
    row_dimension: int


@dataclass(frozen=True)
class CountReal:
    """How many places of the tile along an S axis are no padding: a number."""

    axis: str


@dataclass(frozen=True)
class Quotient:
    """Rows over their sums of weights, or over one where a sum is zero."""

    value: Tile
    weight_sum: Tile


Value = (
    Tile
    | Transpose
    | Spread
    | Cast
    | Masked
    | Map
    | Root
    | Combination
    | Product
    | Reduce
    | Dot
    | SquaredDistances
    | Weights
    | RandomField
    | CountReal
    | Quotient
)


@dataclass(frozen=True)
class Let:
    tile: Tile
    value: Value


@dataclass(frozen=True)
class Load:
    """``instances`` are those of the buffer's axes; ``transposed``: the second axis stands first in the tile."""

    tile: Tile
    buffer: Buffer
    instances: Instances
    transposed: bool = False
    second: bool = False


@dataclass(frozen=True)
class Store:
    """``instances`` are those of the buffer's axes, in whose order the value's dimensions stand."""

    buffer: Buffer
    value: Value
    instances: Instances
    second: bool = False


@dataclass(frozen=True)
class Start:
    tile: Tile
    initial: float


@dataclass(frozen=True)
class Accumulate:
    """``repair``: a factor a row of the total, for what was added against an older maximum."""

    total: Tile
    value: Value
    repair: Tile | None = None


@dataclass(frozen=True)
class Update:
    tile: Tile
    value: Value


@dataclass(frozen=True)
class AddWeights:
    """One more tile of a softmax over dimension ``dimension`` of ``scale * logits``, at real places along ``axis``.

    ``maximum`` and ``weight_sum`` become those with this tile; ``weights`` are its own, against that maximum, and
    ``repair`` is the factor of what was added up before, both None where nobody reads them. ``running``: ``maximum``
    and ``weight_sum`` go on from earlier tiles; otherwise they begin here.
    """

    logits: Value
    scale: Coefficient
    axis: str
    dimension: int
    axes: Instances
    maximum: Tile
    weight_sum: Tile
    weights: Tile | None
    repair: Tile | None
    running: bool


@dataclass(frozen=True)
class EndWeights:
    """A logsumexp as two numbers: in float32 its maximum and, in base 2, what the rest adds to it; in 16 bits their sum
    in base 2, and zero. ``empty`` stands for the logsumexp of nothing."""

    whole: Tile
    rest: Tile
    maximum: Tile
    weight_sum: Tile
    empty: float


@dataclass(frozen=True)
class Loop:
    """Over all tiles at `LOOP`, or over the `OWN` blocks of the program's chunk."""

    over: str
    carried: tuple[Start, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class FirstOther:
    body: tuple[Statement, ...]


Statement = Let | Load | Store | Start | Accumulate | Update | AddWeights | EndWeights | Loop | FirstOther


@dataclass(frozen=True)
class Result:
    """What a kernel writes.

    Attributes:
        buffer: where.
        parts: empty where it is written whole. A sum over all of S is written in parts, one a program, which are added
            up afterwards: ``"sum"``, ``"root"`` (of their sum), or ``"logsumexp"`` (of the two halves of each).
    """

    buffer: Buffer
    parts: str


@dataclass(frozen=True)
class TileProgram:
    """One kernel.

    Attributes:
        grid: what a program owns: ``"rows"``, an own block; ``"chunks"``, several of them one after the other;
            ``"pairs"``, an own block and another one.
        reads: in the order of its arguments.
        writes: likewise, behind ``reads``.
        body: what it does.
    """

    grid: str
    reads: tuple[Buffer, ...]
    writes: tuple[Result, ...]
    body: tuple[Statement, ...]


def operands(value: Value) -> tuple[Value, ...]:
    """The values that a value is made of."""
    match value:
        case Transpose(x) | Spread(x) | Cast(x) | Masked(x) | Map(value=x) | Root(x) | Reduce(x):
            return (x,)
        case Combination(terms=terms):
            return tuple(x for _, x in terms)
        case Product(factors=factors):
            return factors
        case Dot(left, right) | SquaredDistances(left, right) | Quotient(left, right):
            return left, right
        case Weights(logits=logits, whole=whole, rest=rest):
            return logits, whole, rest
    return ()


def values(statement: Statement) -> tuple[Value, ...]:
    """The values that a statement reads; none of those in the body of a loop or a branch."""
    match statement:
        case Let(value=value) | Store(value=value):
            return (value,)
        case Accumulate(total=total, value=value, repair=repair):
            return (total, value) if repair is None else (total, value, repair)
        case Update(value=value):
            return (value,)
        case AddWeights(logits=logits, maximum=maximum, weight_sum=weight_sum, running=running):
            return (logits, maximum, weight_sum) if running else (logits,)
        case EndWeights(maximum=maximum, weight_sum=weight_sum):
            return maximum, weight_sum
    return ()


def statements(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """All statements, those in loops and branches too, outer ones first."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop | FirstOther):
            yield from statements(statement.body)


def all_values(body: tuple[Statement, ...]) -> Iterator[Value]:
    """All values that stand in statements, with those that they are made of."""
    pending = [value for statement in statements(body) for value in values(statement)]
    while pending:
        value = pending.pop()
        yield value
        pending += operands(value)
