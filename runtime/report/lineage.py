"""The way from a random backbone to the winner, a mutation a step."""

from __future__ import annotations

from dataclasses import dataclass

from evolution import Candidate
from graphir.diff import Difference
from runtime.report.data import RunData


@dataclass(frozen=True)
class Step:
    """One ancestor of the winner, or the winner.

    Attributes:
        candidate: who.
        rank: its place among all scored candidates, from 1.
        mutation: how it was made from the step before; None for a random one.
        difference: what changed since the step before; None for the first step that is shown.
        gain: its score less that of the step before; None where there is none.
        mate: the second parent of a crossover; None for anything else.
        mate_difference: what is otherwise in the second parent; None without one.
    """

    candidate: Candidate
    rank: int | None
    mutation: str | None
    difference: Difference | None
    gain: float | None
    mate: Candidate | None = None
    mate_difference: Difference | None = None

    @property
    def parents(self) -> tuple[tuple[str, Difference, tuple[tuple[str, Difference], ...]], ...]:
        """For each parent a title, what changed since it, and the graphs that did, each with its place."""
        if self.difference is None:
            return ()
        found = [
            ("what changed" if self.mate is None else "what is not as in the first parent", self.difference)
        ]
        if self.mate_difference is not None:
            found.append(("what is not as in the second parent", self.mate_difference))
        return tuple((title, difference, _graphs(difference)) for title, difference in found)


def lineage(run: RunData, most: int) -> tuple[tuple[Step, ...], int]:
    """The ancestors of the best candidate, oldest first, itself last.

    Args:
        run: the run.
        most: how many steps are wanted; the newest are taken.

    Returns:
        The steps, and how many older ones are left out.
    """
    if not run.ranked:
        return (), 0
    chain = [run.ranked[0]]
    while chain[-1].parent is not None:
        chain.append(run.candidates[chain[-1].parent])
    left_out = max(0, len(chain) - most)
    chain = chain[:most][::-1]
    ranks = {c.index: rank for rank, c in enumerate(run.ranked, 1)}
    steps = []
    for number, candidate in enumerate(chain):
        before = chain[number - 1] if number else None
        mate = _mate(run, candidate)
        gain = None
        if before is not None and before.score is not None and candidate.score is not None:
            gain = candidate.score - before.score
        steps.append(
            Step(
                candidate,
                ranks.get(candidate.index),
                None if candidate.mutation is None else str(candidate.mutation),
                None if before is None else before.backbone.diff(candidate.backbone),
                gain,
                mate,
                None if mate is None else mate.backbone.diff(candidate.backbone),
            )
        )
    return tuple(steps), left_out


def _mate(run: RunData, candidate: Candidate) -> Candidate | None:
    """The second parent. A study may be a stranger's, so the index may be any number."""
    index = None if candidate.mutation is None else candidate.mutation.mate
    return None if index is None or not 0 <= index < candidate.index else run.candidates[index]


def _graphs(difference: Difference) -> tuple[tuple[str, Difference], ...]:
    return tuple((c.where, c.inside) for c in difference.changes if c.inside is not None)
