"""Time and memory of functions on a device: CUDA events on a GPU, `runtime.timing` on a CPU."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from runtime.timing import Timing, time_interleaved

FLUSH_BYTES = 2**28
"""Written before each timed call, so that it finds nothing in the cache of the device: more than any L2 holds."""

ROUND_SECONDS = 0.02
"""About how long one function is called in one round; the round's time is the median of these calls."""

MOST_CALLS = 10

TOTAL_SECONDS = 4.0
"""Slow functions are timed in fewer rounds, so that all together take about this long."""


def time_forms(functions: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, Timing]:
    """Time every function once a round, in turn.

    Args:
        functions: by name; called without arguments. Each has been called before.
        rounds: how often each is timed; fewer where that would take long, but at least 1.
        device: ``"cuda"`` for times on the current CUDA device, with its L2 cache flushed before each call;
            otherwise wall-clock times.

    Returns:
        Seconds of one call, one time a round.
    """
    if device != "cuda":
        return time_interleaved(functions, rounds)
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    once = {name: _wall_seconds(function) for name, function in functions.items()}
    calls = {name: max(1, min(MOST_CALLS, int(ROUND_SECONDS / seconds))) for name, seconds in once.items()}
    a_round = sum(once[name] * (1 + calls[name]) for name in once)
    rounds = max(1, min(rounds, int(TOTAL_SECONDS / a_round))) if once else 0
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()  # the allocator is as this function's own last call left it
            seconds[name].append(statistics.median(_event_seconds(function, calls[name], flush)))
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def peak_bytes(function: Callable[[], object], device: str) -> int | None:
    """The most memory that one call holds above what is allocated before it, results included; None on a CPU."""
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def release_memory(device: str) -> None:
    """Give memory that nobody uses back to the device, so that what runs next is not short of it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def is_lost(device: str) -> bool:
    """Whether the device answers no more: after an illegal access every later call of the process fails."""
    if device != "cuda":
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _wall_seconds(function: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _event_seconds(function: Callable[[], object], calls: int, flush: torch.Tensor) -> list[float]:
    """Seconds on the device of each call. Nothing is waited for between calls, so launches run ahead."""
    pairs = []
    for _ in range(calls):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in pairs]
