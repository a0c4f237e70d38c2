"""A made-up space: a score that is the sum of what each of eight choices is worth."""

from __future__ import annotations

from random import Random

from evolution import Candidate, Choice, Mutation
from evolution.strategy import Proposal

SLOTS, OPTIONS = 8, ("a", "b", "c", "d", "e")


class AdditiveSpace:
    """Five options in each of eight slots; what an option is worth depends on the slot in part."""

    def __init__(self, seed: int) -> None:
        self.families = {"option": OPTIONS}
        rng = Random(seed)
        anywhere = {name: rng.random() for name in OPTIONS}
        self.worth = [{name: anywhere[name] + rng.random() for name in OPTIONS} for _ in range(SLOTS)]

    def random(self, rng):
        return tuple(rng.choice(OPTIONS) for _ in range(SLOTS))

    def choices(self, architecture):
        before = ("input", *architecture)
        return tuple(Choice("option", name, i, before[i]) for i, name in enumerate(architecture))

    def mutated(self, architecture, rng, priorities):
        slot = rng.randrange(SLOTS)
        fitting = [name for name in OPTIONS if name != architecture[slot]]
        name = priorities.draw(rng, "option", fitting, slot, ("input", *architecture)[slot])
        mutation = Mutation("option", f"slot {slot} became {name}", drawn=(("option", name),))
        return (*architecture[:slot], name, *architecture[slot + 1 :]), mutation

    def crossed(self, one, other, rng):
        child = tuple(rng.choice(pair) for pair in zip(one, other, strict=True))
        return None if child in (one, other) else (child, Mutation("crossover", "slots of both"))

    def costs(self, architecture):
        return {"parameters": float(architecture.count("a"))}

    def score(self, architecture):
        return sum(worth[name] for worth, name in zip(self.worth, architecture, strict=True))


def searched(space, strategy, seed, evaluations):
    """The candidates of a search: the loop's rules, without a study."""
    history: list[Candidate] = []
    seen = set()
    for index in range(evaluations):
        rng = Random(f"{seed}/{index}")
        proposal = strategy.propose(history, index, rng, space)
        for _ in range(50):
            if proposal.backbone not in seen:
                break
            proposal = strategy.propose(history, index, rng, space)
        else:
            proposal = Proposal(space.random(rng))
        seen.add(proposal.backbone)
        history.append(
            Candidate(
                index, proposal.backbone, "", "", 0, proposal.parent, proposal.mutation, "ok",
                space.score(proposal.backbone),
            )
        )  # fmt: skip
    return history
