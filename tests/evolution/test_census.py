"""A census of a growing history says what counting it anew would."""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import numpy as np
import pytest

from evolution import Priorities, PriorityForm, make_strategy
from evolution.census import Census, census_of
from tests.evolution.additive_space import AdditiveSpace, searched

FORM = PriorityForm(context="neighbour", decay=0.9)


@pytest.fixture(scope="module")
def space():
    return AdditiveSpace(3)


@pytest.fixture(scope="module")
def history(space):
    return searched(space, make_strategy("opnas", population=10), 7, 80)


def counted(history, space, context):
    """Sums of scores by family and name, and by family, context and name."""
    plain, placed = Counter(), Counter()
    for candidate in history:
        choices = space.choices(candidate.backbone)
        for key in {(c.family, c.name) for c in choices}:
            plain[key] += candidate.score
        for key in {(c.family, getattr(c, context), c.name) for c in choices}:
            placed[key] += candidate.score
    return plain, placed


@pytest.mark.parametrize("context", ["position", "neighbour"])
def test_parts_of_a_history_in_any_order_are_counted_as_by_hand(history, space, context):
    seed = int.from_bytes(os.urandom(4))
    rng = Random(seed)
    for length in [0, 1, len(history), *(rng.randrange(len(history)) for _ in range(10))]:
        census = census_of(history[:length], space, context)
        scored = np.array(census.scores[: census.before[length]])
        plain, placed = counted(history[:length], space, context)
        assert census.contained.sums(scored) == pytest.approx(plain), f"seed {seed}, {length}"
        assert census.placed.sums(scored) == pytest.approx(placed), f"seed {seed}, {length}"
        drawn = Counter(draw for c in history[:length] if c.mutation for draw in c.mutation.draws)
        assert census.drawn.sums(np.ones(length)) == drawn, f"seed {seed}, {length}"


def test_a_history_that_grew_has_the_priorities_of_one_that_is_counted_anew(history, space):
    grown = [Priorities.from_history(history[:n], space, FORM) for n in range(1, len(history))]
    other = searched(space, make_strategy("random"), 8, 20)
    Priorities.from_history(other, space, FORM)
    for n in (1, 30, len(history) - 1):
        same = AdditiveSpace(3)  # another space: nothing is known of it
        assert Priorities.from_history(history[:n], same, FORM) == grown[n - 1]


def test_a_history_that_another_one_begins_like_is_counted_apart(history, space):
    branch = [*history[:40], *searched(space, make_strategy("random"), 9, 80)[40:60]]
    one, other = census_of(history, space), census_of(branch, space)
    assert one is not other
    assert other.contained.sums(np.ones(60)) != one.contained.sums(np.ones(60))


def test_a_census_that_was_interrupted_is_not_used_again(history, monkeypatch):
    append, space = Census.append, AdditiveSpace(3)  # another space: nothing is known of it

    def interrupted(self, candidate):
        append(self, candidate)
        if candidate is history[50]:
            raise KeyboardInterrupt

    census_of(history[:30], space)
    with monkeypatch.context() as patched:
        patched.setattr(Census, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            census_of(history, space)
    assert census_of(history, space).contained.sums(np.ones(80)) == counted_entries(history, space)


def counted_entries(history, space):
    return Counter(key for c in history for key in {(x.family, x.name) for x in space.choices(c.backbone)})
