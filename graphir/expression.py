"""Formulas as text: what `equation("text")` prints, `from_expression` reads.

The grammar is a small part of Python's, read with its parser and never executed::

    t = logsigmoid(K); softmax(scale(Q @ -t.T)) @ (Q + K)
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from graphir.errors import GraphError
from graphir.ops import OPERATIONS
from graphir.validation import INPUT_NAMES, MAX_NODES, nearest

if TYPE_CHECKING:
    from graphir.graph import AttentionGraph, Node

MAX_EXPRESSION_CHARS = 20_000
_TOO_MANY = f"too many nodes: at most {MAX_NODES} are allowed"

# How tightly a printed form binds, as in Python.
_SUM, _PRODUCT, _UNARY, _POSTFIX = range(4)


class Printed(NamedTuple):
    """A value as text, and how tightly the text binds."""

    text: str
    binding: int = _POSTFIX


def parse_expression(text: str) -> tuple[list[Node], str]:
    """Read a formula into nodes (topological order) and the name of the output.

    Raises:
        GraphError: where the text holds anything but operations, names and the four shorthands.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        raise GraphError(
            f"the expression has {len(text):,} characters: at most {MAX_EXPRESSION_CHARS:,} are read"
        )
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        raise GraphError(f"{text[:80]!r} is not an expression: {reason}") from None
    return _Reader(text.strip()).read(statements)


class _Reader:
    """Turns a parsed formula into nodes n0, n1, ... in the order of evaluation."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {name: name for name in INPUT_NAMES}
        self.depth = 0

    def read(self, statements: Sequence[ast.stmt | None]) -> tuple[list[Node], str]:
        *assignments, result = statements or [None]
        if not isinstance(result, ast.Expr):
            raise GraphError("an expression ends with its result, such as softmax(Q @ K.T) @ V")
        for statement in filter(None, assignments):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if (
                not isinstance(statement, ast.Assign)
                or len(statement.targets) != 1
                or not isinstance(target, ast.Name)
            ):
                raise self._refuse(
                    statement, "only assignments such as t = logsigmoid(K) may stand before the result"
                )
            if target.id in INPUT_NAMES:
                raise self._refuse(statement, "Q, K and V are inputs and cannot be assigned")
            self.names[target.id] = self.value(statement.value)
        return self.nodes, self.value(result.value)

    def value(self, tree: ast.expr) -> str:
        """Append the nodes of ``tree`` and return the name of its value."""
        match tree:
            case ast.Name(id=name):
                if name not in self.names:
                    raise self._refuse(tree, f"unknown name {name[:60]!r}; {nearest(name, self.names)}")
                return self.names[name]
            case ast.Attribute(value=operand, attr="T"):
                return self.node("transpose", [operand], tree)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.node("neg", [operand], tree)
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                return self.node("matmul", [left, right], tree)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.node("add", [left, right], tree)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                if name not in OPERATIONS:
                    raise self._refuse(tree, f"unknown operation {name[:60]!r}; {nearest(name, OPERATIONS)}")
                return self.node(name, args, tree)
        raise self._refuse(tree, "only operations by name, @, +, unary - and .T are read")

    def node(self, op: str, operands: list[ast.expr], tree: ast.expr) -> str:
        from graphir.graph import Node

        if len(operands) != OPERATIONS[op].arity:
            raise self._refuse(tree, f"{op} takes {OPERATIONS[op].arity} operand(s), not {len(operands)}")
        # The depth is checked on the way down, before Python's own limit of recursion is reached.
        self.depth += 1
        if self.depth > MAX_NODES:
            raise GraphError(_TOO_MANY)
        inputs = tuple([self.value(operand) for operand in operands])
        self.depth -= 1
        if len(self.nodes) >= MAX_NODES:
            raise GraphError(_TOO_MANY)
        self.nodes.append(Node(f"n{len(self.nodes)}", op, inputs))
        return self.nodes[-1].id

    def _refuse(self, tree: ast.AST, message: str) -> GraphError:
        found = (ast.get_source_segment(self.text, tree) or self.text)[:60]
        return GraphError(f"in {found!r}: {message}")


def text_equation(graph: AttentionGraph) -> str:
    """The formula of ``graph``; a value that is used more than once is named ``t1``, ``t2``, ... first."""
    uses: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for operand in node.inputs:
            uses[operand] = uses.get(operand, 0) + 1

    printed: dict[str, Printed] = {name: Printed(name) for name in graph.inputs}
    assignments: list[str] = []
    for node in graph.nodes:
        printed[node.id] = print_node(node.op, [printed[name] for name in node.inputs])
        if uses[node.id] > 1:
            assignments.append(f"t{len(assignments) + 1} = {printed[node.id].text}")
            printed[node.id] = Printed(f"t{len(assignments)}")
    return "; ".join([*assignments, printed[graph.output].text])


def brief_formula(graph: AttentionGraph, name: str, depth: int = 3) -> str:
    """The value ``name`` of ``graph``, written out ``depth`` operations deep with ``...`` below."""
    nodes = {node.id: node for node in graph.nodes}

    def show(value: str, left: int) -> Printed:
        if value not in nodes:
            return Printed(value)
        if left == 0:
            return Printed("...")
        return print_node(nodes[value].op, [show(operand, left - 1) for operand in nodes[value].inputs])

    return show(name, depth).text


def print_node(op: str, operands: Sequence[Printed]) -> Printed:
    """An operation on printed operands, in parentheses where Python's precedence asks for them."""

    def operand(position: int, at_least: int) -> str:
        text, binding = operands[position]
        return text if binding >= at_least else f"({text})"

    match op:
        case "transpose":
            return Printed(f"{operand(0, _POSTFIX)}.T")
        case "neg":
            return Printed(f"-{operand(0, _UNARY)}", _UNARY)
        case "matmul":
            return Printed(f"{operand(0, _PRODUCT)} @ {operand(1, _UNARY)}", _PRODUCT)
        case "add":
            return Printed(f"{operand(0, _SUM)} + {operand(1, _PRODUCT)}", _SUM)
    return Printed(f"{op}({', '.join(text for text, _ in operands)})")
