"""Source of values, of scalars, and of sums of values times scalars, for the PyTorch form."""

from __future__ import annotations

import math
from typing import NamedTuple

from codegen.expr import ONE, Coefficient


class Text(NamedTuple):
    """Source of a value; ``atom`` where it needs no parentheses."""

    source: str
    atom: bool = True

    def __str__(self) -> str:
        return self.source if self.atom else f"({self.source})"


def scalar_source(coefficient: Coefficient) -> str:
    """Source of a positive scalar; empty for one."""
    power = {0: "", 1: "scale"}.get(coefficient.scales, f"scale**{coefficient.scales}")
    number = "" if coefficient.number == 1 else str(coefficient.number)
    return " * ".join(filter(None, (number, power)))


def common_scalar(*coefficients: Coefficient) -> Coefficient:
    """The scalar that all terms of a sum have in common; negative where every term is."""
    number = math.gcd(*(coefficient.number for coefficient in coefficients))
    scales = {coefficient.scales for coefficient in coefficients}
    sign = -1 if all(coefficient.number < 0 for coefficient in coefficients) else 1
    return Coefficient(sign * number, scales.pop() if len(scales) == 1 else 0)


def times(coefficient: Coefficient, text: Text) -> Text:
    """Source of a value times a scalar."""
    scalar = scalar_source(_size(coefficient))
    if coefficient.number > 0:
        return Text(f"{scalar} * {text}", atom=False) if scalar else text
    if not scalar:
        return Text(f"-{text}", atom=False)
    return Text(f"-({scalar}) * {text}" if "**" in scalar else f"-{scalar} * {text}", atom=False)


def sum_of(terms: list[tuple[Coefficient, Text]]) -> Text:
    """Source of a sum of operands times scalars; operands with equal scalars are multiplied once, by their sum."""
    groups: dict[Coefficient, list[tuple[int, Text]]] = {}
    for coefficient, operand in terms:
        groups.setdefault(_size(coefficient), []).append((1 if coefficient.number > 0 else -1, operand))
    # What has no scalar first, and in a group what is added.
    parts = []
    for size in sorted(groups, key=lambda size: size != ONE):
        members = sorted(groups[size], key=lambda member: -member[0])
        sign = members[0][0]
        text = members[0][1]
        for other, operand in members[1:]:
            text = Text(f"{text.source} {'+' if other == sign else '-'} {operand}", atom=False)
        parts.append((Coefficient(sign * size.number, size.scales), text))
    parts.sort(key=lambda part: (part[0].number < 0, part[0] != ONE))
    (first, text), *others = parts
    total = times(first, text)
    if len(others) == 1 and (scalar := scalar_source(_size(others[0][0]))):
        call = "add" if others[0][0].number > 0 else "sub"
        return Text(f"torch.{call}({total.source}, {others[0][1].source}, alpha={scalar})")
    for coefficient, text in others:
        term = times(_size(coefficient), text)
        operator = "+" if coefficient.number > 0 else "-"
        total = Text(f"{total.source} {operator} {term.source if term is not text else text}", atom=False)
    return total


def _size(coefficient: Coefficient) -> Coefficient:
    """The scalar without its sign."""
    return Coefficient(abs(coefficient.number), coefficient.scales)
