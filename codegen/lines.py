"""Long lines of generated code, broken as ``ruff format`` breaks them.

What stands in the outermost brackets of a statement moves to a line of its own or, where it does not fit there, to
a line an element; a sum is put in parentheses and broken before its signs. Only what the generators of this house write
is known: assignments, calls, returns, arithmetic, and definitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

WIDTH = 110
_INDENT = 4


def assignment(name: str, source: str) -> list[str]:
    """``name = source`` as the lines of a function body, without its indentation.

    Example:
        >>> assignment("total", "q + k")
        ['total = q + k']
        >>> assignment("total", f"{'q' * 60} + {'k' * 30} - {'v' * 30}")[2]
        '    + kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk'
    """
    return [line[_INDENT:] for line in break_lines([f"{' ' * _INDENT}{name} = {source}"])]


def break_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a module; where a statement or a definition is longer than `WIDTH`, several in its place.

    Comments, texts, and what stands on several lines already are left as they are.
    """
    for line in lines:
        source = line.lstrip(" ")
        indent = len(line) - len(source)
        if len(line) <= WIDTH:
            yield line
        elif definition := re.fullmatch(r"(def \w+\(|\) -> tuple\[)(.*)(\):|\]:)", source):
            start, inside, end = definition.groups()
            yield from _bracketed(start, _split(inside), end, indent)
        elif not re.match(r"return |[\w.]+\(|[\w.*, ]+ [-+*/]?= ", source):
            yield line
        else:
            yield from _statement(source, indent)


def _statement(source: str, indent: int) -> list[str]:
    before, value = "", source
    if assigned := re.match(r"return |[\w.*, ]+ [-+*/]?= ", source):
        before, value = assigned[0], source[assigned.end() :]
    pad = " " * indent
    if len(elements := _split(value)) > 1:
        return [f"{pad}{before}(", *_each(elements, indent), f"{pad})"]
    targets = _split(before.removesuffix(" = "))
    if len(targets) > 1 and value.isidentifier():
        return [f"{pad}(", *_each(targets, indent), f"{pad}) = {value}"]
    terms = _terms(value)
    if value.endswith(")") and len(terms) <= 2:
        # The last brackets are opened at the end of the first line.
        opening = _opening(value) + 1
        if len(terms) == 1:
            lines = _expression(before, value, "", indent)
        else:
            lines = _bracketed(before + value[:opening], _split(value[opening:-1]), ")", indent)
        if len(lines[0]) <= WIDTH:
            return lines
    return [f"{pad}{before}(", *_expression("", value, "", indent + _INDENT), f"{pad})"]


def _expression(before: str, source: str, after: str, indent: int) -> list[str]:
    """An expression between two texts, on one line where it fits."""
    pad = " " * indent
    if len(pad + before + source + after) <= WIDTH:
        return [pad + before + source + after]
    terms = _terms(source)
    if len(terms) > 1:
        starts, ends = [before] + [""] * (len(terms) - 1), [""] * (len(terms) - 1) + [after]
        laid = (_expression(*each, indent) for each in zip(starts, terms, ends, strict=True))
        return [line for lines in laid for line in lines]
    if cast := re.search(r"(?<=\))\.to\([\w.]+\)$", source):
        return _expression(before, source[: cast.start()], cast[0] + after, indent)
    if not source.endswith(")"):
        return [pad + before + source + after]
    opening = _opening(source)
    elements = _split(source[opening + 1 : -1])
    return _bracketed(before + source[: opening + 1], elements, f"){after}", indent)


def _bracketed(start: str, elements: list[str], end: str, indent: int) -> list[str]:
    """Elements on one line between those of the brackets, or each by itself, with a comma where they are several."""
    pad, inner = " " * indent, indent + _INDENT
    together = " " * inner + ", ".join(elements)
    if len(together) <= WIDTH:
        return [pad + start, together, pad + end]
    comma = "," if len(elements) > 1 else ""
    laid = (_expression("", element, comma, inner) for element in elements)
    return [pad + start, *(line for lines in laid for line in lines), pad + end]


def _each(elements: list[str], indent: int) -> list[str]:
    return [f"{' ' * (indent + _INDENT)}{element}," for element in elements]


def _split(source: str) -> list[str]:
    """What commas separate outside of brackets."""
    return _cut(source, (", ",), 2)


def _terms(source: str) -> list[str]:
    """``a + b - c`` as ``a``, ``+ b``, ``- c``; a product as its factors where it is no sum."""
    terms = _cut(source, (" + ", " - "), 1)
    return terms if len(terms) > 1 else _cut(source, (" * ", " / "), 1)


def _cut(source: str, separators: tuple[str, ...], keep: int) -> list[str]:
    """The source cut where a separator stands outside of brackets, without the first ``keep`` letters of it."""
    parts, start, depth = [], 0, 0
    for place, character in enumerate(source):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and source.startswith(separators, place):
            parts.append(source[start:place])
            start = place + keep
    return [*parts, source[start:]]


def _opening(source: str) -> int:
    """Where the bracket stands that the last character closes."""
    depth = 0
    for place in range(len(source) - 1, -1, -1):
        depth += (source[place] in ")]") - (source[place] in "([")
        if depth == 0:
            return place
    raise ValueError(f"no bracket opens what the end of {source!r} closes")
