"""Mean scores of the candidates that contain something."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Tally:
    """Sums of scores and of weights by key. A key counts once a candidate, however often it stands there.

    Example:
        >>> tally = Tally()
        >>> tally.add(["neg", "add", "neg"], 1.0)
        >>> tally.add(["add"], 3.0, weight=0.5)
        >>> tally.mean("neg"), round(tally.mean("add"), 3), tally.weights["add"]
        (1.0, 1.667, 1.5)
    """

    def __init__(self) -> None:
        self.weights: dict[Hashable, float] = {}
        self.totals: dict[Hashable, float] = {}

    def add(self, keys: Iterable[Hashable], score: float, weight: float = 1.0) -> None:
        """Count a candidate under each of ``keys``."""
        weights, totals = self.weights, self.totals
        for key in frozenset(keys):
            weights[key] = weights.get(key, 0.0) + weight
            totals[key] = totals.get(key, 0.0) + weight * score

    def mean(self, key: Hashable) -> float:
        """The mean score under ``key``, which must have been added; 0 where all weights have vanished."""
        return self.totals[key] / self.weights[key] if self.weights[key] else 0.0
