"""Timing several functions against each other on a machine that is never quite quiet."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_ROUNDS = 300
"""Of a function that is over at once."""


@dataclass(frozen=True)
class Timing:
    """Wall-clock times of one function.

    Attributes:
        seconds: one time a round, in order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles, as a part of the median; zero for a single round."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median


def time_interleaved(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    least_seconds: float = 0.0,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every function once a round (A B C, A B C, ...), so that a slow minute hits all of them alike.

    Each is called once more right before it is timed, so that caches and the allocator are as its own last call left
    them, as in a training loop. Otherwise a function would also be charged for the gigabytes that its neighbour in
    the round has just given back to the system.

    Args:
        functions: by name; called without arguments. Results are dropped at once.
        rounds: how often each is timed, at least 1.
        least_seconds: quick functions are timed more often, until this much time has passed, but in no more than
            `MOST_ROUNDS` rounds: what disturbs them is longer than they are.
        warm_up: calls of each before the first round, for what happens once, such as compiling.
        clock: gives seconds.

    Raises:
        ValueError: for ``rounds`` below 1.

    Example:
        >>> calls = []
        >>> timings = time_interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
        >>> "".join(calls), len(timings["a"].seconds)
        ('abaabbaabb', 2)
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    for _ in range(warm_up):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    # A collection in the middle of a round would be charged to whoever runs.
    collects = gc.isenabled()
    gc.disable()
    try:
        begun, done = clock(), 0
        while done < rounds or (done < MOST_ROUNDS and clock() - begun < least_seconds):
            for name, function in functions.items():
                function()
                start = clock()
                function()
                seconds[name].append(clock() - start)
            done += 1
    finally:
        if collects:
            gc.enable()
    return {name: Timing(tuple(times)) for name, times in seconds.items()}
