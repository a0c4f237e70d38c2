"""Index notation: the expression nodes between a graph and generated code.

A node is a function of named indices (*labels*): ``scores[i, j] = sum_d Q[i, d] K[j, d]``. Its own axes are
labelled 0, 1, ... (its *frame*); a `Use` says with which labels of the frame a node is read, so a transpose is
only another order of labels. Labels beyond the frame are summed over. Batch and heads are not written.

Every sum and logsumexp over an axis ``S`` runs over real positions only; there are no mask nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

AXIS_SEQ = "S"
AXIS_HEAD = "D"

Axes = tuple[str, ...]

SCORES: Axes = (AXIS_SEQ, AXIS_SEQ)
MATRIX: Axes = (AXIS_SEQ, AXIS_HEAD)

MAX_NUMBER = 2**31
MAX_SCALES = 16
"""Scalars beyond these stay where the graph has them."""


class Use(NamedTuple):
    """A node read with labels: ``labels[n]`` is the label of the node's axis ``n``."""

    node: Expr
    labels: tuple[int, ...]

    def relabelled(self, labels: tuple[int, ...]) -> Use:
        """The same read in another frame: label ``n`` becomes ``labels[n]``."""
        return Use(self.node, tuple(labels[label] for label in self.labels))


class Coefficient(NamedTuple):
    """The scalar ``number / sqrt(D) ** scales``."""

    number: int = 1
    scales: int = 0

    def __mul__(self, other: object) -> Coefficient:
        if not isinstance(other, Coefficient):
            return NotImplemented
        return Coefficient(self.number * other.number, self.scales + other.scales)

    def over(self, other: Coefficient) -> Coefficient:
        """The quotient; ``other.number`` must divide."""
        return Coefficient(self.number // other.number, self.scales - other.scales)

    @property
    def moderate(self) -> bool:
        """Whether it may move through products: repeated squaring would double the digits each time."""
        return abs(self.number) <= MAX_NUMBER and self.scales <= MAX_SCALES


ONE = Coefficient()
MINUS = Coefficient(-1)


@dataclass(frozen=True, eq=False, repr=False)
class Expr:
    """A node. ``axes`` are the kinds of its own axes; ``serial`` orders nodes by creation."""

    axes: Axes
    serial: int

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.serial} [{' x '.join(self.axes)}]>"  # operands may be shared many times


@dataclass(frozen=True, eq=False, repr=False)
class Input(Expr):
    """``Q``, ``K`` or ``V``; axes S, D."""

    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Pointwise(Expr):
    """A function of one value, element by element; its name is a key of `codegen.pointwise.FUNCTIONS`."""

    function: str
    operand: Use


@dataclass(frozen=True, eq=False, repr=False)
class Linear(Expr):
    """A sum of values times scalars; a value may lack labels of the frame (it is then constant along them)."""

    terms: tuple[tuple[Coefficient, Use], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Contraction(Expr):
    """A product of values, summed over the labels beyond the frame, whose axes are ``summed``.

    Without factors it counts: the sum of ones over the summed axes.
    """

    factors: tuple[Use, ...]
    summed: Axes


@dataclass(frozen=True, eq=False, repr=False)
class LogSumExp(Expr):
    """The logarithm of the sum of exponentials over the one label beyond the frame, of axis ``summed``."""

    operand: Use
    summed: str


@dataclass(frozen=True, eq=False, repr=False)
class Keep(Expr):
    """Attention dropout: 1 / (1 - p) at entries that are kept, else 0; ``stream`` numbers the random field."""

    stream: int


@dataclass(frozen=True, eq=False, repr=False)
class Distance(Expr):
    """The Euclidean distance of rows: label 0 indexes ``left``, 1 ``right``, and 2 is summed over."""

    left: Use
    right: Use
    summed: str


def children(node: Expr) -> tuple[Use, ...]:
    """The values that ``node`` reads."""
    match node:
        case Pointwise(operand=operand) | LogSumExp(operand=operand):
            return (operand,)
        case Linear(terms=terms):
            return tuple(use for _, use in terms)
        case Contraction(factors=factors):
            return factors
        case Distance(left=left, right=right):
            return (left, right)
    return ()


def own_labels(axes: Axes) -> tuple[int, ...]:
    """The labels of a value in its own frame."""
    return tuple(range(len(axes)))


def summed_axes(node: Expr) -> Axes:
    """The axes that computing ``node`` sums over; their labels follow those of its frame."""
    match node:
        case Contraction(summed=summed):
            return summed
        case LogSumExp(summed=axis) | Distance(summed=axis):
            return (axis,)
    return ()


def is_matrix_product(node: Expr) -> bool:
    """Whether a value is ``sum_k x[i, k] y[k, j]``."""
    if not isinstance(node, Contraction) or len(node.axes) != 2 or len(node.summed) != 1:
        return False
    labels = {frozenset(use.labels) for use in node.factors}
    return len(node.factors) == 2 and labels == {frozenset((0, 2)), frozenset((1, 2))}


def topological(root: Expr) -> list[Expr]:
    """``root`` and everything it reads, operands first, each once."""
    order: dict[Expr, None] = {}

    def visit(node: Expr) -> None:
        if node in order:
            return
        for use in children(node):
            visit(use.node)
        order[node] = None

    visit(root)
    return list(order)


_LABEL_NAMES = "ijklmnpqrstuvwxyz"


def show(root: Expr) -> str:
    """The expression in index notation, a line a node, for people."""
    nodes = topological(root)
    names = {node: node.name if isinstance(node, Input) else f"x{node.serial}" for node in nodes}
    return "\n".join(
        f"{names[node]}[{_labels(range(len(node.axes)))}] = {_show_node(node, names)}"
        for node in nodes
        if not isinstance(node, Input)
    )


def _labels(labels: tuple[int, ...] | range) -> str:
    return ", ".join(_LABEL_NAMES[label] for label in labels)


def _show_node(node: Expr, names: dict[Expr, str]) -> str:
    def read(use: Use) -> str:
        return f"{names[use.node]}[{_labels(use.labels)}]"

    rank = len(node.axes)
    match node:
        case Pointwise(function=function, operand=operand):
            return f"{function}({read(operand)})"
        case Linear(terms=terms):
            return " + ".join(f"{_show_coefficient(c)}{read(use)}" for c, use in terms)
        case Contraction(factors=factors, summed=summed):
            over = "".join(f"sum_{_LABEL_NAMES[rank + n]} " for n in range(len(summed)))
            return over + (" ".join(read(use) for use in factors) or "1")
        case LogSumExp(operand=operand):
            return f"logsumexp_{_LABEL_NAMES[rank]} {read(operand)}"
        case Keep(stream=stream):
            return f"keep {stream}"
        case Distance(left=left, right=right):
            return f"distance_{_LABEL_NAMES[rank]}({read(left)}, {read(right)})"
    raise TypeError(f"not an expression node: {type(node).__name__}")


def _show_coefficient(coefficient: Coefficient) -> str:
    number = "" if coefficient.number == 1 else f"{coefficient.number} "
    return number + (f"D^({-coefficient.scales}/2) " if coefficient.scales else "")
