"""The difference of two graphs or two backbones, matched by structure and not by node names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Literal

from graphir.expression import brief_formula
from graphir.matching import aligned_layers, image, match_nodes
from graphir.ops import OPERATIONS

if TYPE_CHECKING:
    from graphir.backbone import Backbone, Layer
    from graphir.graph import AttentionGraph, Node
    from graphir.scene import Scene

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
        between: the old and the new one, to be drawn.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    same_meaning: bool
    between: tuple[AttentionGraph, AttentionGraph] | tuple[Backbone, Backbone] = field(
        repr=False, compare=False
    )

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

    def scene(self) -> Scene:
        """The picture that `draw` writes."""
        from graphir.diff_pictures import difference_scene

        return difference_scene(*self.between)

    def draw(self, path: str | Path) -> None:
        """Draw old and new beside each other to ``path``, an ``.svg`` or ``.png`` file, with what changed in colour.

        Raises:
            InputError: for another suffix.
        """
        from graphir.drawing import check_suffix, draw_scene

        check_suffix(path)
        draw_scene(self.scene(), path)

    def _repr_svg_(self) -> str:
        """For notebooks."""
        from graphir.svg import to_svg

        return to_svg(self.scene())


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
    pairs = match_nodes(before, after)
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
    if image(pairs, before.output) != after.output:
        changes.append(
            Change(
                "rewired", "output", brief_formula(before, before.output), brief_formula(after, after.output)
            )
        )
    for node in before.nodes:
        if node.id not in pairs:
            changes.append(Change("removed", f"{node.id} {node.op}", brief_formula(before, node.id)))
    same = not changes or before.canonical_hash() == after.canonical_hash()
    return Difference(before.name, after.name, tuple(changes), same, (before, after))


def diff_backbones(before: Backbone, after: Backbone) -> Difference:
    """What must change to turn ``before`` into ``after``: sizes, layers, kernel sizes, and graphs in detail.

    Layers are compared number by number where there are as many; otherwise equal layers are aligned first.
    """
    changes = [
        Change("changed", size, str(getattr(before, size)), str(getattr(after, size)))
        for size in ("hidden_size", "heads", "ffn_size")
        if getattr(before, size) != getattr(after, size)
    ]
    for old, new in aligned_layers(before, after):
        changes.extend(_layer_changes(before, old, after, new))
    same = not changes or before.canonical_hash() == after.canonical_hash()
    return Difference(before.name, after.name, tuple(changes), same, (before, after))


# -- graphs


def _rewirings(
    before: AttentionGraph, old: Node, after: AttentionGraph, new: Node, pairs: dict[str, str]
) -> Iterator[Change]:
    where = f"{new.id} {new.op}"
    moved = [(image(pairs, name), name) for name in old.inputs]
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
