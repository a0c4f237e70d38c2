"""Every strategy on one table, with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evolution import Strategy, make_strategy
from graphir import InputError
from graphir.checks import check_number, check_whole
from graphir.validation import nearest
from runtime.bench_search.intervals import Interval, bootstrap_mean
from runtime.bench_search.replay import best_so_far, evaluations_to_reach, replay
from runtime.bench_search.table_space import TableSpace

ENTRANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "evolution": ("evolution", {}),
    "nsga2": ("nsga2", {}),
    "uniform": ("uniform", {}),
    "crossover": ("crossover", {}),
    "greedy": ("greedy", {}),
    "opnas, as the paper": ("opnas", {"scores": "raw", "temperature": 1.0}),
    "opnas": ("opnas", {}),
    "opnas, by position": (
        "opnas",
        {"context": "position", "alpha": 0.0, "temperature": 0.25, "shrinkage": 5.0, "scores": "ranked"},
    ),
}
"""What takes part: a label, the strategy's name, and the fields in which it differs from its defaults."""
BASELINE = "uniform"
"""The entrant that differences are taken from: the loop of OP-NAS without its priorities."""


@dataclass(frozen=True)
class Outcome:
    """How one entrant did. The regret is how far the best score so far is below the best of the table.

    Attributes:
        label: of the entrant.
        reached: share of the seeds that reached the top of the table.
        evaluations: until they did; a seed that did not counts as all evaluations.
        saved: by how many evaluations that is less than the baseline with the same seed; None without a baseline.
        regret: by number of evaluations.
        curve: the mean regret after each evaluation.
    """

    label: str
    reached: float
    evaluations: Interval
    saved: Interval | None
    regret: Mapping[int, Interval]
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Contest:
    """The outcomes of all entrants on one table.

    Attributes:
        table: name of the table.
        size: its rows.
        best: its best score.
        top: the share of its rows that is aimed at.
        threshold: the score of the last of those.
        seeds: replays of each entrant.
        evaluations: of each replay.
        outcomes: in the order of the entrants.
    """

    table: str
    size: int
    best: float
    top: float
    threshold: float
    seeds: int
    evaluations: int
    outcomes: tuple[Outcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def contest(
    space: TableSpace,
    labels: Sequence[str] = tuple(ENTRANTS),
    *,
    seeds: int = 60,
    evaluations: int = 300,
    top: float = 0.001,
    progress: Callable[[str], None] = lambda line: None,
) -> Contest:
    """Replay each of the entrants called ``labels`` with each seed.

    Args:
        space: the table.
        labels: keys of `ENTRANTS`.
        seeds: replays of each; the same ones for all, so that all begin with the same random architectures.
        evaluations: of each replay, at most as many as the table has rows.
        top: share of the rows that is aimed at; at least one row.
        progress: is told of each entrant.

    Raises:
        InputError: for an unknown label or numbers out of bounds.
    """
    check_whole(seeds, "seeds")
    check_whole(evaluations, "evaluations")
    check_number(top, "top", high=1.0)
    for label in labels:
        if label not in ENTRANTS:
            raise InputError(f"unknown entrant {label[:60]!r}; {nearest(label, ENTRANTS)}")
    evaluations = min(evaluations, len(space.rows))
    threshold = space.ranked[max(1, math.ceil(top * len(space.rows))) - 1]
    curves: dict[str, list[list[float]]] = {}
    for label in labels:
        progress(f"{space.name}: {label}, {seeds} searches of {evaluations}")
        strategy = _entrant(label, space)
        curves[label] = [_best_scores(space, strategy, seed, evaluations) for seed in range(seeds)]
    baseline = _needed(curves[BASELINE], threshold) if BASELINE in curves else None
    outcomes = tuple(_outcome(label, found, space, threshold, baseline) for label, found in curves.items())
    return Contest(space.name, len(space.rows), space.ranked[0], top, threshold, seeds, evaluations, outcomes)


def _entrant(label: str, space: TableSpace) -> Strategy:
    name, settings = ENTRANTS[label]
    if name == "nsga2":
        settings = {**settings, "objectives": ("score", f"-{space.cost}")}
    return make_strategy(name, **settings)


def _best_scores(space: TableSpace, strategy: Strategy, seed: int, evaluations: int) -> list[float]:
    """The best score after each evaluation; the last one goes on where nothing new was found."""
    scores = [c.score for c in replay(space, strategy, seed, evaluations) if c.score is not None]
    best = best_so_far(scores)
    return best + best[-1:] * (evaluations - len(best))


def _needed(curves: Sequence[Sequence[float]], threshold: float) -> list[int]:
    return [evaluations_to_reach(curve, threshold) or len(curve) for curve in curves]


def _outcome(
    label: str,
    curves: Sequence[Sequence[float]],
    space: TableSpace,
    threshold: float,
    baseline: Sequence[int] | None,
) -> Outcome:
    needed = _needed(curves, threshold)
    saved = None
    if baseline is not None and label != BASELINE:
        saved = bootstrap_mean([before - now for before, now in zip(baseline, needed, strict=True)])
    best, length = space.ranked[0], len(curves[0])
    return Outcome(
        label,
        sum(curve[-1] >= threshold for curve in curves) / len(curves),
        bootstrap_mean(needed),
        saved,
        {n: bootstrap_mean([best - curve[n - 1] for curve in curves]) for n in checkpoints(length)},
        tuple(best - sum(curve[n] for curve in curves) / len(curves) for n in range(length)),
    )


def checkpoints(evaluations: int) -> list[int]:
    """Where the regret is looked at: at a fifth, at three fifths and at the end.

    Example:
        >>> checkpoints(500), checkpoints(2)
        ([100, 300, 500], [1, 2])
    """
    return sorted({max(1, evaluations * part // 5) for part in (1, 3, 5)})
