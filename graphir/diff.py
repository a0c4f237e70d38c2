"""The difference of two graphs or two backbones, matched by structure and not by node names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import blake2b
from textwrap import indent
from typing import TYPE_CHECKING, Literal

from graphir.expression import brief_formula
from graphir.ops import OPERATIONS
from graphir.validation import INPUT_NAMES

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph, Node

_SIGNS = {"added": "+", "removed": "-", "changed": "~", "rewired": ">"}


@dataclass(frozen=True)
class Change:
    """One step from the old to the new.

    Attributes:
        kind: ``added`` or ``removed``: a node or layer; ``changed``: another operation, kind or size at the
            same place; ``rewired``: the same operation with another operand, or another output.
        where: the node (its name in the graph that has it), layer or size.
        before: what stood there, empty for ``added``.
        after: what stands there now, empty for ``removed``.
        inside: where both layers are attention, what changed in the graph.
    """

    kind: Literal["added", "removed", "changed", "rewired"]
    where: str
    before: str = ""
    after: str = ""
    inside: Difference | None = None

    def __str__(self) -> str:
        what = " -> ".join(filter(None, (self.before, self.after)))
        lines = [f"{_SIGNS[self.kind]} {self.where}: {what}"]
        if self.inside:
            lines += [f"  {change}" for change in self.inside.changes]
        return "\n".join(lines)


@dataclass(frozen=True)
class Difference:
    """All changes from one graph or backbone to another; false where there is none.

    Attributes:
        before: name of the old one.
        after: name of the new one.
        changes: the changes, in the order of the new one, removals last.
        same_meaning: whether the canonical hashes are equal all the same.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    same_meaning: bool

    def __bool__(self) -> bool:
        return bool(self.changes)

    def of_kind(self, kind: str) -> tuple[Change, ...]:
        """The changes of one kind: added, removed, changed or rewired."""
        return tuple(change for change in self.changes if change.kind == kind)

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.before} -> {self.after}: no difference"
        count = f"{len(self.changes)} change{'' if len(self.changes) == 1 else 's'}"
        note = ", the same meaning" if self.same_meaning else ""
        body = indent("\n".join(map(str, self.changes)), "  ")
        return f"{self.before} -> {self.after}: {count}{note}\n{body}"


def diff_graphs(before: AttentionGraph, after: AttentionGraph) -> Difference:
    """What must change to turn ``before`` into ``after``.

    Names of nodes and the order of commutative operands do not count.

    Example:
        >>> from graphir import AttentionGraph
        >>> old = AttentionGraph.from_expression("softmax(Q @ K.T) @ V", name="old")
        >>> new = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ (Q + V)", name="new")
        >>> print(diff_graphs(old, new))
        old -> new: 4 changes
          + n2 scale: scale(Q @ K.T)
          > n3 softmax: operand Q @ K.T -> scale(Q @ K.T)
          + n4 add: Q + V
          > n5 matmul: operand 2 V -> Q + V
    """
    pairs = _match(before, after)
    partner = {new: old for old, new in pairs.items()}
    old_nodes = {node.id: node for node in before.nodes}
    changes: list[Change] = []
    for node in after.nodes:
        if node.id not in partner:
            changes.append(Change("added", f"{node.id} {node.op}", "", brief_formula(after, node.id)))
            continue
        old = old_nodes[partner[node.id]]
        if old.op != node.op:
            where = f"{node.id} {node.op}"
            changes.append(
                Change("changed", where, brief_formula(before, old.id), brief_formula(after, node.id))
            )
        else:
            changes.extend(_rewirings(before, old, after, node, pairs))
    if _image(pairs, before.output) != after.output:
        changes.append(
            Change(
                "rewired", "output", brief_formula(before, before.output), brief_formula(after, after.output)
            )
        )
    for node in before.nodes:
        if node.id not in pairs:
            changes.append(Change("removed", f"{node.id} {node.op}", brief_formula(before, node.id)))
    same = not changes or before.canonical_hash() == after.canonical_hash()
    return Difference(before.name, after.name, tuple(changes), same)


def diff_backbones(before: Backbone, after: Backbone) -> Difference:
    """What must change to turn ``before`` into ``after``: sizes, layers, kernel sizes, and graphs in detail.

    Layers are compared number by number where there are as many; otherwise equal layers are aligned first.
    """
    changes = [
        Change("changed", size, str(getattr(before, size)), str(getattr(after, size)))
        for size in ("hidden_size", "heads", "ffn_size")
        if getattr(before, size) != getattr(after, size)
    ]
    for old, new in _aligned(before, after):
        changes.extend(_layer_changes(before, old, after, new))
    same = not changes or before.canonical_hash() == after.canonical_hash()
    return Difference(before.name, after.name, tuple(changes), same)


# -- graphs


def _subtrees(graph: AttentionGraph) -> dict[str, bytes]:
    """A digest of what stands at and below every value; operands of commutative operations are sorted."""
    digests = {name: name.encode() for name in graph.inputs}
    for node in graph.nodes:
        operands = [digests[name] for name in node.inputs]
        if OPERATIONS[node.op].commutative:
            operands.sort()
        digests[node.id] = blake2b(b"|".join([node.op.encode(), *operands]), digest_size=16).digest()
    return digests


def _match(before: AttentionGraph, after: AttentionGraph) -> dict[str, str]:
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
            uses = {(_image(pairs, user), position) for user, position in old_uses[old.id]}
            if uses & new_uses[new.id]:
                pairs[old.id] = new.id
                taken.add(new.id)
    return pairs


def _image(pairs: dict[str, str], name: str) -> str:
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


def _rewirings(
    before: AttentionGraph, old: Node, after: AttentionGraph, new: Node, pairs: dict[str, str]
) -> Iterator[Change]:
    where = f"{new.id} {new.op}"
    moved = [(_image(pairs, name), name) for name in old.inputs]
    if OPERATIONS[new.op].commutative:
        gone = list((Counter(to for to, _ in moved) - Counter(new.inputs)).elements())
        come = list((Counter(new.inputs) - Counter(to for to, _ in moved)).elements())
        named = dict(moved)
        for a, b in zip(gone, come, strict=True):
            yield Change(
                "rewired", where, f"operand {brief_formula(before, named[a])}", brief_formula(after, b)
            )
        return
    for position, ((to, name), operand) in enumerate(zip(moved, new.inputs, strict=True), 1):
        if to != operand:
            number = f"operand {position}" if len(new.inputs) > 1 else "operand"
            yield Change(
                "rewired", where, f"{number} {brief_formula(before, name)}", brief_formula(after, operand)
            )


# -- backbones


def _aligned(before: Backbone, after: Backbone) -> Iterator[tuple[int | None, int | None]]:
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


def _layer_changes(
    before: Backbone, old_index: int | None, after: Backbone, new_index: int | None
) -> Iterator[Change]:
    old = before.layers[old_index] if old_index is not None else None
    new = after.layers[new_index] if new_index is not None else None
    numbers = dict.fromkeys(str(i + 1) for i in (old_index, new_index) if i is not None)
    where = f"layer {' -> '.join(numbers)}"
    if old is None or new is None:
        kind: Literal["added", "removed"] = "added" if old is None else "removed"
        yield Change(kind, where, _show_layer(old), _show_layer(new))
    elif old.kind == "attention" and new.kind == "attention":
        inside = diff_graphs(old.graph, new.graph)
        if inside:
            yield Change("changed", where, _show_layer(old), _show_layer(new), inside)
    elif old != new:
        yield Change("changed", where, _show_layer(old), _show_layer(new))


def _show_layer(layer: Layer | None) -> str:
    if layer is None:
        return ""
    if layer.kind == "conv":
        return f"conv, kernel size {layer.kernel_size}"
    return f"attention {layer.graph.equation()}"
