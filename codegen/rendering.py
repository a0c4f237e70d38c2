"""Templates to source text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from codegen.line_breaking import WIDTH

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
"""Found by path: whoever uses opnas may have a package called ``templates``."""


def render(template: str, **values: Any) -> str:
    """The text of ``templates/<template>`` with ``values``."""
    text = _environment().get_template(template).render(**values)
    return text.rstrip() + "\n"


def wrap_docstring(text: str, width: int = 100, indent: int = 4) -> str:
    """``text`` wrapped as the first paragraph of a docstring that is indented by ``indent``."""
    lines = textwrap.wrap(
        " ".join(text.split()), width - indent, break_long_words=False, break_on_hyphens=False
    )
    return f"\n{' ' * indent}".join(lines)


def bracketed(items: Iterable[str], head: str, tail: str, indent: int = 0) -> str:
    """``head``, ``items`` and ``tail``, such as ``f(``, arguments and ``)``, as ``ruff format`` lays them out.

    Args:
        items: arguments or parameters; none of them ends with a comma.
        head: all that stands before them on the line, without its indentation.
        tail: all that stands behind them.
        indent: of the line.

    Example:
        >>> bracketed(["q", "k"], "f(", ")")
        'f(q, k)'
        >>> print(bracketed(["q" * 60, "k" * 60], "f(", ")"))
        f(
            qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq,
            kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk,
        )
    """
    items = list(items)
    inner, margin = ", ".join(items), " " * indent
    if indent + len(head) + len(inner) + len(tail) <= WIDTH:
        return head + inner + tail
    if indent + 4 + len(inner) <= WIDTH:
        return f"{head}\n{margin}    {inner}\n{margin}{tail}"
    return f"{head}\n" + "".join(f"{margin}    {item},\n" for item in items) + f"{margin}{tail}"


def returned(items: Iterable[str], indent: int = 4) -> str:
    """``return a, b`` of some expressions, as ``ruff format`` lays it out."""
    items, margin = list(items), " " * indent
    line = f"return {', '.join(items)}"
    if indent + len(line) <= WIDTH:
        return line
    return "return (\n" + "".join(f"{margin}    {item},\n" for item in items) + f"{margin})"


_TYPES = {"key_mask": "Tensor | None", "seed": "Tensor | None", "dropout_p": "float"}


def typed(argument: str) -> str:
    """An argument of an operator with its type, from which PyTorch reads the operator's schema."""
    return f"{argument}: {_TYPES.get(argument, 'Tensor')}"


def tensors(results: Sequence[str]) -> str:
    """The type of the results of an operator."""
    return "Tensor" if len(results) == 1 else f"tuple[{', '.join(['Tensor'] * len(results))}]"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        autoescape=False,  # the output is Python; every name in it was checked when its graph was made
    )
    for function in (wrap_docstring, bracketed, returned, typed, tensors):
        environment.filters[function.__name__] = function
    return environment
