"""Strategies: what to propose next, given the history. One table, one loop for all (`evolution.search`).

A strategy holds fields but no state. A proposal follows from the history, the random source and the index
alone, so a search that was killed goes on exactly where it stood.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from evolution.baselines import RandomSearch, RegularizedEvolution
from evolution.nsga2 import NondominatedSorting
from evolution.operation_priority import (
    DEFAULT_TEMPERATURE,
    CrossoverEvolution,
    GreedyEvolution,
    OperationPriorityEvolution,
    UniformEvolution,
)
from evolution.proposal import DEFAULT_POPULATION, Proposal, Strategy
from graphir import InputError
from graphir.validation import nearest

__all__ = [
    "DEFAULT_POPULATION",
    "DEFAULT_TEMPERATURE",
    "STRATEGIES",
    "CrossoverEvolution",
    "GreedyEvolution",
    "NondominatedSorting",
    "OperationPriorityEvolution",
    "Proposal",
    "RandomSearch",
    "RegularizedEvolution",
    "Strategy",
    "UniformEvolution",
    "describe_strategy",
    "make_strategy",
]

_Strategy = (
    type[OperationPriorityEvolution]
    | type[UniformEvolution]
    | type[CrossoverEvolution]
    | type[RandomSearch]
    | type[RegularizedEvolution]
    | type[NondominatedSorting]
)

STRATEGIES: dict[str, _Strategy] = {
    "opnas": OperationPriorityEvolution,
    "uniform": UniformEvolution,
    "greedy": GreedyEvolution,
    "crossover": CrossoverEvolution,
    "evolution": RegularizedEvolution,
    "nsga2": NondominatedSorting,
    "random": RandomSearch,
}
"""Every strategy by name."""


def make_strategy(name: str, **settings: Any) -> Strategy:
    """The strategy called ``name`` with its fields.

    Raises:
        InputError: for an unknown name or field, with the nearest known ones, or a value out of bounds.

    Example:
        >>> make_strategy("opnas", population=20).horizon(20)
        20
    """
    if name not in STRATEGIES:
        raise InputError(f"unknown strategy {name[:60]!r}; {nearest(name, STRATEGIES)}")
    known = [f.name for f in fields(STRATEGIES[name])]
    for setting in settings:
        if setting not in known:
            hint = nearest(setting, known) if known else "it has none"
            raise InputError(f"strategy {name!r} has no field {setting[:60]!r}; {hint}")
    return STRATEGIES[name](**settings)


def describe_strategy(strategy: Any) -> dict[str, Any]:
    """Name and fields, ready for JSON."""
    described = {"name": strategy.name, **asdict(strategy)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in described.items()}
