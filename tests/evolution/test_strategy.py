"""Strategies: whose children are proposed when, and whether they find what is good."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from evolution import (
    STRATEGIES,
    Candidate,
    Evaluation,
    SearchSpace,
    Study,
    make_strategy,
    random_backbone,
    search,
)

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16, max_nodes=8)


def history(scores: list[float | None]) -> list[Candidate]:
    return [
        Candidate(
            index,
            random_backbone(Random(index), SPACE),
            str(index),
            str(index),
            0,
            status="failed" if score is None else "ok",
            score=score,
        )
        for index, score in enumerate(scores)
    ]


def parents(strategy, past, indices) -> list[int | None]:
    return [strategy.propose(past, index, Random(index), SPACE).parent for index in indices]


def test_opnas_gives_each_of_the_best_its_children_generation_by_generation():
    strategy = make_strategy("opnas", population=4, parents=2, children=3)
    past = history([0.1, 0.9, None, 0.5, 1.0, 0.2, 0.2, 0.2, 0.2, 0.6])
    assert parents(strategy, past, range(4)) == [None] * 4
    # The first generation sees candidates 0 to 3 only, the second also the first generation.
    assert parents(strategy, past, range(4, 10)) == [1, 1, 1, 3, 3, 3]
    assert parents(strategy, past, range(10, 16)) == [4, 4, 4, 1, 1, 1]


def test_opnas_with_fewer_successes_than_parents_lets_those_take_turns():
    strategy = make_strategy("opnas", population=3, parents=3, children=1)
    assert parents(strategy, history([None, 0.3, 0.7]), range(3, 6)) == [2, 1, 2]
    assert parents(strategy, history([None, None, None]), range(3, 6)) == [None, None, None]


def test_opnas_draws_operations_by_what_the_history_says_of_them():
    strategy = make_strategy("opnas", population=40, parents=1, children=1, alpha=0.0, temperature=0.05)
    loved = [replace(c, score=float("softsign" in c.operations)) for c in history([0.0] * 40)]
    priority = strategy.priority(loved, SPACE)
    assert max(priority.values, key=priority.values.get) == "softsign"
    drawn = Counter()
    for index in range(400):
        proposal = strategy.propose(loved, 40, Random(index), SPACE)
        drawn[proposal.mutation.operation] += 1
    del drawn[None]
    assert drawn.most_common(1)[0][0] == "softsign", drawn


def test_ageing_evolution_lets_the_oldest_die_however_good():
    strategy = make_strategy("evolution", population=3, tournament=3)
    past = history([1.0, 0.1, 0.2, 0.3, None, 0.25])
    assert parents(strategy, past, [3]) == [0]
    assert parents(strategy, past, [4]) == [3]  # 1, 2, 3 are alive, 0 is dead
    assert parents(strategy, past, [6]) == [3]  # 2, 3, 5 are alive: a failure takes no place


def test_a_tournament_is_won_by_the_best_of_a_random_sample():
    strategy = make_strategy("evolution", population=10, tournament=2)
    past = history([index / 10 for index in range(10)])
    wins = Counter(strategy.propose(past, 10, Random(seed), SPACE).parent for seed in range(900))
    # The chance of i is 2 i / 90: the best wins 180 of 900, 5 standard deviations are 60; the worst never.
    assert wins[0] == 0
    assert abs(wins[9] - 180) < 60


def test_random_search_has_no_parents():
    assert parents(make_strategy("random"), history([0.1, 0.9]), range(5)) == [None] * 5


class SoftsignShare:
    """A score that mutation can climb: the share of softsign among the nodes."""

    def evaluate(self, backbone, seed, budget):
        operations = [node.op for graph in backbone.graphs for node in graph.nodes]
        return Evaluation(operations.count("softsign") / (1 + len(operations)))


@pytest.mark.long
def test_evolution_finds_better_than_random_search_on_average(tmp_path):
    settings = {
        "opnas": {"population": 20},
        "evolution": {"population": 20, "tournament": 5},
        "random": {},
    }
    means = {}
    for name, fields in settings.items():
        best = []
        for seed in range(4):
            with Study.create(tmp_path / f"{name}-{seed}.db") as study:
                search(
                    study,
                    SPACE,
                    make_strategy(name, **fields),
                    SoftsignShare(),
                    candidates=90,
                    seed=seed,
                    budget=1,
                )
                best.append(study.best()[0].score)
        means[name] = sum(best) / len(best)
    assert means["opnas"] > means["random"] + 0.05, means
    assert means["evolution"] > means["random"] + 0.05, means


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("opnass", {}, "unknown strategy 'opnass'; did you mean opnas"),
        ("opnas", {"parent": 3}, "no field 'parent'; did you mean parents"),
        ("random", {"population": 3}, "no field 'population'; it has none"),
        ("opnas", {"population": 0}, "population must be a whole number of at least 1"),
        ("opnas", {"alpha": -1.0}, "alpha must be a number of at least 0"),
        ("opnas", {"temperature": 0.0}, "temperature must be a number above 0"),
        ("opnas", {"temperature": float("nan")}, "temperature must be a number above 0"),
        ("opnas", {"scores": "ranks"}, "scores must be standardised, raw or ranked, not 'ranks'"),
        ("evolution", {"population": 4, "tournament": 5}, "tournament 5 is above population 4"),
    ],
)
def test_a_strategy_that_cannot_be_made_is_refused(name, fields, message):
    with pytest.raises(ValueError, match=message):
        make_strategy(name, **fields)


def test_there_are_seven_strategies():
    assert set(STRATEGIES) == {"opnas", "uniform", "greedy", "crossover", "evolution", "nsga2", "random"}


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "random"])
def test_by_default_forty_candidates_are_not_all_random(name):
    strategy = make_strategy(name)
    assert strategy.horizon(39) >= 15
