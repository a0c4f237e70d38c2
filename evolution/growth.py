"""Typed growth: nodes that yield a value of a wanted type, valid by construction.

What can be grown follows from the shape rules of the operation table alone. A value of a type is grown
backwards: an operation that yields the type is drawn, then its operands are grown, then the node is added.
How many nodes that takes is known before, so that nothing is ever thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from random import Random
from typing import NamedTuple

from graphir import OPERATIONS, Node, ValueType
from graphir.ops import SEQ_BY_HEAD, VALUE_TYPES
from graphir.validation import INPUT_NAMES


class Signature(NamedTuple):
    """An operation with the types of its operands."""

    operation: str
    operands: tuple[ValueType, ...]


class _Choice(NamedTuple):
    """An operation with every way to spend the nodes: operand types, and how many nodes each operand gets."""

    operation: str
    ways: tuple[tuple[tuple[ValueType, ...], tuple[int, ...]], ...]


class Draft:
    """Nodes under construction, in topological order, with their values by type.

    Args:
        nodes: nodes that stand already.
        types: the type of each of them by id.
        taken: ids that new nodes must not have.
    """

    def __init__(
        self,
        nodes: Sequence[Node] = (),
        types: Mapping[str, ValueType] | None = None,
        taken: Iterable[str] = (),
    ) -> None:
        self.nodes = list(nodes)
        self._values: dict[ValueType, list[str]] = {SEQ_BY_HEAD: list(INPUT_NAMES)}
        for node in self.nodes:
            self._values.setdefault((types or {})[node.id], []).append(node.id)
        self._taken = {node.id for node in self.nodes}.union(taken)
        self._next = 0

    def values(self, wanted: ValueType) -> Sequence[str]:
        """Names of the inputs and nodes of type ``wanted``."""
        return self._values.get(wanted, ())

    @property
    def available(self) -> tuple[bool, ...]:
        """For each of `VALUE_TYPES`, whether there is a value of it."""
        return tuple(t in self._values for t in VALUE_TYPES)

    def add(self, operation: str, operands: Sequence[str], result: ValueType) -> str:
        """Append a node and return its id, the first free one of n0, n1, ..."""
        while f"n{self._next}" in self._taken:
            self._next += 1
        name = f"n{self._next}"
        self._taken.add(name)
        self.nodes.append(Node(name, operation, tuple(operands)))
        self._values.setdefault(result, []).append(name)
        return name


@lru_cache(maxsize=256)
def signatures(operations: tuple[str, ...]) -> Mapping[ValueType, tuple[Signature, ...]]:
    """Every way to make a value of each type with one of ``operations``, from the table's shape rules."""
    found: dict[ValueType, list[Signature]] = {t: [] for t in VALUE_TYPES}
    for name in operations:
        operation = OPERATIONS[name]
        for operands in product(VALUE_TYPES, repeat=operation.arity):
            result = operation.shape(*operands)
            if result is not None:
                found[result].append(Signature(name, operands))
    return {t: tuple(ways) for t, ways in found.items()}


@lru_cache(maxsize=256)
def reachable_sizes(operations: tuple[str, ...], most: int) -> Mapping[ValueType, int]:
    """From Q, K and V alone, the numbers of nodes with which a value of each type can be made.

    Bit ``n`` of a type's number is set where exactly ``n`` nodes, ``n <= most``, can make it.
    """
    masks = dict.fromkeys(VALUE_TYPES, 0)
    masks[SEQ_BY_HEAD] = 1
    for size in range(1, most + 1):
        ready = dict(masks)
        for wanted, ways in signatures(operations).items():
            if any(_splits([ready[t] for t in way.operands], size - 1) for way in ways):
                masks[wanted] |= 1 << size
    return masks


def sizes_in(mask: int) -> tuple[int, ...]:
    """The numbers of the bits that are set, ascending."""
    return tuple(n for n in range(mask.bit_length()) if mask >> n & 1)


def growable_sizes(
    draft: Draft, wanted: ValueType, operations: tuple[str, ...], most: int
) -> tuple[int, ...]:
    """How many new nodes, at most ``most``, `grow` may be asked for; 0 where a value is there to reuse."""
    mask = reachable_sizes(operations, max(most, 0))[wanted]
    return sizes_in(mask | (1 if draft.values(wanted) else 0))


def grow(rng: Random, draft: Draft, wanted: ValueType, size: int, operations: tuple[str, ...]) -> str:
    """Add exactly ``size`` nodes to ``draft`` that make a value of type ``wanted``; return its name.

    Operations are drawn uniformly among those that fit. Operands are new or, by chance, values that stand in
    the draft already, so that graphs with shared values occur. Every new node is used.

    Args:
        rng: source of all draws.
        draft: is extended.
        wanted: type of the value.
        size: number of new nodes, one of `growable_sizes`; 0 reuses a value.
        operations: names of the operations to draw from.
    """
    if size == 0:
        return rng.choice(draft.values(wanted))
    choice = rng.choice(_choices(operations, wanted, size, draft.available))
    types, split = rng.choice(choice.ways)
    operands = [grow(rng, draft, t, n, operations) for t, n in zip(types, split, strict=True)]
    return draft.add(choice.operation, operands, wanted)


@lru_cache(maxsize=4096)
def _choices(
    operations: tuple[str, ...], wanted: ValueType, size: int, available: tuple[bool, ...]
) -> tuple[_Choice, ...]:
    """The operations that can end a growth of ``size`` nodes, given which types have values already."""
    reachable = reachable_sizes(operations, size)
    masks = {t: reachable[t] | there for t, there in zip(VALUE_TYPES, available, strict=True)}
    ways: dict[str, list[tuple[tuple[ValueType, ...], tuple[int, ...]]]] = {}
    for name, operands in signatures(operations)[wanted]:
        for split in _splits([masks[t] for t in operands], size - 1):
            ways.setdefault(name, []).append((operands, split))
    return tuple(_Choice(name, tuple(found)) for name, found in ways.items())


def _splits(masks: Sequence[int], total: int) -> list[tuple[int, ...]]:
    """Every way to write ``total`` as a sum of one allowed size per mask."""
    if len(masks) == 1:
        return [(total,)] if masks[0] >> total & 1 else []
    return [
        (first, *rest)
        for first in range(total + 1)
        if masks[0] >> first & 1
        for rest in _splits(masks[1:], total - first)
    ]
