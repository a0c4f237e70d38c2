"""Mean scores of the candidates that contain something."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator


class Tally:
    """Sums of scores and of weights by key. A key counts once a candidate, however often it stands there.

    Example:
        >>> tally = Tally()
        >>> tally.add(["neg", "add", "neg"], 1.0)
        >>> tally.add(["add"], 3.0, weight=0.5)
        >>> tally.mean("neg"), round(tally.mean("add"), 3), tally.weight("add")
        (1.0, 1.667, 1.5)
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, list[float]] = {}

    def add(self, keys: Iterable[Hashable], score: float, weight: float = 1.0) -> None:
        """Count a candidate under each of ``keys``."""
        sums, part = self._sums, weight * score
        for key in keys if isinstance(keys, frozenset) else frozenset(keys):
            found = sums.get(key)
            if found is None:
                sums[key] = [weight, part]
            else:
                found[0] += weight
                found[1] += part

    def weight(self, key: Hashable) -> float:
        """The summed weight of the candidates that contain ``key``; 0 where there is none."""
        return self._sums[key][0] if key in self._sums else 0.0

    def total(self, key: Hashable) -> float:
        """The weighted sum of their scores."""
        return self._sums[key][1] if key in self._sums else 0.0

    def mean(self, key: Hashable) -> float:
        """The mean score under ``key``, which must have been added; 0 where all weights have vanished."""
        weight, total = self._sums[key]
        return total / weight if weight else 0.0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sums

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._sums)
