"""Operation priority against numbers worked out by hand, and as a bandit."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from evolution import Candidate, Mutation, OperationPriority
from graphir import AttentionGraph, AttentionLayer, Backbone


def candidate(index: int, text: str, score: float | None, drawn: str | None = None) -> Candidate:
    backbone = Backbone((AttentionLayer(AttentionGraph.from_expression(text)),), 8, 2, 8)
    mutation = Mutation("insert", "a test", drawn) if drawn else None
    status = "ok" if score is not None else "failed"
    return Candidate(index, backbone, str(index), str(index), 0, None, mutation, status, score)


def test_priorities_are_those_worked_out_by_hand():
    history = [
        candidate(0, "softmax(Q)", 0.2),
        candidate(1, "softmax(-Q)", 0.4, "neg"),
        candidate(2, "-K", 0.6, "neg"),
        candidate(3, "scale(softmax(K))", None, "scale"),
        candidate(4, "-softmax(V)", 0.9, "softmax"),
    ]
    priority = OperationPriority.from_candidates(history, ("neg", "softmax", "scale", "add"), alpha=0.5)
    # N = 4. neg: mean of 0.4, 0.6, 0.9, drawn twice. softmax: mean of 0.2, 0.4, 0.9, drawn once.
    # scale: only in a failed candidate, so the largest mean, drawn once. add: never seen, counts as drawn once.
    neg = 1.9 / 3 + 0.5 * math.sqrt(2 * math.log(4) / 2)
    softmax = 1.5 / 3 + 0.5 * math.sqrt(2 * math.log(4) / 1)
    unseen = 1.9 / 3 + 0.5 * math.sqrt(2 * math.log(4) / 1)
    expected = {"neg": neg, "softmax": softmax, "scale": unseen, "add": unseen}
    assert priority.values == pytest.approx(expected, rel=1e-12)  # rounding of a few operations
    total = math.exp(neg) + math.exp(softmax)
    assert priority.probabilities(["neg", "softmax"]) == pytest.approx(
        {"neg": math.exp(neg) / total, "softmax": math.exp(softmax) / total}, rel=1e-12
    )


def test_without_history_all_operations_are_equally_likely():
    priority = OperationPriority.from_candidates([], ("neg", "add", "scale"))
    assert set(priority.probabilities().values()) == {1 / 3}


def test_draws_follow_the_softmax_over_the_fitting_operations():
    priority = OperationPriority({"a": math.log(3), "b": 0.0, "c": 50.0})
    rng = Random(1)
    drawn = Counter(priority.draw(rng, ["a", "b"]) for _ in range(4_000))
    # 3,000 expected; 5 standard deviations are 137. c does not fit, however high it is.
    assert set(drawn) == {"a", "b"}
    assert abs(drawn["a"] - 3_000) < 137


def test_a_lower_temperature_is_greedier():
    values = {"a": 1.0, "b": 0.0}
    warm, cold = OperationPriority(values), OperationPriority(values, temperature=0.1)
    assert cold.probabilities()["a"] > 0.999 > warm.probabilities()["a"]


def test_large_priorities_do_not_overflow():
    chances = OperationPriority({"a": 1e6, "b": 0.0}).probabilities()
    assert chances == {"a": 1.0, "b": 0.0}


def test_drawing_from_nothing_is_refused():
    with pytest.raises(ValueError, match="no operation fits"):
        OperationPriority.uniform(("a",)).draw(Random(0), [])


@pytest.mark.parametrize("seed", range(5))
def test_as_a_bandit_it_finds_the_arm_that_pays_and_still_tries_the_others(seed):
    arms = ("neg", "scale", "softmax", "softsign")
    rng = Random(seed)
    sums, draws = dict.fromkeys(arms, 0.0), Counter()
    for _ in range(2_000):
        means = {arm: sums[arm] / draws[arm] for arm in arms if draws[arm]}
        priority = OperationPriority.from_statistics(arms, means, draws, alpha=0.2, temperature=0.1)
        arm = priority.draw(rng, arms)
        draws[arm] += 1
        sums[arm] += (0.8 if arm == "softsign" else 0.3) + rng.gauss(0, 0.1)
    others = [draws[arm] for arm in arms if arm != "softsign"]
    assert draws["softsign"] > 5 * max(others), f"seed {seed}: {draws}"
    assert min(others) > 0, f"seed {seed}: {draws}"
