"""Which operation to try next: an upper confidence bound per operation, drawn from by softmax.

Gao et al. 2022: ``u_i = mu_i + alpha * sqrt(2 ln N / N_i)``, operations drawn from ``softmax(u)``.

The paper says nothing of the scale of scores. It matters: raw scores that differ by 0.005 leave the softmax
uniform, and the bonus drowns them. So ``mu_i`` can be taken of standardised scores (assumed), which differ by
about 1 whatever the task is. The bonus then fits as well: it is that of a bandit whose rewards have the standard
deviation 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Literal

import numpy as np

from evolution.candidate import Candidate
from evolution.tally import Tally

DEFAULT_ALPHA = 1.0
"""Weight of exploration (assumed)."""
PLAIN_TEMPERATURE = 1.0
"""The paper's plain softmax."""

Scores = Literal["standardised", "raw", "ranked"]
"""What ``mu_i`` is the mean of: scores less their mean, in standard deviations (assumed); scores as they are, as the
paper has it; or their ranks, standardised, which a few broken candidates cannot stretch."""


@dataclass(frozen=True)
class OperationPriority:
    """The priority of every operation.

    An operation that was never drawn counts as drawn once: the largest bonus that is finite. One that is in
    no scored candidate takes the largest mean of the others. Both are optimistic, so the unseen is tried.

    Attributes:
        values: ``u_i`` by operation.
        temperature: ``u`` is divided by it before the softmax.
    """

    values: Mapping[str, float]
    temperature: float = PLAIN_TEMPERATURE
    _chances: dict[tuple[str, ...], list[float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def uniform(cls, operations: Sequence[str]) -> OperationPriority:
        """Every operation alike: what the baselines use."""
        return cls(dict.fromkeys(operations, 0.0))

    @classmethod
    def from_statistics(
        cls,
        operations: Sequence[str],
        means: Mapping[str, float],
        draws: Mapping[str, float],
        alpha: float = DEFAULT_ALPHA,
        temperature: float = PLAIN_TEMPERATURE,
    ) -> OperationPriority:
        """From mean scores ``mu_i`` and numbers of draws ``N_i``; what is missing was never seen.

        Example:
            >>> priority = OperationPriority.from_statistics(("neg", "add"), {"neg": 0.5}, {"neg": 4})
            >>> [round(u, 3) for u in priority.values.values()]
            [1.333, 2.165]
        """
        optimistic = max((means[name] for name in operations if name in means), default=0.0)
        log_total = math.log(max(1, sum(draws.get(name, 0) for name in operations)))
        values = {
            name: means.get(name, optimistic) + alpha * math.sqrt(2 * log_total / max(1, draws.get(name, 0)))
            for name in operations
        }
        return cls(values, temperature)

    @classmethod
    def from_candidates(
        cls,
        candidates: Iterable[Candidate],
        operations: Sequence[str],
        alpha: float = DEFAULT_ALPHA,
        temperature: float = PLAIN_TEMPERATURE,
        scores: Scores = "raw",
    ) -> OperationPriority:
        """From a history: ``mu_i`` is the mean score of the candidates that contain operation i.

        Candidates that failed have no score and count only as draws.

        Args:
            candidates: the history.
            operations: those that get a priority.
            alpha: weight of exploration.
            temperature: of the softmax.
            scores: "raw" as the paper has it; "standardised" or "ranked" over the candidates that have a score.
        """
        history = list(candidates)
        scored = [c for c in history if c.score is not None]
        tally, draws = Tally(), Counter[str]()
        values = comparable([c.score for c in scored if c.score is not None], scores)
        for candidate, value in zip(scored, values, strict=True):
            tally.add(candidate.operations, value)
        for candidate in history:
            if candidate.mutation is not None and candidate.mutation.operation is not None:
                draws[candidate.mutation.operation] += 1
        means = {name: tally.mean(name) for name in operations if name in tally}
        return cls.from_statistics(operations, means, draws, alpha, temperature)

    def probabilities(self, fitting: Sequence[str] | None = None) -> dict[str, float]:
        """``softmax(u / temperature)`` over the operations in ``fitting``, by default over all."""
        names = list(self.values if fitting is None else fitting)
        if not names:
            return {}
        scaled = [self.values[name] / self.temperature for name in names]
        top = max(scaled)
        weights = [math.exp(u - top) for u in scaled]
        total = sum(weights)
        return {name: weight / total for name, weight in zip(names, weights, strict=True)}

    def draw(self, rng: Random, fitting: Sequence[str]) -> str:
        """One of ``fitting``, drawn from the softmax over them.

        Raises:
            ValueError: where ``fitting`` is empty.
        """
        names = tuple(fitting)
        if not names:
            raise ValueError("no operation fits: give at least one to draw from")
        if names not in self._chances:  # one generation draws from the same few selections again and again
            self._chances[names] = list(accumulate(self.probabilities(names).values()))
        return rng.choices(names, cum_weights=self._chances[names])[0]


def comparable(values: Sequence[float], scores: Scores) -> list[float]:
    """Scores in the form in which priorities take their means."""
    if scores == "raw":
        return list(values)
    return standardised(ranks(values) if scores == "ranked" else values)


def ranks(values: Sequence[float]) -> list[float]:
    """The place of each value in ascending order, from 0; equal values share the mean of their places.

    Example:
        >>> ranks([0.5, -9.0, 0.5])
        [1.5, 0.0, 1.5]
    """
    _, kinds, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    places: list[float] = (last - (counts - 1) / 2)[kinds].tolist()
    return places


def standardised(scores: Sequence[float]) -> list[float]:
    """Scores less their mean, divided by their standard deviation; zeros where they do not differ.

    Example:
        >>> standardised([-4.0, -2.0]), standardised([0.1, 0.1])
        ([-1.0, 1.0], [0.0, 0.0])
    """
    if not scores:
        return []
    # Scores of any size are finite; their squares need not be.
    array = np.asarray(scores, float)
    scaled = array / (np.abs(array).max() or 1.0)
    # Exact sums: the mean of scores does not depend on the order in which a processor adds.
    apart = scaled - math.fsum(scaled.tolist()) / len(scaled)
    deviation = math.sqrt(math.fsum((apart * apart).tolist()) / len(scaled))
    # Equal scores may come out with a deviation of a rounding.
    if deviation <= 1e-15:
        return [0.0] * len(scores)
    result: list[float] = (apart / deviation).tolist()
    return result
