"""How the priorities of a search changed with its candidates, and where they differ from place to place."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from evolution import Priorities
from evolution.backbone_choices import choice_space
from evolution.priority import OperationPriority
from evolution.strategy import OperationPriorityEvolution
from runtime.report.data import RunData

MOST_MOMENTS = 32
"""Columns of the heat map: as many as a phone can show."""


@dataclass(frozen=True)
class PriorityMap:
    """The chance of each choice of a family to be drawn, at some moments or in some contexts.

    Attributes:
        family: what is drawn: "operation", "kind" (of a layer) or "kernel_size".
        across: what the columns are: "candidates", "position" or "neighbour".
        columns: numbers of candidates, or the contexts.
        names: of the choices, the likeliest in the last column, or anywhere, first.
        chances: by name, one for each column; those of one column add up to 1.
        priorities: the priorities ``u`` that the chances are the softmax of, in the same places.
    """

    family: str
    across: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    chances: tuple[tuple[float, ...], ...]
    priorities: tuple[tuple[float, ...], ...]


def priority_maps(run: RunData) -> tuple[PriorityMap, ...]:
    """Worked out again from the candidates: each family over time, then each in its contexts as they are now.

    There are none where the strategy has no priorities, or nothing is there yet.
    """
    strategy = run.config.make_strategy()
    if not isinstance(strategy, OperationPriorityEvolution) or not run.candidates:
        return ()
    moments = _moments(len(run.candidates))
    found = [strategy.priorities(run.candidates[:moment], run.config.space) for moment in moments]
    families = choice_space(run.config.space).families
    over_time = [
        _map(family, "candidates", list(map(str, moments)), [p.plain[family] for p in found], found[-1])
        for family in families
    ]
    return (*over_time, *(m for family in families if (m := _in_contexts(family, found[-1])) is not None))


def _in_contexts(family: str, now: Priorities) -> PriorityMap | None:
    """A column for each context in which something of the family was seen; None where there are no contexts."""
    contexts = sorted((context for of, context in now.placed if of == family), key=_order)
    if not contexts:
        return None
    columns = [str(c + 1) if isinstance(c, int) else str(c) or "output" for c in contexts]
    return _map(family, now.context, columns, [now.placed[family, context] for context in contexts], now)


def _order(context: Hashable) -> tuple[int, str]:
    return (context, "") if isinstance(context, int) else (0, str(context))


def _map(
    family: str, across: str, columns: list[str], found: list[OperationPriority], now: Priorities
) -> PriorityMap:
    chances = [priority.probabilities() for priority in found]
    last = now.plain[family].probabilities()
    names = sorted(last, key=lambda name: (-last[name], name))
    return PriorityMap(
        family,
        across,
        tuple(columns),
        tuple(names),
        tuple(tuple(column[name] for column in chances) for name in names),
        tuple(tuple(priority.values[name] for priority in found) for name in names),
    )


def _moments(candidates: int) -> list[int]:
    """Up to `MOST_MOMENTS` numbers from 1 to ``candidates``, evenly spread, the last included."""
    count = min(MOST_MOMENTS, candidates)
    return [round((number + 1) * candidates / count) for number in range(count)]
