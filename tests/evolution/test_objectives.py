"""Objectives: names, directions, what is missing, and the front of a history."""

from __future__ import annotations

from random import Random

import pytest

from evolution import Candidate, SearchSpace, make_strategy, pareto_front, random_backbone
from evolution.nsga2 import select
from evolution.objectives import objective_vectors

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16, max_nodes=8)


def candidate(index: int, score: float | None, **metrics: float) -> Candidate:
    status = "failed" if score is None else "ok"
    backbone = random_backbone(Random(index), SPACE)
    return Candidate(index, backbone, str(index), str(index), 0, status=status, score=score, metrics=metrics)


def test_objectives_are_read_from_score_metrics_and_costs_and_turned_so_that_more_is_better():
    found = [candidate(0, 0.5, latency=3.0), candidate(1, 0.7, latency=2.0)]
    vectors = objective_vectors(found, ("score", "-latency", "-parameters", "flops"), SPACE)
    for c, vector in zip(found, vectors, strict=True):
        cost = c.backbone.cost()
        assert vector == (c.score, -c.metrics["latency"], -cost.parameters, cost.flops)


def test_a_metric_hides_a_cost_of_its_name():
    assert objective_vectors([candidate(0, 0.5, parameters=7.0)], ("-parameters",), SPACE) == [(-7.0,)]


def test_a_candidate_without_the_metric_is_the_worst_in_it():
    found = [candidate(0, 0.5), candidate(1, 0.4, latency=9.0), candidate(2, 0.3, latency=float("nan"))]
    assert [c.index for c in pareto_front(found, ("-latency",), SPACE)] == [1]
    assert [c.index for c in pareto_front(found, ("score", "-latency"), SPACE)] == [0, 1]


def test_the_front_leaves_out_failures_and_what_is_beaten():
    found = [
        candidate(0, 0.5, latency=5.0),
        candidate(1, None),
        candidate(2, 0.6, latency=4.0),
        candidate(3, 0.1, latency=1.0),
    ]
    assert [c.index for c in pareto_front(found, ("score", "-latency"), SPACE)] == [2, 3]
    assert pareto_front([candidate(1, None)], ("score",), SPACE) == []


def test_an_objective_that_nobody_has_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no candidate has the objective 'speed': there are flops, latency"):
        pareto_front([candidate(0, 0.5, latency=5.0)], ("-speed",), SPACE)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ((), "must be a list of names"),
        ("score", "must be a list of names"),
        (("-",), "an objective is a name"),
        ((3,), "an objective is a name"),
        (("score", "-score"), "repeat a name"),
    ],
)
def test_objectives_that_are_none_are_refused(objectives, message):
    with pytest.raises(ValueError, match=message):
        make_strategy("nsga2", objectives=objectives)


def test_selection_takes_whole_fronts_and_then_the_least_crowded():
    found = [candidate(index, 0.0) for index in range(6)]
    vectors = [(0.0, 10.0), (1.0, 9.0), (2.0, 8.0), (6.0, 4.0), (10.0, 0.0), (0.0, 0.0)]
    # The ends, then 3, whose neighbours lie 8 apart; 1 and 2 lie between neighbours 2 and 5 apart.
    assert {s.candidate.index for s in select(found, vectors, 4)} == {0, 4, 3, 2}
    assert [s.front for s in select(found, vectors, 6)] == [0, 0, 0, 0, 0, 1]


def test_nsga2_keeps_the_small_beside_the_good():
    strategy = make_strategy("nsga2", population=3, objectives=["score", "-size"])
    history = [
        candidate(0, 0.9, size=9.0),
        candidate(1, 0.1, size=1.0),
        candidate(2, 0.1, size=5.0),
        candidate(3, 0.5, size=5.0),
        candidate(4, 0.2, size=8.0),
        candidate(5, None),
    ]
    assert {s.candidate.index for s in strategy.survivors(history, SPACE)} == {0, 1, 3}
    parents = {strategy.propose(history, 6, Random(seed), SPACE).parent for seed in range(60)}
    assert parents == {0, 1}  # of two, the one at an end of the front wins


def test_the_survivors_do_not_depend_on_what_was_asked_before():
    strategy = make_strategy("nsga2", population=4)
    rng = Random(5)
    history = [candidate(index, rng.random()) for index in range(16)]
    whole = strategy.survivors(history, SPACE)
    copies = [candidate(c.index, c.score) for c in history]
    for index in range(4, 20):  # each generation goes on from the one before, which is remembered
        strategy.propose(copies[: strategy.horizon(index)], index, Random(index), SPACE)
    again = strategy.survivors(copies, SPACE)
    assert [(s.candidate.index, s.front, s.crowding) for s in again] == [
        (s.candidate.index, s.front, s.crowding) for s in whole
    ]
