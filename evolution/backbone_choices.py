"""`BackboneChoices`: a `SearchSpace` of backbones as strategies see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from evolution.candidate import Mutation
from evolution.choices import Choice, ChoiceSpace
from evolution.crossover import cross_backbones
from evolution.generation import random_backbone
from evolution.graph_mutations import user_of
from evolution.mutation import KINDS, mutate_backbone, neighbour_of
from evolution.priorities import Priorities
from evolution.space import SearchSpace
from graphir import Backbone, ConvLayer


@dataclass(frozen=True)
class BackboneChoices:
    """Backbones with three families of choices: operations inside a layer, kinds of layers, kernel sizes.

    The position of a choice is the index of its layer. The neighbour of an operation is the operation that uses its
    result, the neighbour of a kind or kernel size is the kind of the layer before.

    Attributes:
        space: which backbones there are.
    """

    space: SearchSpace

    @property
    def families(self) -> Mapping[str, tuple[str, ...]]:
        """The space's operations, the kinds of layers, the space's kernel sizes."""
        return {
            "operation": self.space.operations,
            "kind": KINDS,
            "kernel_size": tuple(map(str, self.space.kernel_sizes)),
        }

    def random(self, rng: Random) -> Backbone:
        """A random backbone."""
        return random_backbone(rng, self.space)

    def choices(self, architecture: Backbone) -> tuple[Choice, ...]:
        """Every choice in a backbone."""
        return _choices(architecture)

    def mutated(
        self, architecture: Backbone, rng: Random, priorities: Priorities
    ) -> tuple[Backbone, Mutation]:
        """A backbone with one change, inside a layer or between layers."""
        return mutate_backbone(architecture, rng, self.space, priorities)

    def crossed(self, one: Backbone, other: Backbone, rng: Random) -> tuple[Backbone, Mutation] | None:
        """A backbone between two."""
        return cross_backbones(one, other, rng, self.space)

    def costs(self, architecture: Backbone) -> Mapping[str, float]:
        """Parameters, and operations ("flops") of a forward pass of 512 tokens."""
        return _costs(architecture)


def choice_space(space: SearchSpace | ChoiceSpace) -> ChoiceSpace:
    """``space`` as strategies see it."""
    return BackboneChoices(space) if isinstance(space, SearchSpace) else space


# A history is looked through again and again.
@lru_cache(maxsize=16_384)
def _choices(backbone: Backbone) -> tuple[Choice, ...]:
    found = []
    for position, layer in enumerate(backbone.layers):
        neighbour = neighbour_of(backbone, position)
        found.append(Choice("kind", layer.kind, position, neighbour))
        if isinstance(layer, ConvLayer):
            found.append(Choice("kernel_size", str(layer.kernel_size), position, neighbour))
        else:
            users = ((node.op, user_of(layer.graph, node.id)) for node in layer.graph.nodes)
            found += [Choice("operation", op, position, user) for op, user in users]
    return tuple(found)


@lru_cache(maxsize=16_384)
def _costs(backbone: Backbone) -> Mapping[str, float]:
    cost = backbone.cost()
    return {"parameters": cost.parameters, "flops": cost.flops}
