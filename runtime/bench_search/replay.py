"""One search replayed on a table, and how soon it found what is good.

**Shared with a search of backbones**: the strategies of `evolution` as they are, with their populations, parents,
priorities and horizons; and the rules of the loop: proposal ``n`` follows from the earlier candidates, the seed and
``n`` alone, nothing is evaluated twice, and after so many repetitions a random architecture is taken. **Not shared**:
`evolution.search` itself, since it writes a study and knows backbones by what their graphs compute. A table has
neither; the dozen lines of `replay` stand for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from evolution import Candidate, Strategy
from evolution.loop import RANDOM_ATTEMPTS, STRATEGY_ATTEMPTS
from evolution.strategy import Proposal
from runtime.bench_search.table_space import TableSpace


def replay(space: TableSpace, strategy: Strategy, seed: int, evaluations: int) -> list[Candidate]:
    """The candidates of a search of so many ``evaluations``; fewer where nothing new could be found."""
    history: list[Candidate] = []
    seen: set[Any] = set()
    while len(history) < evaluations:
        rng = Random(f"{seed}/{len(history)}")
        for attempt in range(STRATEGY_ATTEMPTS + RANDOM_ATTEMPTS):
            if attempt < STRATEGY_ATTEMPTS:
                proposal = strategy.propose(history, len(history), rng, space)
            else:
                architecture: Any = space.random(rng)
                proposal = Proposal(architecture)
            if proposal.backbone not in seen:
                break
        else:
            break
        found: Any = proposal.backbone
        seen.add(found)
        candidate = Candidate(
            len(history), found, "", "", 0, proposal.parent, proposal.mutation, "ok", space.rows[found].score
        )
        history.append(candidate)
    return history


def evaluations_to_reach(scores: Sequence[float], threshold: float) -> int | None:
    """How many evaluations it took until one had at least the ``threshold``; None where none had.

    Example:
        >>> evaluations_to_reach([0.1, 0.7, 0.5], 0.5), evaluations_to_reach([0.1], 0.5)
        (2, None)
    """
    return next((number for number, score in enumerate(scores, 1) if score >= threshold), None)


def best_so_far(scores: Sequence[float]) -> list[float]:
    """The best of the first one, two, three, ... scores.

    Example:
        >>> best_so_far([0.1, 0.7, 0.5])
        [0.1, 0.7, 0.7]
    """
    best: list[float] = []
    for score in scores:
        best.append(max(score, best[-1]) if best else score)
    return best
