"""NSGA-II: several objectives at once, by dominance and crowding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple

from evolution.backbone_choices import choice_space
from evolution.candidate import Candidate
from evolution.choices import ChoiceSpace
from evolution.generations import crossed_child, mutated_child
from evolution.objectives import DEFAULT_OBJECTIVES, check_objectives, objective_vectors
from evolution.pareto import Vector, crowding_distances, nondominated_fronts
from evolution.priorities import Priorities
from evolution.proposal import DEFAULT_POPULATION, Proposal, check_counts, recalled, remembered
from evolution.space import SearchSpace
from graphir.checks import check_number


class Survivor(NamedTuple):
    """A member of the population with what tournaments are decided by."""

    candidate: Candidate
    front: int
    crowding: float


@dataclass(frozen=True)
class NondominatedSorting:
    """NSGA-II, Deb et al. 2002.

    Generation after generation, the survivors of the population and its children are the next population: front by
    front, and of the last front that fits in part those in the least crowded places. A parent is the winner of a
    tournament of two: the better front, then the less crowded place. Choices are drawn uniformly. Where none has
    succeeded, the proposal is a random backbone.

    Attributes:
        population: size of the population and of a generation (assumed; the source has 100).
        objectives: names with a ``-`` in front where less is better; see `evolution.objectives`.
        crossover: share of the children by crossover, the others are mutated (assumed; the source crosses 0.9 of
            the pairs and then mutates all).
    """

    population: int = DEFAULT_POPULATION
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    crossover: float = 0.5
    name: ClassVar[str] = "nsga2"

    def __post_init__(self) -> None:
        check_counts(self, "population")
        check_number(self.crossover, "crossover", high=1.0)
        object.__setattr__(self, "objectives", check_objectives(self.objectives))

    def horizon(self, index: int) -> int:
        """The candidates of earlier generations."""
        return index // self.population * self.population

    def propose(
        self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace | ChoiceSpace
    ) -> Proposal:
        """A child of tournament winners, or a random backbone."""
        choices, visible = choice_space(space), history[: self.horizon(index)]
        key = self, len(visible)
        alive = remembered(key, choices, visible, lambda: self.survivors(visible, choices))
        if not alive:
            return Proposal(choices.random(rng))
        parent, mate = _winner(alive, rng), _winner(alive, rng)
        if parent is not mate and rng.random() < self.crossover:
            return crossed_child(parent, mate, rng, choices, Priorities.uniform())
        return mutated_child(parent, rng, choices, Priorities.uniform())

    def survivors(
        self, history: Sequence[Candidate], space: SearchSpace | ChoiceSpace
    ) -> tuple[Survivor, ...]:
        """The population after ``history``, generation by generation."""
        choices, start = choice_space(space), 0
        alive: tuple[Survivor, ...] = ()
        before = history[: (len(history) - 1) // self.population * self.population]
        earlier = recalled((self, len(before)), choices, before) if before else None
        if earlier is not None:
            (alive,), start = earlier, len(before)
        for first in range(start, len(history), self.population):
            children = [c for c in history[first : first + self.population] if c.ok]
            pool = [*(survivor.candidate for survivor in alive), *children]
            vectors = objective_vectors(pool, self.objectives, choices)
            alive = select(pool, vectors, self.population)
        return alive


def select(candidates: Sequence[Candidate], vectors: Sequence[Vector], count: int) -> tuple[Survivor, ...]:
    """The ``count`` best by front, then by crowding; the earlier of equals first.

    Args:
        candidates: those to choose from.
        vectors: their objectives.
        count: how many.
    """
    chosen: list[Survivor] = []
    for number, front in enumerate(nondominated_fronts(vectors)):
        members = [candidates[i] for i in front]
        # An objective that is missing is infinitely bad: a finite floor keeps the distances numbers.
        distances = crowding_distances([tuple(map(_finite, vectors[i])) for i in front])
        ranked = [Survivor(c, number, d) for c, d in zip(members, distances, strict=True)]
        if len(chosen) + len(ranked) > count:
            ranked.sort(key=lambda s: (-s.crowding, s.candidate.index))
        chosen += ranked[: count - len(chosen)]
        if len(chosen) == count:
            break
    return tuple(chosen)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.copysign(1e300, value) / 4


def _winner(alive: Sequence[Survivor], rng: Random) -> Candidate:
    pair = rng.sample(alive, min(2, len(alive)))
    return min(pair, key=lambda s: (s.front, -s.crowding)).candidate
