"""Formulas as LaTeX."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from graphir.graph import AttentionGraph

# How tightly a printed form binds; an exponent needs an atom to stand on.
_SUM, _PRODUCT, _UNARY, _EXPONENT, _ATOM = range(5)


class Form(NamedTuple):
    """How one operation is written.

    Attributes:
        template: LaTeX with ``<0>`` and ``<1>`` where the operands stand.
        binding: how tightly the whole binds.
        operands: how tightly each operand must bind to stand without parentheses.
    """

    template: str
    binding: int
    operands: tuple[int, ...]


def _function(name: str, arity: int = 1) -> Form:
    arguments = ", ".join(f"<{i}>" for i in range(arity))
    return Form(rf"{name}\left({arguments}\right)", _ATOM, (_SUM,) * arity)


FORMS: dict[str, Form] = {
    "neg": Form("-<0>", _UNARY, (_UNARY,)),
    "transpose": Form(r"<0>^{\top}", _EXPONENT, (_ATOM,)),
    "scale": Form(r"\frac{<0>}{\sqrt{D}}", _EXPONENT, (_SUM,)),
    "softmax": _function(r"\operatorname{softmax}"),
    "logsigmoid": _function(r"\log \sigma"),
    "softsign": _function(r"\operatorname{softsign}"),
    "add": Form("<0> + <1>", _SUM, (_SUM, _PRODUCT)),
    "matmul": Form(r"<0> \, <1>", _PRODUCT, (_PRODUCT, _EXPONENT)),
    "cosine_similarity": _function(r"\operatorname{cos}", 2),
    "euclidean_distance": _function(r"\operatorname{dist}", 2),
    "mul": Form(r"<0> \odot <1>", _PRODUCT, (_UNARY, _EXPONENT)),
    "sub": Form("<0> - <1>", _SUM, (_SUM, _PRODUCT)),
    "relu": _function(r"\operatorname{relu}"),
    "relu_squared": Form(r"\operatorname{relu}\left(<0>\right)^{2}", _EXPONENT, (_SUM,)),
    "sigmoid": _function(r"\sigma"),
    "tanh": _function(r"\tanh"),
    "exp": _function(r"\exp"),
    "abs": Form(r"\left|<0>\right|", _ATOM, (_SUM,)),
    "rms_norm": _function(r"\operatorname{rmsnorm}"),
}
"""Every operation's LaTeX."""


def latex_equation(graph: AttentionGraph) -> str:
    r"""The formula of ``graph``; shared values are named ``t_{1}``, ``t_{2}``, ... first.

    Example:
        >>> from graphir import AttentionGraph
        >>> print(latex_equation(AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")))
        \operatorname{softmax}\left(\frac{Q \, K^{\top}}{\sqrt{D}}\right) \, V
    """
    uses = Counter(operand for node in graph.nodes for operand in node.inputs)
    uses[graph.output] += 1
    printed: dict[str, tuple[str, int]] = {name: (name, _ATOM) for name in graph.inputs}
    assignments: list[str] = []
    for node in graph.nodes:
        form = FORMS[node.op]
        text = form.template
        for position, (name, at_least) in enumerate(zip(node.inputs, form.operands, strict=True)):
            operand, binding = printed[name]
            if binding < at_least:
                operand = rf"\left({operand}\right)"
            text = text.replace(f"<{position}>", operand)
        printed[node.id] = (text, form.binding)
        if uses[node.id] > 1:
            name = f"t_{{{len(assignments) + 1}}}"
            assignments.append(f"{name} = {text}")
            printed[node.id] = (name, _ATOM)
    return r";\quad ".join([*assignments, printed[graph.output][0]])
