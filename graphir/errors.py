"""The one error of this room."""

from __future__ import annotations


class GraphError(ValueError):
    """A graph or backbone that cannot be accepted.

    The message says what was wrong, where, and what would be right.

    Attributes:
        node: id of the node at fault, or None where the fault is not in one node.
    """

    def __init__(self, message: str, node: str | None = None) -> None:
        super().__init__(f"node {node!r}: {message}" if node is not None else message)
        self.node = node
