"""Which PyTorch calls compute an expression: one step a stored or inlined value.

The decisions of the PyTorch form are made here: where a softmax is one call, and where a softmax between two
products is `scaled_dot_product_attention`. Writing the steps down as source is `codegen.emit_torch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from codegen.algebra import Builder, softmax_parts
from codegen.expr import (
    AXIS_SEQ,
    ONE,
    Coefficient,
    Contraction,
    Distance,
    Expr,
    Input,
    Linear,
    Pointwise,
    Use,
    is_matrix_product,
)


@dataclass(frozen=True)
class Step:
    """One call. ``node`` is the value that it computes, in the layout of the node's axes."""

    node: Expr


@dataclass(frozen=True)
class Given(Step):
    """An input of the graph."""

    name: str


@dataclass(frozen=True)
class Apply(Step):
    """A pointwise function."""

    function: str
    operand: Use


@dataclass(frozen=True)
class Combine(Step):
    """A linear combination."""

    terms: tuple[tuple[Coefficient, Use], ...]


@dataclass(frozen=True)
class Softmax(Step):
    """A softmax over the axis number ``axis``."""

    operand: Use
    axis: int


@dataclass(frozen=True)
class Matmul(Step):
    """``left [0, 2] @ right [2, 1]``, summed over an axis of kind ``summed``."""

    left: Use
    right: Use
    summed: str


@dataclass(frozen=True)
class Product(Step):
    """A product element by element over at most two labels, then a sum over ``summed``."""

    factors: tuple[Use, ...]
    summed: tuple[str, ...]


@dataclass(frozen=True)
class Unit(Step):
    """The vectors along label ``along`` of ``operand``, each divided by its norm."""

    operand: Use
    along: int


@dataclass(frozen=True)
class Distances(Step):
    """Distances of the rows of ``left`` ``[0, 2]`` and ``right`` ``[1, 2]``."""

    left: Use
    right: Use
    summed: str


@dataclass(frozen=True)
class Count(Step):
    """The number of real tokens of a sequence."""


@dataclass(frozen=True)
class Attend(Step):
    """``softmax(scale * query [0, 2] key [1, 2]) value [1, 2]`` in one call."""

    query: Use
    key: Use
    value: Use
    scale: Coefficient


def reads(step: Step) -> tuple[Use, ...]:
    """The values that a step reads."""
    match step:
        case Apply(operand=operand) | Softmax(operand=operand) | Unit(operand=operand):
            return (operand,)
        case Combine(terms=terms):
            return tuple(use for _, use in terms)
        case Matmul(left=left, right=right) | Distances(left=left, right=right):
            return (left, right)
        case Product(factors=factors):
            return factors
        case Attend(query=query, key=key, value=value):
            return (query, key, value)
    return ()


def select_steps(root: Use, builder: Builder) -> list[Step]:
    """The steps that compute ``root``, inputs first, then operands before what reads them.

    ``root`` must be ordered into pairwise contractions.
    """
    plain = _closure(root.node, _plain_step)
    readers = Counter(use.node for step in plain for use in reads(step))
    steps = _closure(root.node, lambda node: _match_attention(node, builder, readers) or _plain_step(node))
    return sorted(steps, key=lambda step: "QKV".index(step.name) if isinstance(step, Given) else len("QKV"))


def _closure(root: Expr, step_of: Callable[[Expr], Step]) -> list[Step]:
    """The step of ``root`` after the steps of all that it reads, each once."""
    steps: dict[Expr, Step] = {}

    def visit(node: Expr) -> None:
        if node in steps:
            return
        step = step_of(node)
        for use in reads(step):
            visit(use.node)
        steps[node] = step

    visit(root)
    return list(steps.values())


def _plain_step(node: Expr) -> Step:
    match node:
        case Input(name=name):
            return Given(node, name)
        case Pointwise(function=function, operand=operand):
            return softmax_step(node) or Apply(node, function, operand)
        case Linear(terms=terms):
            return Combine(node, terms)
        case Distance(left=left, right=right, summed=summed):
            return Distances(node, left, right, summed)
        case Contraction(factors=(), summed=(axis,)) if axis == AXIS_SEQ:
            return Count(node)
        case Contraction(factors=(one, two), summed=(axis,)) if is_matrix_product(node):
            left, right = (one, two) if 0 in one.labels else (two, one)
            return Matmul(node, left, right, axis)
        case Contraction(factors=factors, summed=summed):
            return _unit_step(node) or Product(node, factors, summed)
    raise TypeError(f"no PyTorch step computes {type(node).__name__}")


def _unit_step(node: Contraction) -> Unit | None:
    """The step of vectors divided by their norms, ``x[i, j] inverse_norm(sum_k x[i, k]^2)[i]``; None for others."""
    if len(node.axes) != 2 or len(node.factors) != 2 or node.summed:
        return None
    for x, scale in (node.factors, node.factors[::-1]):
        match scale.node:
            case Pointwise(
                function="inverse_norm",
                operand=Use(node=Contraction(factors=(one, two), summed=(_,))),
            ) if one == two and one.node is x.node and len(x.labels) == 2:
                kept = one.labels.index(0)
                if scale.labels == (x.labels[kept],):
                    return Unit(node, x, x.labels[1 - kept])
    return None


def softmax_step(node: Expr) -> Softmax | None:
    """The softmax that ``node`` is, or None."""
    if parts := softmax_parts(node):
        _, logits, axis = parts
        return Softmax(node, logits, axis)
    return None


def _match_attention(node: Expr, builder: Builder, readers: Counter[Expr]) -> Attend | None:
    """The one-call form of ``softmax(a A B^T) C``, where nobody else reads the softmax."""
    match node:
        case Contraction(axes=("S", "D"), factors=(one, two), summed=("S",)) if is_matrix_product(node):
            weights, value = (one, two) if 0 in one.labels else (two, one)
        case _:
            return None
    match weights.node:
        case Pointwise(function="dropout", operand=operand):
            softmax = softmax_step(operand.node)
        case _:
            return None
    if softmax is None or weights.labels[softmax.axis] != 2:
        return None
    if readers[weights.node] > 1 or readers[softmax.node] > 1:
        return None

    scale, scores = _split_scale(softmax.operand)
    match scores:
        case Use(node=Contraction(axes=("S", "S"), summed=("D",)) as product) if is_matrix_product(product):
            query, key = query_and_key(softmax, scores.labels, product)
        case _:
            return None
    value = value.relabelled((0, 2, 1))
    if scale.number < 0:
        # Fused kernels assume a positive scale when they take the maximum: the sign moves into the keys.
        negated = builder.linear([(Coefficient(-1), Use(key.node, (0, 1)))], key.node.axes)
        key = negated.relabelled(key.labels)
        scale = Coefficient(-scale.number, scale.scales)
    return Attend(node, query, key, value, scale)


def query_and_key(softmax: Softmax, labels: tuple[int, ...], scores: Contraction) -> tuple[Use, Use]:
    """The factors of ``scores``, read with ``labels``, as query ``[0, 2]`` and key ``[1, 2]`` of an `Attend`.

    The query has the label that the softmax keeps, the key the one that it runs over.
    """
    left, right = scores.factors
    query, key = (left, right) if labels.index(1 - softmax.axis) in left.labels else (right, left)
    return query.relabelled((0, 0, 2)), key.relabelled((1, 1, 2))


def _split_scale(use: Use) -> tuple[Coefficient, Use]:
    match use.node:
        case Linear(terms=((coefficient, operand),)):
            return coefficient, operand.relabelled(use.labels)
    return ONE, use
