"""Successive halving of training steps: which candidates are worth the rest of their budget.

A candidate is judged at each rung, a number of steps, and goes on only where its score there is among the best 1/eta
of the earlier candidates at that rung: the rule of ASHA (Li et al. 2020, "A System for Massively Parallel
Hyperparameter Tuning"), in the form that stops candidates rather than resumes them. What is known of earlier candidates
is what the strategy may see (`Strategy.horizon`), so that a study does not depend on how many workers there are. A
strategy that looks at no results, such as random search, stops nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evolution.candidate import STOPPED, Candidate
from evolution.evaluator import Stop, score_at
from graphir import InputError
from graphir.checks import check_whole, excerpt

DEFAULT_ETA = 3
"""One in so many goes on. 3 and 4 are what the authors of ASHA use and recommend."""


@dataclass(frozen=True)
class Rungs:
    """Where candidates are judged before their budget is spent.

    Attributes:
        steps: ascending numbers of steps, each below the budget; none means that no candidate is stopped.
        eta: about one in ``eta`` goes on from each rung.

    Raises:
        InputError: for steps that do not ascend from at least 1, or an ``eta`` below 2.
    """

    steps: tuple[int, ...] = ()
    eta: int = DEFAULT_ETA

    def __post_init__(self) -> None:
        if not isinstance(self.steps, tuple | list):
            raise InputError(f"rungs must be numbers of steps, not {excerpt(self.steps)}")
        object.__setattr__(self, "steps", tuple(self.steps))
        for steps in self.steps:
            check_whole(steps, "a rung", 1)
        if list(self.steps) != sorted(set(self.steps)):
            raise InputError(f"rungs {list(self.steps)} must ascend, such as 10,20")
        check_whole(self.eta, "eta", 2)

    def check_budget(self, budget: int) -> None:
        """Refuse rungs that a budget does not reach. Raises `InputError`."""
        if self.steps and self.steps[-1] >= budget:
            raise InputError(
                f"the rung {self.steps[-1]} must be below the {budget} steps that a candidate is trained for"
            )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"steps": list(self.steps), "eta": self.eta}

    def stops(self, visible: Sequence[Candidate]) -> tuple[Stop, ...]:
        """For each rung, the score that the next candidate needs there.

        Where fewer than ``eta`` candidates were judged at a rung it needs none. A candidate that is as good as the last
        of the best goes on.

        Args:
            visible: the earlier candidates whose results may be looked at.

        Example:
            >>> Rungs((10,)).stops([])
            (Stop(steps=10, score=-inf),)
        """
        return tuple(Stop(steps, self._needed(steps, visible)) for steps in self.steps)

    def _needed(self, steps: int, visible: Sequence[Candidate]) -> float:
        known = [c.metrics[name] for c in visible if (name := score_at(steps)) in c.metrics]
        scores = sorted((score for score in known if math.isfinite(score)), reverse=True)
        return scores[len(scores) // self.eta - 1] if len(scores) >= self.eta else -math.inf


def settled(candidate: Candidate, visible: Sequence[Candidate]) -> Candidate:
    """``candidate`` with the score that it is remembered by.

    A score after a few steps is no score after all of them: it may well be the better one (a training can spoil what
    it had), and then something that was given up would be a parent. So a candidate that was stopped never counts as
    more than the worst of those that finished before it; its score at its last rung stays in its metrics. Those that
    are finished later stand before it in any case (`evolution.candidate.ranking`).

    Args:
        candidate: just evaluated.
        visible: the earlier candidates whose results its stops followed from.
    """
    if STOPPED not in candidate.metrics or candidate.score is None:
        return candidate
    finished = [c.score for c in visible if c.score is not None and STOPPED not in c.metrics]
    return replace(candidate, score=min([candidate.score, *finished]))
