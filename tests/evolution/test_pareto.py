"""Dominance, fronts and crowding against a reference that looks at every pair."""

from __future__ import annotations

import math
from random import Random

import pytest

from evolution.pareto import crowding_distances, dominates, first_front, nondominated_fronts


def fronts_by_peeling(vectors):
    """The definition: take away what nothing left dominates, again and again."""
    left, fronts = list(range(len(vectors))), []

    def beaten(i):
        return any(
            all(b >= a for a, b in zip(vectors[i], vectors[j], strict=True))
            and any(b > a for a, b in zip(vectors[i], vectors[j], strict=True))
            for j in left
        )

    while left:
        front = [i for i in left if not beaten(i)]
        fronts.append(front)
        left = [i for i in left if i not in front]
    return fronts


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_fronts_are_those_of_the_definition(objectives, seed):
    rng = Random(seed)
    # Few values, so that many are equal in one objective or in all.
    vectors = [tuple(float(rng.randrange(6)) for _ in range(objectives)) for _ in range(rng.randrange(1, 40))]
    expected = fronts_by_peeling(vectors)
    assert nondominated_fronts(vectors) == expected, f"seed {seed}"
    assert first_front(vectors) == expected[0], f"seed {seed}"


def test_nothing_has_no_front_and_no_distance():
    assert nondominated_fronts([]) == []
    assert first_front([]) == []
    assert crowding_distances([]) == []


def test_what_is_missing_is_dominated():
    assert dominates((0.0, 1.0), (0.0, -math.inf))
    assert nondominated_fronts([(0.0, -math.inf), (0.0, 1.0)]) == [[1], [0]]
    assert first_front([(0.0, -math.inf), (0.0, 1.0)]) == [1]


@pytest.mark.parametrize("seed", range(5))
def test_crowding_is_half_the_way_round_the_box_of_the_neighbours(seed):
    rng = Random(seed)
    xs = rng.sample(range(100), 8)
    front = [(float(x), float(100 - x)) for x in xs]
    distances = dict(zip(xs, crowding_distances(front), strict=True))
    ordered = sorted(xs)
    width = ordered[-1] - ordered[0]
    assert distances[ordered[0]] == distances[ordered[-1]] == math.inf
    for before, x, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
        # Both objectives have the same steps here; a few roundings of numbers near 1.
        assert distances[x] == pytest.approx(2 * (after - before) / width, rel=1e-12), f"seed {seed}"
