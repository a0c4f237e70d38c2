"""Assignments as ``ruff format`` lays them out: one line where it fits, else broken at the usual places."""

from __future__ import annotations

WIDTH = 110
_INDENT = 4


def assignment(name: str, source: str) -> list[str]:
    """``name = source`` as the lines of a function body, without its indentation.

    Args:
        name: the variable.
        source: a sum of terms, or a call of a function.

    Example:
        >>> assignment("total", "q + k")
        ['total = q + k']
        >>> assignment("total", f"{'q' * 60} + {'k' * 30} - {'v' * 30}")[2]
        '    + kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk'
    """
    room = WIDTH - _INDENT
    if len(name) + 3 + len(source) <= room:
        return [f"{name} = {source}"]
    terms = _top_level_terms(source)
    if len(terms) > 1:
        inside = [source] if len(source) <= room - _INDENT else terms
        return [f"{name} = (", *(f"    {line}" for line in inside), ")"]
    function, _, arguments = source.removesuffix(")").partition("(")
    return [f"{name} = {function}(", f"    {arguments}", ")"]


def _top_level_terms(source: str) -> list[str]:
    """``a + b - c`` as ``a``, ``+ b``, ``- c``; signs inside parentheses do not count."""
    terms, start, depth = [], 0, 0
    for place, character in enumerate(source):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and source[place : place + 3] in (" + ", " - "):
            terms.append(source[start:place])
            start = place + 1
    return [*terms, source[start:]]
