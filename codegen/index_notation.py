"""Values in index notation, for people: what a kernel computes, in terms of what stands in memory.

``i, j, ...`` index tokens, ``c, d, ...`` columns, ``SCALE`` is 1 / sqrt(D). A value that several others read, or that
would make a line long, has a line and a name of its own.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from codegen.expr import (
    AXIS_HEAD,
    AXIS_SEQ,
    Axes,
    Coefficient,
    Contraction,
    Distance,
    Expr,
    Input,
    Keep,
    Linear,
    LogSumExp,
    Pointwise,
    Use,
    children,
    summed_axes,
)

_TOKENS, _COLUMNS = "ijmnprst", "cdefabyz"
_LONG = 60
_NO_BREAK = "\u00a0"


def formulas(values: Mapping[Expr, str], names: Mapping[Expr, str], width: int = 100) -> list[str]:
    """A line ``name[i, c] = ...`` for each value, and those for what they share before it.

    Args:
        values: what is shown, by the name it is given; each may read those before it by name.
        names: of what else may be read by name: other values are written out.
        width: longer lines are broken, and go on with an indent.

    Example:
        >>> from codegen.algebra import Builder
        >>> from codegen.lower import lower
        >>> from graphir import AttentionGraph
        >>> builder = Builder()
        >>> root = lower(AttentionGraph.from_expression("scale(Q @ K.T) @ V"), builder)
        >>> formulas({root.node: "out"}, {builder.input(name).node: name.lower() for name in "QKV"})
        ['out[i, c] = SCALE (sum_d sum_j q[i, d] k[j, d] v[j, c])']
    """
    notation = _Notation(values, names)
    for node, name in values.items():
        notation.define(node, name)
    lines = [textwrap.wrap(line, width, subsequent_indent=" " * 4) for line in notation.lines]
    return [line.replace(_NO_BREAK, " ") for broken in lines for line in broken]


class _Notation:
    def __init__(self, values: Mapping[Expr, str], names: Mapping[Expr, str]) -> None:
        self.names = dict(names)
        self.lines: list[str] = []
        self.fresh = 0
        self.readers: Counter[Expr] = Counter()
        seen: set[Expr] = {*values, *names}

        def visit(node: Expr) -> None:
            for use in children(node):
                self.readers[use.node] += 1
                if use.node not in seen:
                    seen.add(use.node)
                    visit(use.node)

        for node in values:
            visit(node)

    def define(self, node: Expr, name: str) -> None:
        """Write a line; those of what it needs are written before it."""
        letters = _letters(node.axes, (), ())
        body = (
            self.names[node] + _index(letters)
            if isinstance(node, Input)
            else self.text(node, letters, letters)
        )
        self.lines.append(f"{name}{_index(letters)} = {body}")
        self.names.setdefault(node, name)

    def read(self, use: Use, frame: Sequence[str], taken: Sequence[str], tight: bool) -> str:
        """A value that is read with the letters of another's frame; ``tight``: as a factor or a term."""
        letters = [frame[label] for label in use.labels]
        node = use.node
        if isinstance(node, Keep):
            return self.text(node, letters, taken)
        if node not in self.names and self.readers[node] == 1:
            text = self.text(node, letters, taken)
            if len(text) <= _LONG:
                return f"({text})" if tight and _is_loose(node) else text
        if node not in self.names:
            self.fresh += 1
            name = f"x{self.fresh}"
            self.define(node, name)
        return self.names[node] + _index(letters)

    def text(self, node: Expr, letters: Sequence[str], taken: Sequence[str]) -> str:
        """What a value is, where its axes have these letters."""
        summed = _letters(summed_axes(node), letters, taken)
        frame, taken = [*letters, *summed], [*taken, *letters, *summed]
        sums = "".join(f"sum_{letter} " for letter in summed)
        match node:
            case Pointwise(function=function, operand=operand):
                return f"{function}({self.read(operand, frame, taken, False)})"
            case Linear(terms=terms):
                return _sum((c, self.read(use, frame, taken, True)) for c, use in terms)
            case Contraction(factors=factors):
                return sums + (" ".join(self.read(use, frame, taken, True) for use in factors) or "1")
            case LogSumExp(operand=operand):
                return f"logsumexp_{summed[0]}({self.read(operand, frame, taken, False)})"
            case Keep(stream=stream):
                return f"keep_{stream}{_index(letters)}"
            case Distance(left=left, right=right):
                both = f"{self.read(left, frame, taken, True)} - {self.read(right, frame, taken, True)}"
                return f"norm_{summed[0]}({both})"
        raise TypeError(f"not an expression node: {type(node).__name__}")


def _letters(axes: Axes, own: Sequence[str], taken: Sequence[str]) -> list[str]:
    """A letter for each axis that none of its ``own`` value has, nor any further out as long as there are others."""
    pools = {
        axis: sorted(set(letters).difference(own), key=lambda x: (x in taken, letters.index(x)))
        for axis, letters in ((AXIS_SEQ, _TOKENS), (AXIS_HEAD, _COLUMNS))
    }
    return [pools[axis].pop(0) for axis in axes]


def _is_loose(node: Expr) -> bool:
    """Whether a value is a sum of any kind: parentheses hold it together where it is a factor or a term."""
    return isinstance(node, Linear) or (isinstance(node, Contraction) and bool(node.summed))


def _index(letters: Sequence[str]) -> str:
    return f"[{f',{_NO_BREAK}'.join(letters)}]" if letters else ""


def _sum(terms: Iterable[tuple[Coefficient, str]]) -> str:
    """Terms with their scalars, positive ones first."""
    source = ""
    for coefficient, text in sorted(terms, key=lambda term: term[0].number < 0):
        sign = "-" if coefficient.number < 0 else "+"
        number = f"{abs(coefficient.number)} " if abs(coefficient.number) != 1 else ""
        term = number + "SCALE " * coefficient.scales + text
        source += f" {sign} {term}" if source else term if sign == "+" else f"-{term}"
    return source or "0"
