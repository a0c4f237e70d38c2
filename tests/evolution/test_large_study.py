"""A study of 100,000 candidates: how long it takes to look at it, and to go on with it."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random

import pytest

from evolution import Candidate, Study, make_strategy, random_backbone
from evolution.candidate import ranking
from evolution.identity import SeenBackbones
from evolution.loop import propose
from tests.evolution.large_study import METRICS, SPACE, make_large_study

COUNT = 100_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "study.db"
    return path, make_large_study(path, COUNT)


def fastest(rounds, action):
    """The least seconds of some rounds: others share their core with whatever else the machine does."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return min(times)


def test_the_best_hundred_of_100_000_are_listed_in_under_100_ms(large):
    path, scores = large

    def best():
        with Study.open(path, readonly=True) as study:
            return study.best(100)

    expected = sorted((i for i in range(COUNT) if scores[i] is not None), key=lambda i: (-scores[i], i))[:100]
    assert [c.index for c in best()] == expected
    assert fastest(5, best) < 0.1


def test_the_file_of_100_000_candidates_is_under_200_mb(large):
    assert large[0].stat().st_size < 200e6


def test_the_100_001st_is_committed_in_milliseconds(large):
    path, _ = large
    with Study.open(path) as study:
        study._connection.execute("PRAGMA synchronous = OFF")  # what the disk takes is not ours
        entry = study.best()[0]

        def add():
            study.add(replace(entry, index=len(study)))

        assert fastest(5, add) < 0.02
        assert len(study) == COUNT + 5


def scored_history(count):
    rng = Random(1)
    backbones = [random_backbone(rng, SPACE) for _ in range(50)]
    return [
        Candidate(
            i, backbones[i % 50], str(i), str(i), i, None, None, "ok", rng.uniform(-6, -4), METRICS, 1.0
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("name", ["opnas", "uniform", "evolution", "nsga2"])
def test_a_proposal_after_30_000_candidates_takes_milliseconds(name):
    history = scored_history(30_000)
    seen, strategy = SeenBackbones(history), make_strategy(name)

    def proposed():
        history.append(
            replace(propose(history, seen, SPACE, strategy, 0, len(history)), status="ok", score=-5.0)
        )

    proposed()  # what a resumed search does once: going through all that was found
    begun = time.perf_counter()
    for _ in range(15):  # three generations of opnas, one of nsga2
        proposed()
    # Here 2 to 8 ms. Going through the whole history for each generation takes 300.
    assert (time.perf_counter() - begun) / 15 < 0.06
    assert min(history, key=ranking).ok
