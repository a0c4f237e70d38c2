"""The algebra: constructors that keep expressions in normal form.

A `Builder` makes every node of one compilation. Equal nodes are the same object (hash-consing), so common
subexpressions are free; nested sums and products are flattened, and scalar factors move out of products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
    children,
    own_labels,
    summed_axes,
)

MAX_FACTORS = 6
"""Products are flattened up to this many factors: the order search is exponential in them."""

Term = tuple[Coefficient, Use]


class Builder:
    """Makes nodes in normal form. Every method returns a `Use` in the frame of the new value's axes."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[Any, ...], Expr] = {}
        self._streams: dict[Expr, int] = {}
        self._squared: set[Expr] = set()

    def input(self, name: str) -> Use:
        """The graph's input ``name``, ``[i, d]``."""
        return self._use(Input, ("S", "D"), name)

    def pointwise(self, function: str, operand: Use, axes: Axes) -> Use:
        """``function`` of ``operand``."""
        # The node's own frame is that of its operand, so f(x^T) and f(x) are one node read in two ways.
        node = self._use(
            Pointwise, operand.node.axes, function, Use(operand.node, own_labels(operand.node.axes))
        )
        return Use(node.node, operand.labels)

    def linear(self, terms: Sequence[Term], axes: Axes) -> Use:
        """The sum of ``terms``; flattened, with equal values added up."""
        total: dict[tuple[Use, int], int] = {}
        for outer, use in terms:
            for (number, scales), operand in flat_terms(outer, use):
                total[operand, scales] = total.get((operand, scales), 0) + number
        flat = tuple((Coefficient(number, scales), use) for (use, scales), number in total.items() if number)
        if len(flat) == 1 and flat[0][0] == ONE and len(flat[0][1].labels) == len(axes):
            return flat[0][1]
        if axes == SCORES and (found := self._common_factor(flat)):
            factor, rest = found
            coefficient, other = self._split_scalar(self.linear(rest, axes))
            # Not flattened: the sum may be one of an ordered tree of pairs.
            return self.scaled(coefficient, self.product([factor, other], axes, ()), axes)
        frame = _standard_frame(axes, [use for _, use in sorted(flat, key=lambda term: _by_serial(term[1]))])
        turned = [(coefficient, use.relabelled(frame)) for coefficient, use in flat]
        turned.sort(key=lambda term: _by_serial(term[1]))
        return self._use(Linear, _permuted(axes, frame), tuple(turned)).relabelled(frame)

    def contraction(self, factors: Sequence[Use], axes: Axes, summed: Axes) -> Use:
        """The product of ``factors``, summed over the labels from ``len(axes)`` on, whose axes are ``summed``.

        Products inside products are flattened and scalar factors moved out in front.
        """
        coefficient, flat, sums = self.flattened(factors, axes, summed)
        return self.scaled(coefficient, self.product(flat, axes, sums), axes)

    def flattened(
        self, factors: Sequence[Use], axes: Axes, summed: Axes
    ) -> tuple[Coefficient, list[Use], Axes]:
        """A contraction's scalar in front, its factors one level flatter, and its summed axes."""
        coefficient, uses = ONE, list[Use]()
        for factor in factors:
            scalar, use = self._split_scalar(factor)
            moderate = (coefficient * scalar).moderate
            coefficient = coefficient * scalar if moderate else coefficient
            uses.append(use if moderate else factor)
        # A square stays a square: |K x|^2 as x^T (K^T K) x loses digits where K x is small against K and x, as it is
        # where all columns of K are alike. Only scores of inputs are taken apart: they become linear in S.
        self._squared |= {u.node for u in uses if uses.count(u) > 1 and not _is_scores_of_inputs(u.node)}
        # Rows of an S x D product are scaled where they stand: scaled inside of it, they would be a second product,
        # with roundings of its own, which show where the two are subtracted.
        sums_stay = not summed and AXIS_HEAD in axes
        flat, sums = list[Use](), list(summed)
        for index, use in enumerate(uses):
            room = MAX_FACTORS - len(flat) - (len(uses) - index - 1)
            inner, rank = use.node, len(use.node.axes)
            stays = inner in self._squared or (sums_stay and summed_axes(inner))
            if isinstance(inner, Contraction) and not stays and _worth_flattening(inner, room):
                fresh = range(len(axes) + len(sums), len(axes) + len(sums) + len(inner.summed))
                sums += inner.summed
                flat += [f.relabelled((*use.labels[:rank], *fresh)) for f in inner.factors]
            else:
                flat.append(use)
        return coefficient, flat, tuple(sums)

    def product(self, factors: Sequence[Use], axes: Axes, summed: Axes) -> Use:
        """A contraction of just these factors, nothing flattened; labels are put in a standard order."""
        rank = len(axes)

        def order(use: Use) -> tuple[int, list[int]]:
            return use.node.serial, [min(label, rank) for label in use.labels]

        frame = _standard_frame(axes, sorted(factors, key=order))
        ordered = sorted(
            (use.relabelled((*frame, *range(rank, rank + len(summed)))) for use in factors), key=order
        )
        first_seen = dict.fromkeys(label for use in ordered for label in use.labels if label >= rank)
        sums = list(first_seen | dict.fromkeys(range(rank, rank + len(summed))))
        labels = (*range(rank), *(rank + sums.index(label) for label in range(rank, rank + len(summed))))
        turned = tuple(use.relabelled(labels) for use in ordered)
        kinds = tuple(summed[label - rank] for label in sums)
        return self._use(Contraction, _permuted(axes, frame), turned, kinds).relabelled(frame)

    def scaled(self, coefficient: Coefficient, use: Use, axes: Axes) -> Use:
        """``coefficient`` times ``use``."""
        return use if coefficient == ONE else self.linear([(coefficient, use)], axes)

    def logsumexp(self, operand: Use, axes: Axes, summed: str) -> Use:
        """The logarithm of the sum of exponentials of ``operand`` over its label ``len(axes)``."""
        return self._use(LogSumExp, axes, operand, summed)

    def softmax(self, operand: Use, axes: Axes) -> Use:
        """The softmax of a matrix over its last axis, as ``exp(x - logsumexp(x))``."""
        statistic = self.logsumexp(operand, axes[:1], axes[1])
        return self.pointwise(
            "exp", self.linear([(ONE, operand), (MINUS, Use(statistic.node, (0,)))], axes), axes
        )

    def keep(self, weights: Use) -> Use:
        """The random field of attention dropout that belongs to a softmax; equal softmaxes share one."""
        stream = self._streams.setdefault(weights.node, len(self._streams))
        return Use(self._use(Keep, weights.node.axes, stream).node, weights.labels)

    def distance(self, left: Use, right: Use, axes: Axes, summed: str) -> Use:
        """The Euclidean distance of rows of ``left`` ``[0, 2]`` and ``right`` ``[1, 2]``."""
        if axes == (AXIS_HEAD, AXIS_SEQ) or (axes[0] == axes[1] and _by_serial(left) > _by_serial(right)):
            swap = (1, 0, 2)
            turned = self._use(Distance, axes[::-1], right.relabelled(swap), left.relabelled(swap), summed)
            return turned.relabelled((1, 0))
        return self._use(Distance, axes, left, right, summed)

    def _split_scalar(self, use: Use) -> tuple[Coefficient, Use]:
        """``use`` as a scalar times a value that is not itself a scalar multiple."""
        if not isinstance(use.node, Linear):
            return ONE, use
        terms, axes = use.node.terms, use.node.axes
        if len(terms) == 1:
            coefficient, operand = terms[0]
            whole = len(operand.labels) == len(use.labels)
            return (coefficient, operand.relabelled(use.labels)) if whole else (ONE, use)
        common = _common_scalar([coefficient for coefficient, _ in terms]) if terms else ONE
        if axes != SCORES or common == ONE:
            return ONE, use
        # A scalar in front of a sum of S x S values is cheaper behind the product that the sum is part of.
        rest = self.linear([(coefficient.over(common), operand) for coefficient, operand in terms], axes)
        return common, rest.relabelled(use.labels)

    def _without(self, factor: Use, use: Use) -> Use | None:
        """The product ``use`` of S x S values without one of its factors; None where that leaves no value."""
        factors = [other.relabelled(use.labels) for other in _factors(use.node)]
        factors.remove(factor)
        if len(factors) == 1:
            return factors[0]
        labels = {label for other in factors for label in other.labels}
        return self.product(factors, SCORES, ()) if labels == {0, 1} else None

    def _common_factor(self, terms: Sequence[Term]) -> tuple[Use, list[Term]] | None:
        """A factor of all ``terms``, which are S x S, and the terms without it: ``P dP - P r`` is ``P (dP - r)``."""
        if len(terms) < 2 or not all(_factors(use.node) for _, use in terms):
            return None
        first, *others = (
            [factor.relabelled(use.labels) for factor in _factors(use.node)] for _, use in terms
        )
        for factor in first:
            if len(factor.labels) == 2 and all(factor in factors for factors in others):
                rests = [self._without(factor, use) for _, use in terms]
                if None not in rests:
                    return factor, [(c, r) for (c, _), r in zip(terms, rests, strict=True) if r is not None]
        return None

    def _use(self, kind: type[Expr], axes: Axes, *fields: Any) -> Use:
        key = (kind, axes, *fields)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = kind(axes, len(self._nodes), *fields)
        return Use(node, own_labels(axes))


def transpose(use: Use) -> Use:
    """The transposed matrix: only the labels change places."""
    return use.relabelled((1, 0))


def flat_terms(outer: Coefficient, use: Use) -> list[Term]:
    """``outer * use`` as terms of a sum: those of ``use`` where it is a sum itself."""
    if isinstance(use.node, Linear):
        terms = [(outer * inner, operand.relabelled(use.labels)) for inner, operand in use.node.terms]
        if all(coefficient.moderate for coefficient, _ in terms):
            return terms
    return [(outer, use)]


def softmax_parts(node: Expr) -> tuple[LogSumExp, Use, int] | None:
    """The statistic, the logits and the axis of the softmax that a matrix is, as ``exp(x - logsumexp(x))``."""
    match node:
        case Pointwise(function="exp", operand=Use(node=Linear(axes=(_, _), terms=terms))):
            for position, (coefficient, use) in enumerate(terms):
                if coefficient != MINUS or not isinstance(use.node, LogSumExp):
                    continue
                (kept,) = use.labels
                logits = use.node.operand.relabelled((kept, 1 - kept))
                # As sets: a sum and its mirror image may order their terms, and so be laid out, differently.
                if {*terms[:position], *terms[position + 1 :]} == set(flat_terms(ONE, logits)):
                    return use.node, logits, 1 - kept
    return None


def _by_serial(use: Use) -> tuple[int, tuple[int, ...]]:
    return use.node.serial, use.labels


def _standard_frame(axes: Axes, uses: Sequence[Use]) -> tuple[int, ...]:
    """The order of a matrix's two labels under which x and its transpose are one node.

    ``S x D`` rather than ``D x S``; where both axes are of one kind, the label that is seen first stands first.
    """
    if len(axes) != 2:
        return own_labels(axes)
    if axes[0] != axes[1]:
        return (0, 1) if axes == (AXIS_SEQ, AXIS_HEAD) else (1, 0)
    seen = [label for use in uses for label in use.labels if label < 2]
    return (1, 0) if seen[:1] == [1] else (0, 1)


def _permuted(axes: Axes, frame: tuple[int, ...]) -> Axes:
    return tuple(axes[label] for label in frame)


def _common_scalar(coefficients: Sequence[Coefficient]) -> Coefficient:
    """The scalar that all have in common, with the sign of the first; powers only where they are equal."""
    first = coefficients[0]
    number = math.gcd(*(c.number for c in coefficients)) * (1 if first.number > 0 else -1)
    scales = first.scales if all(c.scales == first.scales for c in coefficients) else 0
    return Coefficient(number, scales)


def _factors(node: Expr) -> tuple[Use, ...]:
    """The factors of an S x S product without a sum; empty for other values."""
    if isinstance(node, Contraction) and not node.summed and node.axes == SCORES:
        return node.factors
    return ()


def _is_scores_of_inputs(node: Expr) -> bool:
    """Whether an S x S value is a product of inputs, or of sums of inputs."""
    if not isinstance(node, Contraction) or node.axes != SCORES or node.summed != (AXIS_HEAD,):
        return False
    return all(
        isinstance(leaf, Input | Linear)
        for use in node.factors
        for leaf in (use.node, *(inner.node for inner in children(use.node)))
    )


def _worth_flattening(node: Contraction, room: int) -> bool:
    """Products that fit. Scaled rows of an ``S x D`` value stay whole: they are cheap and often shared."""
    if not node.factors or len(node.factors) > room:
        return False
    return bool(node.summed) or AXIS_HEAD not in node.axes
