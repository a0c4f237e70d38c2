"""Which node of a graph, and which layer of a backbone, is which of another one: by structure, not by names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import TYPE_CHECKING

from graphir.ops import OPERATIONS
from graphir.validation import INPUT_NAMES

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph


def match_nodes(before: AttentionGraph, after: AttentionGraph) -> dict[str, str]:
    """Pairs of nodes, old to new: equal subtrees, then alike nodes of one operation, then replaced ones."""
    old_digests, new_digests = _subtrees(before), _subtrees(after)
    pairs: dict[str, str] = {}
    free: dict[bytes, list[str]] = {}
    for node in after.nodes:
        free.setdefault(new_digests[node.id], []).append(node.id)
    for node in before.nodes:
        if candidates := free.get(old_digests[node.id]):
            pairs[node.id] = candidates.pop(0)

    taken = set(pairs.values())
    old_rest = [node for node in before.nodes if node.id not in pairs]
    new_rest = [node for node in after.nodes if node.id not in taken]
    old_around, new_around = _surroundings(before), _surroundings(after)
    alike = [
        (-_likeness(old_around[old.id], new_around[new.id]), i, j)
        for i, old in enumerate(old_rest)
        for j, new in enumerate(new_rest)
        if old.op == new.op
    ]
    for _, i, j in sorted(alike):
        if old_rest[i].id not in pairs and new_rest[j].id not in taken:
            pairs[old_rest[i].id] = new_rest[j].id
            taken.add(new_rest[j].id)

    old_uses, new_uses = _uses(before), _uses(after)
    for new in reversed(new_rest):
        for old in reversed(old_rest):
            if old.id in pairs or new.id in taken or len(old.inputs) != len(new.inputs):
                continue
            uses = {(image(pairs, user), position) for user, position in old_uses[old.id]}
            if uses & new_uses[new.id]:
                pairs[old.id] = new.id
                taken.add(new.id)
    return pairs


def image(pairs: dict[str, str], name: str) -> str:
    """What an old name stands for in the new graph; a removed node must not pass for a new one of its name."""
    return pairs.get(name, name if name in ("", *INPUT_NAMES) else f"removed {name}")


def _surroundings(graph: AttentionGraph) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """By node: the operations below it and those above it."""
    below: dict[str, frozenset[str]] = {name: frozenset([name]) for name in graph.inputs}
    above: dict[str, set[str]] = {node.id: set() for node in graph.nodes}
    op = {name: name for name in graph.inputs} | {node.id: node.op for node in graph.nodes}
    for node in graph.nodes:
        below[node.id] = frozenset([node.id]).union(*(below[name] for name in node.inputs))
        for name in below[node.id] & above.keys():
            above[name].add(node.id)
    return {
        node.id: (Counter(op[name] for name in below[node.id]), Counter(op[name] for name in above[node.id]))
        for node in graph.nodes
    }


def _likeness(one: tuple[Counter[str], ...], other: tuple[Counter[str], ...]) -> float:
    """The common part of both surroundings, from 0 to 2."""
    return sum((a & b).total() / max(1, (a | b).total()) for a, b in zip(one, other, strict=True))


def _uses(graph: AttentionGraph) -> dict[str, set[tuple[str, int]]]:
    """By value: its users and the operand position, with ``("", 0)`` for the output."""
    uses: dict[str, set[tuple[str, int]]] = {name: set() for name in graph.types}
    uses[graph.output].add(("", 0))
    for node in graph.nodes:
        for position, name in enumerate(node.inputs):
            uses[name].add((node.id, position))
    return uses


def aligned_layers(before: Backbone, after: Backbone) -> Iterator[tuple[int | None, int | None]]:
    """Pairs of layer indices; None stands for a layer that the other one lacks."""
    if len(before.layers) == len(after.layers):
        yield from ((i, i) for i in range(len(before.layers)))
        return
    old_keys, new_keys = ([_layer_key(layer) for layer in b.layers] for b in (before, after))
    matcher = SequenceMatcher(None, old_keys, new_keys, autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        for n in range(max(i_end - i, j_end - j)):
            yield (i + n if i + n < i_end else None), (j + n if j + n < j_end else None)


def _layer_key(layer: Layer) -> str:
    if layer.kind == "conv":
        return f"conv {layer.kernel_size}"
    return _subtrees(layer.graph)[layer.graph.output].hex()


def _subtrees(graph: AttentionGraph) -> dict[str, bytes]:
    """A digest of what stands at and below every value; operands of commutative operations are sorted."""
    digests = {name: name.encode() for name in graph.inputs}
    for node in graph.nodes:
        operands = [digests[name] for name in node.inputs]
        if OPERATIONS[node.op].commutative:
            operands.sort()
        digests[node.id] = blake2b(b"|".join([node.op.encode(), *operands]), digest_size=16).digest()
    return digests
