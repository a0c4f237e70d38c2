"""The ranking of a report: a row a candidate, sorted by whatever column the reader chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evolution import Candidate
from evolution.loop import DUPLICATES
from graphir.cost import quantity
from runtime.report.data import RunData
from runtime.report.objectives import Objective
from runtime.report.tables import Cell

MOST_ROWS = 1_000
MOST_METRICS = 6
"""Columns of recorded metrics; more can be read where a candidate is shown."""


@dataclass(frozen=True)
class Ranking:
    """The table.

    Attributes:
        heads: of the columns.
        rows: best first; of equal length.
        left_out: how many candidates that have a score are not in it.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int


def rank(run: RunData, objectives: Sequence[Objective]) -> Ranking:
    """The ranking of all candidates that have a score, cut off at `MOST_ROWS`."""
    shown = run.ranked[:MOST_ROWS]
    metrics = metric_names(shown, objectives)
    heads = ("rank", "candidate", "score", *metrics, *(o.name for o in objectives), "seconds", "made by")
    rows = []
    for place, candidate in enumerate(shown, 1):
        cells = [Cell(str(place), place), Cell(str(candidate.index), candidate.index, candidate.index)]
        cells.append(_number(candidate.score))
        cells += [_number(candidate.metrics.get(name)) for name in metrics]
        cells += [objective_cell(objective, candidate) for objective in objectives]
        cells += [Cell(f"{candidate.seconds:.1f}", candidate.seconds), Cell(made_by(candidate))]
        rows.append(tuple(cells))
    return Ranking(heads, tuple(rows), len(run.ranked) - len(shown))


def metric_names(candidates: Sequence[Candidate], objectives: Sequence[Objective]) -> tuple[str, ...]:
    """The recorded metrics that deserve a column: not those of other columns, and not the score by another sign."""
    hidden = {o.name for o in objectives} | {DUPLICATES}
    names = dict.fromkeys(name for c in candidates for name in c.metrics if name not in hidden)
    told = [n for n in names if not all(c.metrics.get(n) in (c.score, -(c.score or 0.0)) for c in candidates)]
    return tuple(sorted(told, key=lambda name: (name != "accuracy", name))[:MOST_METRICS])


def made_by(candidate: Candidate) -> str:
    """How a candidate came to be."""
    return "random" if candidate.parent is None else f"{candidate.parent}: {candidate.mutation}"


def objective_cell(objective: Objective, candidate: Candidate) -> Cell:
    """The value of an objective for people."""
    value = objective.values[candidate.index]
    return Cell(f"{value * 1e6:,.3g} µs" if objective.unit == "s" else quantity(value), value)


def _number(value: float | None) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("-")
    return Cell(f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}", value)
