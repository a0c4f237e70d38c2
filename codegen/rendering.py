"""Templates to source text, and source text to modules."""

from __future__ import annotations

import hashlib
import linecache
import sys
import textwrap
from collections import deque
from functools import cache
from types import ModuleType
from typing import Any

import jinja2

MAX_KNOWN_SOURCES = 1024
"""Of how many generated modules the lines are kept for tracebacks; a long search makes many thousands."""

_known_sources: deque[str] = deque()
"""File names, the oldest first."""


def render(template: str, **values: Any) -> str:
    """The text of ``templates/<template>`` with ``values``."""
    text = _environment().get_template(template).render(**values)
    return text.rstrip() + "\n"


def load_source(source: str, stem: str, importable: bool = False) -> ModuleType:
    """Run generated source as a module of its own.

    The text is known to `linecache` under a name made from its content, so that tracebacks and
    `inspect.getsource` show the generated lines. Only source that `render` wrote is ever given here.

    Args:
        source: the generated text.
        stem: what it is, for names.
        importable: for modules that register operators: `sys.modules` keeps the module for as long as the process
            lives, and the same text gives the same module. torch.compile looks for an operator's globals there, and
            a second registration would pull the first one's function away from under those who call it.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    filename = f"<opnas {stem} {digest}>"
    name = f"opnas_{stem}_{digest}"
    if importable and name in sys.modules:
        return sys.modules[name]
    if filename not in linecache.cache:
        _known_sources.append(filename)
    while len(_known_sources) > MAX_KNOWN_SOURCES:
        linecache.cache.pop(_known_sources.popleft(), None)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = ModuleType(name, f"Generated source {filename}.")
    if importable:
        sys.modules[name] = module
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


def wrap_docstring(text: str, width: int = 100, indent: int = 4) -> str:
    """``text`` wrapped as the first paragraph of a docstring that is indented by ``indent``."""
    lines = textwrap.wrap(
        " ".join(text.split()), width - indent, break_long_words=False, break_on_hyphens=False
    )
    return f"\n{' ' * indent}".join(lines)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("templates", "."),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        autoescape=False,  # the output is Python; every name in it was checked when its graph was made
    )
    environment.filters["wrap_docstring"] = wrap_docstring
    return environment
