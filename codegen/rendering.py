"""Templates to source text."""

from __future__ import annotations

import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

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


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        autoescape=False,  # the output is Python; every name in it was checked when its graph was made
    )
    environment.filters["wrap_docstring"] = wrap_docstring
    return environment
