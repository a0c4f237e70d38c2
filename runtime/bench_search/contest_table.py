"""A contest as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtime.bench_search.contest import BASELINE, Contest


def format_contest(result: Contest) -> str:
    """The outcomes as a table of plain text; every mean has its 95% interval behind it."""
    unit = 10.0 ** math.floor(math.log10(max(result.best, 1e-9)) - 3)
    rank = max(1, math.ceil(result.top * result.size))
    points = list(result.outcomes[0].regret) if result.outcomes else []
    header = [
        "strategy",
        f"evaluations to the best {rank}",
        "reached",
        f"fewer than {BASELINE}",
        *(f"regret at {n}" for n in points),
    ]
    rows = [header]
    for outcome in result.outcomes:
        saved = "" if outcome.saved is None else outcome.saved.show()
        regrets = [outcome.regret[n].show(1, 1 / unit) for n in points]
        rows.append([outcome.label, outcome.evaluations.show(), f"{outcome.reached:.0%}", saved, *regrets])
    lines = [
        f"{result.table}: {result.size:,} architectures, the best {result.best:.4f}, the best {rank} from "
        f"{result.threshold:.4f}",
        f"{result.seeds} seeds, {result.evaluations} evaluations; regret in units of {unit:g}; 95% intervals",
        "",
    ]
    return "\n".join(lines + _aligned(rows))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
