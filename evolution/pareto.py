"""Sorting by dominance: fronts, and how crowded a front is at each of its members (Deb et al. 2002).

All objectives are maximised here; what is to be minimised enters with its sign changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = tuple[float, ...]
"""The objectives of one candidate, each the better the larger."""


def dominates(one: Vector, other: Vector) -> bool:
    """Whether ``one`` is nowhere worse than ``other`` and somewhere better.

    Example:
        >>> dominates((1.0, 2.0), (1.0, 1.0)), dominates((1.0, 2.0), (1.0, 2.0)), dominates((2.0, 0.0), (1.0, 1.0))
        (True, False, False)
    """
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def nondominated_fronts(vectors: Sequence[Vector]) -> list[list[int]]:
    """Indices by front: the first is dominated by none, the next by members of earlier fronts only.

    Within a front the order is that of ``vectors``.

    Example:
        >>> nondominated_fronts([(1.0, 1.0), (2.0, 0.0), (0.0, 0.0), (0.0, 2.0)])
        [[0, 1, 3], [2]]
    """
    dominated: list[list[int]] = [[] for _ in vectors]
    dominators = [0] * len(vectors)
    for i, one in enumerate(vectors):
        for j in range(i + 1, len(vectors)):
            if dominates(one, vectors[j]):
                dominated[i].append(j)
                dominators[j] += 1
            elif dominates(vectors[j], one):
                dominated[j].append(i)
                dominators[i] += 1
    fronts = []
    front = [i for i, count in enumerate(dominators) if not count]
    while front:
        fronts.append(front)
        following = []
        for i in front:
            for j in dominated[i]:
                dominators[j] -= 1
                if not dominators[j]:
                    following.append(j)
        front = sorted(following)
    return fronts


def first_front(vectors: Sequence[Vector]) -> list[int]:
    """The first of `nondominated_fronts` alone, which takes seconds for 100,000 vectors, not hours.

    Example:
        >>> first_front([(1.0, 1.0), (2.0, 0.0), (0.0, 0.0), (0.0, 2.0)])
        [0, 1, 3]
    """
    front: list[int] = []
    # Whoever dominates another is the larger tuple. So all that could dominate has been seen, and a member stays one.
    for i in sorted(range(len(vectors)), key=vectors.__getitem__, reverse=True):
        if not any(dominates(vectors[j], vectors[i]) for j in front):
            front.append(i)
    return sorted(front)


def crowding_distances(vectors: Sequence[Vector]) -> list[float]:
    """How far the neighbours of each member of a front lie apart, as a sum over objectives of shares of their range.

    The outermost members of every objective are infinitely far from others.

    Example:
        >>> crowding_distances([(0.0, 4.0), (1.0, 3.0), (4.0, 0.0)])
        [inf, 2.0, inf]
    """
    distances = [0.0] * len(vectors)
    for objective in range(len(vectors[0]) if vectors else 0):
        order = sorted(range(len(vectors)), key=lambda i: vectors[i][objective])
        low, high = vectors[order[0]][objective], vectors[order[-1]][objective]
        distances[order[0]] = distances[order[-1]] = math.inf
        if high > low:
            for before, i, after in zip(order, order[1:], order[2:], strict=False):
                distances[i] += (vectors[after][objective] - vectors[before][objective]) / (high - low)
    return distances
