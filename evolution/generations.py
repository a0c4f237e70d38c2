"""Generations of children of the best: the loop that OP-NAS shares with its ablations and with crossover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from random import Random

from evolution.backbone_choices import choice_space
from evolution.candidate import Candidate, ranking
from evolution.choices import ChoiceSpace
from evolution.priorities import Priorities
from evolution.proposal import DEFAULT_POPULATION, Proposal, check_counts, remembered
from evolution.space import SearchSpace
from graphir.checks import check_number


@dataclass(frozen=True)
class Generations:
    """``population`` random backbones, then generations: each of the ``parents`` best so far gets ``children``.

    Where fewer have succeeded than there should be parents, those there are take turns; where none has, the proposal is
    a random backbone.

    Attributes:
        population: random backbones at the start (M; assumed). Few, since a search of an hour on two cores evaluates
            some hundred candidates: what is not random is what the strategy is for.
        parents: parents of a generation (K; assumed).
        children: children of a parent (C; assumed). One: a generation is short, so that priorities are new.
        crossover: share of the children that lie between their parent and another parent of the generation, on the
            shortest edit path; the others are mutated. 0 as the paper has it.
    """

    population: int = DEFAULT_POPULATION
    parents: int = 5
    children: int = 1
    crossover: float = 0.0

    def __post_init__(self) -> None:
        check_counts(self, "population", "parents", "children")
        check_number(self.crossover, "crossover", high=1.0)

    def horizon(self, index: int) -> int:
        """Zero for the random start, then the candidates of earlier generations."""
        if index < self.population:
            return 0
        size = self.parents * self.children
        return self.population + (index - self.population) // size * size

    def propose(
        self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace | ChoiceSpace
    ) -> Proposal:
        """A child of this index's parent, or a random backbone."""
        choices, visible = choice_space(space), history[: self.horizon(index)]
        best, priorities = remembered(self, choices, visible, lambda: self._generation(visible, choices))
        if not best:
            return Proposal(choices.random(rng))
        turn = (index - self.population) % (self.parents * self.children) // self.children
        parent = best[turn % len(best)]
        others = [c for c in best if c is not parent]
        if self.crossover and others and rng.random() < self.crossover:
            return crossed_child(parent, rng.choice(others), rng, choices, priorities)
        return mutated_child(parent, rng, choices, priorities)

    def priorities(self, history: Sequence[Candidate], space: SearchSpace | ChoiceSpace) -> Priorities:
        """What choices are drawn by after ``history``: uniformly, where no strategy says otherwise."""
        return Priorities.uniform()

    def _generation(
        self, visible: Sequence[Candidate], space: ChoiceSpace
    ) -> tuple[list[Candidate], Priorities]:
        best = nsmallest(self.parents, (c for c in visible if c.ok), key=ranking)
        return best, self.priorities(visible, space)


def mutated_child(parent: Candidate, rng: Random, space: ChoiceSpace, priorities: Priorities) -> Proposal:
    """A mutation of ``parent``."""
    backbone, mutation = space.mutated(parent.backbone, rng, priorities)
    return Proposal(backbone, parent.index, mutation)


def crossed_child(
    parent: Candidate, mate: Candidate, rng: Random, space: ChoiceSpace, priorities: Priorities
) -> Proposal:
    """A child between ``parent`` and ``mate``; a mutation of ``parent`` where there is none."""
    crossed = space.crossed(parent.backbone, mate.backbone, rng)
    if crossed is None:
        return mutated_child(parent, rng, space, priorities)
    backbone, mutation = crossed
    return Proposal(backbone, parent.index, replace(mutation, mate=mate.index))
