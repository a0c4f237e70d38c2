"""The rivals that are no form of OP-NAS: random search and regularised evolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from evolution.backbone_choices import choice_space
from evolution.candidate import Candidate, ranking
from evolution.choices import ChoiceSpace
from evolution.generations import mutated_child
from evolution.priorities import Priorities
from evolution.proposal import DEFAULT_POPULATION, Proposal, check_counts
from evolution.space import SearchSpace
from graphir import InputError


@dataclass(frozen=True)
class RandomSearch:
    """Independent random backbones: the baseline that everything must beat."""

    name: ClassVar[str] = "random"

    def horizon(self, index: int) -> int:
        """Zero: results do not matter."""
        return 0

    def propose(
        self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace | ChoiceSpace
    ) -> Proposal:
        """A random backbone."""
        return Proposal(choice_space(space).random(rng))


@dataclass(frozen=True)
class RegularizedEvolution:
    """Regularised (ageing) evolution, Real et al. 2019, with choices drawn uniformly.

    The population are the last candidates that succeeded, so the oldest dies however good it is. A parent is
    the best of a random sample of it. Where none has succeeded, the proposal is a random backbone.

    Attributes:
        population: size of the population, and number of random backbones at the start (assumed; the source has 100
            of 20,000 evaluations).
        tournament: size of the sample (assumed; the source has 25 of 100).
        batch: proposals made from one state of the population; 1 is the method as published, more lets that
            many be evaluated at the same time.
    """

    population: int = DEFAULT_POPULATION
    tournament: int = 5
    batch: int = 1
    name: ClassVar[str] = "evolution"

    def __post_init__(self) -> None:
        check_counts(self, "population", "tournament", "batch")
        if self.tournament > self.population:
            raise InputError(f"tournament {self.tournament} is above population {self.population}")

    def horizon(self, index: int) -> int:
        """Zero for the random start, then the candidates before this batch."""
        if index < self.population:
            return 0
        return index - (index - self.population) % self.batch

    def propose(
        self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace | ChoiceSpace
    ) -> Proposal:
        """A child of a tournament's winner, or a random backbone."""
        choices, alive = choice_space(space), self._alive(history[: self.horizon(index)])
        if not alive:
            return Proposal(choices.random(rng))
        winner = min(rng.sample(alive, min(self.tournament, len(alive))), key=ranking)
        return mutated_child(winner, rng, choices, Priorities.uniform())

    def _alive(self, visible: Sequence[Candidate]) -> list[Candidate]:
        alive: list[Candidate] = []
        for candidate in reversed(visible):
            if len(alive) == self.population:
                break
            if candidate.ok:
                alive.append(candidate)
        return alive[::-1]
