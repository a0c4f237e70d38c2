"""The Pareto front of a search as a table on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from evolution import Candidate, pareto_front
from evolution.objectives import DEFAULT_OBJECTIVES, objective_vectors
from graphir.cost import quantity
from runtime.console import say
from runtime.run_config import RunConfig

_SHOWN = 12


def objectives_of_run(config: RunConfig) -> tuple[str, ...]:
    """The objectives of the strategy, or score against parameters where it has none of its own."""
    return tuple(config.strategy_settings.get("objectives", DEFAULT_OBJECTIVES))


def print_front(candidates: Sequence[Candidate], config: RunConfig, console: Console) -> None:
    """The candidates that no other beats in every objective, the best in the first one first.

    Args:
        candidates: all of the study.
        config: of its run.
        console: where to print.
    """
    objectives = objectives_of_run(config)
    front = pareto_front(candidates, objectives, config.space)
    vectors = objective_vectors(front, objectives, config.space)
    order = sorted(range(len(front)), key=lambda i: vectors[i], reverse=True)
    names = [objective.removeprefix("-") for objective in objectives]
    signs = [-1.0 if objective.startswith("-") else 1.0 for objective in objectives]
    rows = [
        [str(front[i].index), *(_shown(n, s * v) for n, s, v in zip(names, signs, vectors[i], strict=True))]
        for i in order[:_SHOWN]
    ]
    widths = [max(map(len, column)) for column in zip(("candidate", *names), *rows, strict=True)]
    say(console, f"\nPareto front of {', '.join(objectives)}: {len(front)} candidates", "bold")
    for cells in (["candidate", *names], *rows):
        say(
            console, "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)), cut=True
        )
    if len(front) > _SHOWN:
        say(console, f"and {len(front) - _SHOWN} more in the report")


def _shown(name: str, value: float) -> str:
    """A value for people. Where nothing was recorded it is infinitely bad."""
    if value in (float("inf"), float("-inf")):
        return "-"
    return quantity(value) if value >= 1000 else f"{value:.4g}" if name.endswith("_ms") else f"{value:.4f}"
