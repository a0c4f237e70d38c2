"""The errors of all rooms have one base: what is raised for people can be told from a fault of the program."""

from __future__ import annotations


class OpnasError(Exception):
    """The base of every error that is for people: something given to us cannot be used, or cannot be done here.

    The message says what was wrong, where, and what would be right. The command line prints it on one line and ends
    with exit code 2. A fault of the program is never one of these.
    """


class InputError(OpnasError, ValueError):
    """An argument or an option that is out of bounds. The message names it."""


class GraphError(OpnasError, ValueError):
    """A graph or backbone that cannot be accepted.

    The message says what was wrong, where, and what would be right.

    Attributes:
        node: id of the node at fault, or None where the fault is not in one node.
    """

    def __init__(self, message: str, node: str | None = None) -> None:
        super().__init__(f"node {node!r}: {message}" if node is not None else message)
        self.node = node


class PresetError(OpnasError, KeyError):
    """A name that no preset has. The message has the nearest known ones."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would print it in quotation marks
