"""How well one ranking agrees with another: Kendall's tau with a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphir import InputError

RESAMPLES = 2_000
LEVEL = 0.95


class Agreement(NamedTuple):
    """Kendall's tau-b and the bounds of its 95% percentile interval over resampled backbones."""

    tau: float
    low: float
    high: float


def agreement(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Agreement:
    """Kendall's tau-b of two lists of numbers, one of each a backbone; 0 where one of them tells nothing apart.

    Raises:
        InputError: where they are not equally long, or hold less than three numbers.

    Example:
        >>> agreement([1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 9.0, 11.0]).tau
        1.0
    """
    if len(first) != len(second) or len(first) < 3:
        raise InputError(f"rankings of {len(first)} and {len(second)} backbones cannot be compared")
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    generator = np.random.default_rng(seed)
    taus = []
    for _ in range(RESAMPLES):
        rows = generator.integers(len(a), size=len(a))
        taus.append(_tau(a[rows], b[rows]))
    low, high = np.quantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Agreement(_tau(a, b), float(low), float(high))


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    """Tau-b from the signs of all pairs: for some dozens of numbers faster than sorting them."""
    rows, columns = np.triu_indices(len(a), 1)
    first, second = np.sign(a[rows] - a[columns]), np.sign(b[rows] - b[columns])
    pairs = math.sqrt(np.count_nonzero(first) * np.count_nonzero(second))
    return float((first * second).sum() / pairs) if pairs else 0.0
