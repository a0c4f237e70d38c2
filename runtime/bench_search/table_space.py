"""`TableSpace`: architectures of a few slots, each with its options, whose results stand in a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from random import Random
from typing import NamedTuple

from evolution import Choice, Mutation, Priorities

Architecture = tuple[str, ...]
"""An option for every slot."""
Settle = Callable[[Architecture, Random, tuple[Architecture, ...]], Architecture | None]
"""The row that stands for any architecture, drawn where several do; never one of those listed; None for none."""

CROSSOVER_ATTEMPTS = 10
"""How often slots are drawn before there is held to be no child that is neither parent."""


class Slot(NamedTuple):
    """A place where something is chosen.

    Attributes:
        family: what is chosen; slots of one family share their priorities.
        options: the names to choose from.
    """

    family: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What a table knows of an architecture.

    Attributes:
        score: what a search maximises.
        costs: what else is known, such as "parameters".
    """

    score: float
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TableSpace:
    """A table as a space of choices (`evolution.ChoiceSpace`): one slot is changed by a mutation.

    Attributes:
        name: for people.
        slots: the slots of an architecture.
        rows: results by architecture.
        settle: which row stands for an architecture.
        cost: name of the cost that is the second objective where there are two; less is better.
        neighbour: the neighbour of a slot in an architecture, for priorities beside neighbours.
    """

    name: str
    slots: tuple[Slot, ...]
    rows: Mapping[Architecture, Row]
    settle: Settle
    cost: str
    neighbour: Callable[[Architecture, int], str] = lambda architecture, slot: ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_choices", {})

    @cached_property
    def families(self) -> Mapping[str, tuple[str, ...]]:
        """The options by family."""
        found: dict[str, dict[str, None]] = {}
        for slot in self.slots:
            found.setdefault(slot.family, {}).update(dict.fromkeys(slot.options))
        return {family: tuple(names) for family, names in found.items()}

    def random(self, rng: Random) -> Architecture:
        """A random row, each of the table with the same probability."""
        return rng.choice(self._listed)

    def choices(self, architecture: Architecture) -> tuple[Choice, ...]:
        """A choice a slot; its position is the number of the slot."""
        known: dict[Hashable, tuple[Choice, ...]] = self._choices  # type: ignore[attr-defined]
        if architecture not in known:
            known[architecture] = tuple(
                Choice(slot.family, name, number, self.neighbour(architecture, number))
                for number, (slot, name) in enumerate(zip(self.slots, architecture, strict=True))
            )
        return known[architecture]

    def mutated(
        self, architecture: Architecture, rng: Random, priorities: Priorities
    ) -> tuple[Architecture, Mutation]:
        """Another option, drawn by priority, in a slot drawn uniformly; the row that stands for the result."""
        while True:
            number = rng.randrange(len(self.slots))
            slot, old = self.slots[number], architecture[number]
            fitting = _others(slot.options, old)
            if not fitting:
                continue
            name = priorities.draw(rng, slot.family, fitting, number, self.neighbour(architecture, number))
            child = self.settle(
                (*architecture[:number], name, *architecture[number + 1 :]), rng, (architecture,)
            )
            if child is not None:
                description = f"{old} in slot {number + 1} became {name}"
                return child, Mutation(
                    slot.family, description, layer=number + 1, drawn=((slot.family, name),)
                )

    def crossed(
        self, one: Architecture, other: Architecture, rng: Random
    ) -> tuple[Architecture, Mutation] | None:
        """Every slot from one of two; the row that stands for the result, where that is neither of them."""
        for _ in range(CROSSOVER_ATTEMPTS):
            mixed = tuple(rng.choice(pair) for pair in zip(one, other, strict=True))
            child = self.settle(mixed, rng, (one, other))
            if child is not None:
                return child, Mutation("crossover", "every slot from one of two parents")
        return None

    def costs(self, architecture: Architecture) -> Mapping[str, float]:
        """The costs that the table has."""
        return self.rows[architecture].costs

    @cached_property
    def _listed(self) -> tuple[Architecture, ...]:
        return tuple(self.rows)

    @cached_property
    def ranked(self) -> tuple[float, ...]:
        """All scores, best first."""
        return tuple(sorted((row.score for row in self.rows.values()), reverse=True))


@lru_cache(maxsize=4096)
def _others(options: tuple[str, ...], old: str) -> tuple[str, ...]:
    return tuple(name for name in options if name != old)
