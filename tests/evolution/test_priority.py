"""Operation priority against numbers worked out by hand, and as a bandit."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from evolution import Candidate, Mutation, OperationPriority, SearchSpace, make_strategy
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


def test_standardised_priorities_are_those_worked_out_by_hand():
    history = [
        candidate(0, "softmax(Q)", -5.0),
        candidate(1, "softmax(-Q)", -5.2, "neg"),
        candidate(2, "-K", -5.4, "neg"),
        candidate(3, "scale(softmax(K))", None, "scale"),
    ]
    priority = OperationPriority.from_candidates(history, ("neg", "softmax"), scores="standardised")
    # Scores of mean -5.2 and deviation sqrt(0.08 / 3) become 1, 0, -1 times sqrt(3 / 2). N = 2: scale is not asked for.
    unit = math.sqrt(1.5)
    neg = -unit / 2 + math.sqrt(2 * math.log(2) / 2)
    softmax = unit / 2 + math.sqrt(2 * math.log(2) / 1)
    assert priority.values == pytest.approx(
        {"neg": neg, "softmax": softmax}, rel=1e-9
    )  # 5.2 - 5.0 is rounded


@pytest.mark.parametrize("seed", range(3))
def test_standardised_priorities_do_not_depend_on_the_unit_or_the_zero_of_scores(seed):
    rng = Random(seed)
    texts = ["softmax(Q)", "-Q", "scale(K)", "softsign(-V)"]
    history = [candidate(i, rng.choice(texts), rng.gauss(0, 1), rng.choice(["neg", None])) for i in range(30)]
    other = [candidate(c.index, c.backbone.graphs[0].equation(), 0.005 * c.score - 6, None) for c in history]
    other = [replace(c, mutation=h.mutation) for c, h in zip(other, history, strict=True)]
    names = ("softmax", "neg", "scale", "softsign", "add")
    first, second = (
        OperationPriority.from_candidates(entries, names, scores="standardised")
        for entries in (history, other)
    )
    assert second.values == pytest.approx(first.values, rel=1e-9, abs=1e-9), f"seed {seed}"


@pytest.mark.parametrize("scores", [[-5.0] * 8, [0.1 + 0.2, 0.3] * 4])
def test_scores_that_do_not_differ_leave_every_operation_alike(scores):
    texts = ["softmax(Q)", "-Q"]
    history = [candidate(i, texts[i // 4], score) for i, score in enumerate(scores)]
    priority = OperationPriority.from_candidates(history, ("softmax", "neg"), scores="standardised")
    assert set(priority.values.values()) == {0.0}


@pytest.mark.parametrize("seed", range(5))
def test_by_default_a_clearly_better_operation_is_drawn_clearly_more_often(seed):
    # Negative losses as a search sees them: half of the candidates have softsign and are better by one deviation of
    # what else differs. Both operations were drawn as often.
    rng = Random(seed)
    history = [
        candidate(
            i, "softsign(Q)" if i % 2 else "logsigmoid(Q)", -5.2 + 0.005 * (i % 2) + rng.gauss(0, 0.005)
        )
        for i in range(40)
    ]
    chances = {}
    for scores, temperature in (("standardised", None), ("raw", 1.0)):
        settings = {"scores": scores} | ({"temperature": temperature} if temperature else {})
        priority = make_strategy("opnas", **settings).priority(history, SearchSpace())
        drawn = priority.probabilities(["softsign", "logsigmoid"])
        chances[scores] = drawn["softsign"] / drawn["logsigmoid"]
    # Means lie 2 / sqrt(5) deviations of all scores apart, give or take a third of one: exp(0.9 / 0.5) is 6.
    assert chances["standardised"] > 2, f"seed {seed}"
    assert chances["raw"] < 1.02, f"seed {seed}"


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
