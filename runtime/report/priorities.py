"""How the operation priorities of a search changed with its candidates."""

from __future__ import annotations

from dataclasses import dataclass

from evolution.strategy import OperationPriorityEvolution
from runtime.report.data import RunData

MOST_MOMENTS = 32
"""Columns of the heat map: as many as a phone can show."""


@dataclass(frozen=True)
class PriorityHistory:
    """The chance of each operation to be drawn, after some numbers of candidates.

    Attributes:
        moments: numbers of candidates.
        operations: the likeliest at the end first.
        chances: by operation, one for each moment; those of one moment add up to 1.
        priorities: the priorities ``u`` that the chances are the softmax of, in the same places.
    """

    moments: tuple[int, ...]
    operations: tuple[str, ...]
    chances: tuple[tuple[float, ...], ...]
    priorities: tuple[tuple[float, ...], ...]


def priority_history(run: RunData) -> PriorityHistory | None:
    """Worked out again from the candidates; None where the strategy has no priorities, or nothing is there yet."""
    strategy = run.config.make_strategy()
    if not isinstance(strategy, OperationPriorityEvolution) or not run.candidates:
        return None
    moments = _moments(len(run.candidates))
    found = [strategy.priority(run.candidates[:moment], run.config.space) for moment in moments]
    chances = [priority.probabilities() for priority in found]
    operations = sorted(chances[-1], key=lambda name: (-chances[-1][name], name))
    return PriorityHistory(
        tuple(moments),
        tuple(operations),
        tuple(tuple(column[name] for column in chances) for name in operations),
        tuple(tuple(priority.values[name] for priority in found) for name in operations),
    )


def _moments(candidates: int) -> list[int]:
    """Up to `MOST_MOMENTS` numbers from 1 to ``candidates``, evenly spread, the last included."""
    count = min(MOST_MOMENTS, candidates)
    return [round((number + 1) * candidates / count) for number in range(count)]
