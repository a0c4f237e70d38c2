"""Means over seeds with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 5_000
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the bounds of its 95% interval."""

    mean: float
    low: float
    high: float

    def show(self, digits: int = 0, factor: float = 1.0) -> str:
        """For people.

        Example:
            >>> Interval(12.0, 9.5, 15.2).show()
            '12 (10 to 15)'
        """
        mean, low, high = (f"{factor * value:.{digits}f}" for value in self)
        return f"{mean} ({low} to {high})"


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of ``values`` with the percentile interval of `RESAMPLES` bootstrap means.

    Example:
        >>> bootstrap_mean([2.0, 2.0, 2.0])
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    sample = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(sample), size=(RESAMPLES, len(sample)))
    means = sample[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(sample.mean()), float(low), float(high))
