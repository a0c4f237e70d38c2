"""What holds for every strategy: it follows from the history up to its horizon, and is better than chance."""

from __future__ import annotations

import statistics
from dataclasses import replace
from random import Random

import pytest

from evolution import STRATEGIES, Candidate, SearchSpace, make_strategy, random_backbone
from evolution.strategy import describe_strategy
from tests.evolution.additive_space import AdditiveSpace, searched

SPACE = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16, max_nodes=8)
FORMS = [
    *((name, {}) for name in STRATEGIES),
    ("opnas", {"scores": "raw", "temperature": 1.0}),
    ("opnas", {"scores": "ranked", "temperature": 0.25, "counts": "candidates"}),
    ("opnas", {"context": "position", "shrinkage": 2.0, "alpha": 0.1}),
    ("opnas", {"context": "neighbour", "decay": 0.9}),
    ("opnas", {"crossover": 0.5}),
]


def scored(index: int, rng: Random) -> Candidate:
    backbone = random_backbone(rng, SPACE)
    failed = rng.random() < 0.1
    score = None if failed else rng.random()
    return Candidate(
        index, backbone, str(index), str(index), 0, status="failed" if failed else "ok", score=score
    )


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_a_proposal_follows_from_what_is_before_its_horizon(name, settings):
    strategy = make_strategy(name, **settings)
    rng = Random(3)
    history = [scored(index, rng) for index in range(40)]
    for index in (0, 14, 15, 19, 33, 40):
        horizon = strategy.horizon(index)
        assert 0 <= horizon <= index
        # Same candidates beyond the horizon with other results, in new objects all over: nothing is known by memory.
        other = [replace(c) for c in history[:horizon]] + [
            replace(c, status="ok", score=9.0 + c.index) for c in history[horizon:index]
        ]
        first = strategy.propose(history[:index], index, Random(index), SPACE)
        again = make_strategy(name, **settings).propose(other, index, Random(index), SPACE)
        assert first == again
        SPACE.require(first.backbone)
        assert first.parent is None or (first.parent < horizon and history[first.parent].ok)


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_the_same_seed_gives_the_same_search_and_another_seed_another(name, settings):
    space, strategy = AdditiveSpace(0), make_strategy(name, **settings)
    first = searched(space, strategy, 1, 60)
    assert searched(space, make_strategy(name, **settings), 1, 60) == first
    assert searched(space, strategy, 2, 60) != first


@pytest.mark.parametrize(
    ("name", "settings"), [form for form in FORMS if form[0] != "random"], ids=lambda value: str(value)
)
def test_it_finds_better_than_random_search(name, settings):
    strategy, chance = make_strategy(name, **settings), make_strategy("random")
    gains = []
    for seed in range(12):
        space = AdditiveSpace(seed)
        best, by_chance = (max(c.score for c in searched(space, s, seed, 120)) for s in (strategy, chance))
        gains.append(best - by_chance)
    # One that is no better would be above three standard errors of zero once in 500 (t with 11 degrees of freedom).
    error = statistics.stdev(gains) / len(gains) ** 0.5
    assert statistics.fmean(gains) > 3 * error, gains


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_a_strategy_is_made_again_from_its_description(name, settings):
    strategy = make_strategy(name, **settings)
    described = describe_strategy(strategy)
    assert make_strategy(described.pop("name"), **described) == strategy
    assert hash(strategy) == hash(make_strategy(name, **settings))


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "random"])
def test_where_nothing_succeeded_the_proposal_is_random(name):
    failed = [replace(scored(i, Random(i)), status="failed", score=None) for i in range(30)]
    proposal = make_strategy(name).propose(failed, 30, Random(0), SPACE)
    assert proposal.parent is None
    assert proposal.mutation is None


def test_greedy_draws_what_has_the_best_mean_and_uniform_does_not_care():
    space = AdditiveSpace(4)
    history = searched(space, make_strategy("random"), 0, 60)
    options = {"greedy": 0.9, "uniform": 0.4}
    means = {name: statistics.fmean(c.score for c in history if name in c.backbone) for name in "abcde"}
    best = max(means, key=means.get)
    for strategy, bound in options.items():
        drawn = [
            make_strategy(strategy).propose(history, 60, Random(seed), space).mutation.drawn[0][1]
            for seed in range(200)
        ]
        # A mutation never puts what stands there already, so the best is drawn where it can be: at most others.
        share = drawn.count(best) / len(drawn)
        assert (share > bound / 2) == (strategy == "greedy"), (strategy, share)


def test_a_crossover_names_both_parents():
    strategy = make_strategy("crossover", crossover=1.0, population=10)
    history = [replace(scored(i, Random(i)), status="ok", score=i / 10) for i in range(10)]
    crossed = [strategy.propose(history, 10, Random(seed), SPACE) for seed in range(20)]
    found = [p for p in crossed if p.mutation.kind == "crossover"]
    assert len(found) > 15  # parents that are drawn at random differ in more than one layer
    for proposal in found:
        assert proposal.parent == 9
        assert proposal.mutation.mate in {5, 6, 7, 8}
        SPACE.require(proposal.backbone)
