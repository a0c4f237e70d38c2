"""The order of contractions: products of many factors become a tree of pairwise ones, the cheapest.

Linear attention is found here: ``(Q K^T) V`` costs ``S^2 D``, ``Q (K^T V)`` only ``S D^2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from codegen.algebra import Builder
from codegen.expr import (
    ONE,
    Axes,
    Contraction,
    Distance,
    Expr,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    topological,
)

# The sizes at which orders are compared: a long sequence, as linear forms are for those.
_SIZES = {"S": 4096, "D": 64}
# Cost of an element read or written, in multiply-adds; it breaks ties in favour of small intermediate values.
_TRAFFIC = 8
_MAX_RANK = 2


def order_contractions(root: Use, builder: Builder) -> Use:
    """``root`` with every contraction of more than two factors as a tree of pairwise contractions."""
    done: dict[Expr, Use] = {}

    def rewritten(use: Use) -> Use:
        return done[use.node].relabelled(use.labels)

    for node in topological(root.node):
        match node:
            case Pointwise(axes=axes, function=function, operand=operand):
                done[node] = builder.pointwise(function, rewritten(operand), axes)
            case Linear(axes=axes, terms=terms):
                # A softmax is exp(x - L): x stays the value that L is of, whatever its terms become.
                x = [(c, rewritten(use)) for c, use in terms if not isinstance(use.node, LogSumExp)]
                statistics = [(c, rewritten(use)) for c, use in terms if isinstance(use.node, LogSumExp)]
                done[node] = builder.linear([(ONE, builder.linear(x, axes)), *statistics], axes)
            case Contraction(axes=axes, factors=factors, summed=summed) if factors:
                # Long products were not flattened whole. Now that their parts are pairs, there is room again.
                coefficient, flat, sums = builder.flattened([rewritten(f) for f in factors], axes, summed)
                tree = _cheapest_tree(tuple(flat), axes, sums, builder)
                done[node] = builder.scaled(coefficient, tree, axes)
            case LogSumExp(axes=axes, operand=operand, summed=axis):
                done[node] = builder.logsumexp(rewritten(operand), axes, axis)
            case Distance(axes=axes, left=left, right=right, summed=axis):
                done[node] = builder.distance(rewritten(left), rewritten(right), axes, axis)
            case _:
                done[node] = Use(node, tuple(range(len(node.axes))))
    return rewritten(root)


@dataclass(frozen=True)
class _Tree:
    """A way to multiply a subset of the factors: either one factor or two smaller trees."""

    cost: float
    labels: frozenset[int]
    factor: Use | None = None
    parts: tuple[_Tree, _Tree] | None = None


def _cheapest_tree(factors: tuple[Use, ...], axes: Axes, summed: Axes, builder: Builder) -> Use:
    kinds = (*axes, *summed)
    if len(factors) == 2 and all(
        label in use.labels for use in factors for label in range(len(axes), len(kinds))
    ):
        return builder.product(factors, axes, summed)
    frame = frozenset(range(len(axes)))
    labels_of = [frozenset(use.labels) for use in factors]

    def size(labels: frozenset[int]) -> float:
        product = 1.0
        for label in labels:
            product *= _SIZES[kinds[label]]
        return product

    def kept(subset: int) -> frozenset[int]:
        """The labels of the subset's product that somebody outside of it still needs."""
        inside = frozenset().union(*(labels for n, labels in enumerate(labels_of) if subset >> n & 1))
        outside = frame.union(*(labels for n, labels in enumerate(labels_of) if not subset >> n & 1))
        return inside & outside

    @cache
    def best(subset: int) -> _Tree | None:
        result = kept(subset)
        if subset & (subset - 1) == 0:
            number = subset.bit_length() - 1
            work = 0.0 if result == labels_of[number] else size(labels_of[number])
            return _Tree(work, result, factor=factors[number])
        if len(result) > _MAX_RANK:
            return None
        found: _Tree | None = None
        left = (subset - 1) & subset
        while left:
            right = subset ^ left
            if left > right:  # each split once
                one, two = best(left), best(right)
                if one is not None and two is not None:
                    traffic = size(one.labels) + size(two.labels) + size(result)
                    if len(one.labels) < len(result) > len(two.labels):
                        # Row factors scale a matrix: their outer product is one more, and overflows in 16 bits.
                        traffic += size(result)
                    cost = one.cost + two.cost + size(one.labels | two.labels) + _TRAFFIC * traffic
                    if found is None or cost < found.cost:
                        found = _Tree(cost, result, parts=(two, one))
            left = (left - 1) & subset
        return found

    tree = best((1 << len(factors)) - 1)
    if tree is None:  # unreachable for values of two axes: the order of the graph itself is a tree
        raise ValueError("no order of contractions keeps every intermediate value within two axes")
    return _build(tree, kinds, builder).relabelled(tuple(range(len(axes))))


def _build(tree: _Tree, kinds: Axes, builder: Builder) -> Use:
    """The tree as nodes; the labels of the result are those of the whole contraction."""
    parts = tree.parts or ()
    uses = [_build(part, kinds, builder) for part in parts] if tree.factor is None else [tree.factor]
    involved = {label for use in uses for label in use.labels}
    if tree.factor is not None and involved == tree.labels:
        return tree.factor
    out = sorted(tree.labels)
    over = sorted(involved - tree.labels)
    place = {label: n for n, label in enumerate([*out, *over])}
    local = [Use(use.node, tuple(place[label] for label in use.labels)) for use in uses]
    product = builder.product(local, tuple(kinds[n] for n in out), tuple(kinds[n] for n in over))
    return Use(product.node, tuple(out[label] for label in product.labels))
