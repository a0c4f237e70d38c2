"""Successive halving: who goes on, who does not, and that it follows from the committed history alone."""

import math
from dataclasses import replace
from random import Random

import pytest

from evolution import (
    Candidate,
    Evaluation,
    Rungs,
    SearchSpace,
    Study,
    StudyError,
    make_strategy,
    random_backbone,
    search,
)
from evolution.candidate import STOPPED, ranking
from evolution.evaluator import Stop, score_at
from evolution.rungs import settled
from graphir import InputError

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16)
RUNGS = Rungs((10, 20))
BUDGET = 30


class Fake:
    """A score that each backbone approaches from below in its own time, or loses again; what it was told is kept."""

    def __init__(self) -> None:
        self.told = {}

    def score(self, seed, steps):
        rng = Random(seed)
        return rng.random() + rng.uniform(-1, 1) * steps / BUDGET

    def evaluate(self, backbone, seed, budget, stops=()):
        self.told[backbone.name] = stops
        metrics = {}
        for stop in stops:
            metrics[score_at(stop.steps)] = score = self.score(seed, stop.steps)
            if score < stop.score:
                return Evaluation(score, metrics | {STOPPED: stop.steps})
        return Evaluation(self.score(seed, budget), metrics)


def run(path, evaluator, candidates=40, rungs=RUNGS, strategy=None):
    strategy = strategy or make_strategy("opnas", population=8, parents=2, children=2)
    with Study.open(path) if path.exists() else Study.create(path) as study:
        search(study, SPACE, strategy, evaluator, candidates=candidates, seed=3, budget=BUDGET, rungs=rungs)
        return study.candidates()


def told(scores, eta=3, steps=10):
    backbone = random_backbone(Random(0), SPACE)
    history = [
        Candidate(n, backbone, "", "", 0, status="ok", score=s, metrics={score_at(steps): s})
        for n, s in enumerate(scores)
    ]
    return Rungs((steps,), eta).stops(history)[0].score


def test_the_needed_score_is_that_of_the_last_of_the_best_third():
    assert told([]) == told([1.0, 2.0]) == -math.inf
    assert told([1.0, 3.0, 2.0]) == 3.0
    assert told([1.0, 6.0, 2.0, 5.0, 4.0, 3.0]) == 5.0
    assert told([1.0, 6.0, 2.0, 5.0, 4.0, 3.0], eta=2) == 4.0
    assert told([1.0, math.nan, 3.0]) == -math.inf, "what is no number counts for nothing"


def test_stops_follow_from_the_history_up_to_the_horizon(tmp_path):
    evaluator = Fake()
    strategy = make_strategy("opnas", population=8, parents=2, children=2)
    history = run(tmp_path / "study.db", evaluator, strategy=strategy)
    stopped = [c for c in history if STOPPED in c.metrics]
    assert {c.metrics[STOPPED] for c in stopped} == {10.0, 20.0}, (
        "the test should see both rungs stop somebody"
    )
    assert len(stopped) < len(history) - 8
    for candidate in history:
        visible = history[: strategy.horizon(candidate.index)]
        assert evaluator.told[candidate.backbone.name] == RUNGS.stops(visible)
        for steps in RUNGS.steps:  # a rung behind the one where it was stopped was not reached
            reached = steps <= candidate.metrics.get(STOPPED, BUDGET)
            assert (score_at(steps) in candidate.metrics) == reached


def test_a_search_that_is_continued_stops_the_same_candidates(tmp_path):
    whole = run(tmp_path / "whole.db", Fake())
    for candidates in (5, 11, 12, 25, 40):
        parts = run(tmp_path / "parts.db", Fake(), candidates)
    assert [replace(c, seconds=0.0) for c in parts] == [replace(c, seconds=0.0) for c in whole]


def test_candidates_of_one_generation_are_told_the_same_so_that_workers_do_not_matter(tmp_path):
    evaluator = Fake()
    run(tmp_path / "study.db", evaluator)
    generations = [[f"candidate-{n}" for n in range(first, first + 4)] for first in range(8, 40, 4)]
    for names in ([f"candidate-{n}" for n in range(8)], *generations):
        assert len({evaluator.told[name] for name in names}) == 1


def test_a_stopped_candidate_ranks_behind_every_finished_one_and_counts_for_no_more_than_the_worst(tmp_path):
    history = run(tmp_path / "study.db", Fake())
    stopped = [STOPPED in c.metrics for c in sorted(history, key=ranking)]
    assert stopped == sorted(stopped)
    early = [c for c in history if STOPPED in c.metrics]
    for candidate in early:
        strategy = make_strategy("opnas", population=8, parents=2, children=2)
        before = [c for c in history[: strategy.horizon(candidate.index)] if STOPPED not in c.metrics]
        assert candidate.score <= min(c.score for c in before)
    bounded = [c for c in early if c.metrics[score_at(int(c.metrics[STOPPED]))] > c.score]
    assert bounded, "the test should see one that would rank above a finished one"


def test_who_finishes_keeps_the_score(tmp_path):
    evaluator = Fake()
    for candidate in run(tmp_path / "study.db", evaluator):
        if STOPPED not in candidate.metrics:
            assert candidate.score == evaluator.score(candidate.seed, BUDGET)
            assert settled(candidate, []) is candidate


def test_without_rungs_an_evaluator_is_told_of_none_and_older_studies_go_on(tmp_path):
    class Old:
        def evaluate(self, backbone, seed, budget):
            return Evaluation(Random(seed).random())

    run(tmp_path / "study.db", Old(), 3, rungs=None)
    assert len(run(tmp_path / "study.db", Old(), 6, rungs=Rungs())) == 6
    with pytest.raises(StudyError, match="rungs"):
        run(tmp_path / "study.db", Fake(), 7)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"steps": (10, 10)}, "must ascend"),
        ({"steps": (20, 10)}, "must ascend"),
        ({"steps": (0,)}, "a rung must be a whole number"),
        ({"steps": (1.5,)}, "a rung must be a whole number"),
        ({"steps": 10}, "rungs must be numbers of steps"),
        ({"eta": 1}, "eta must be a whole number"),
    ],
)
def test_rungs_that_make_no_sense_are_refused(fields, reason):
    with pytest.raises(InputError, match=reason):
        Rungs(**fields)


def test_a_rung_that_the_budget_does_not_reach_is_refused(tmp_path):
    with pytest.raises(InputError, match="the rung 20 must be below the 20 steps"):
        RUNGS.check_budget(20)
    assert Stop(10, -math.inf) in RUNGS.stops([])


def test_the_index_of_a_study_ranks_what_was_stopped_behind_what_finished(tmp_path):
    rng = Random(0)
    scores = [(0.9, True), (0.1, False), (0.5, True), (0.4, False)]
    with Study.create(tmp_path / "study.db") as study:
        for index, (score, stopped) in enumerate(scores):
            backbone = random_backbone(rng, SPACE)
            study.add(
                Candidate(
                    index,
                    backbone,
                    backbone.canonical_hash(),
                    str(index),
                    0,
                    status="ok",
                    score=score,
                    metrics={STOPPED: 10.0} if stopped else {},
                )
            )
        assert [c.index for c in study.best(4)] == [3, 1, 0, 2]
        assert study.best(4) == study.ranked()
