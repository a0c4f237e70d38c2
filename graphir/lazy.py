"""Faces of packages that import what they show only when it is asked for (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_face(
    package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose names live in other modules.

    Args:
        package: the package's ``__name__``.
        homes: for each module the names that are taken from it.
        modules: modules that are shown themselves, under their last names.

    Example:
        >>> get, names = lazy_face("graphir", {"math": ["pi"]}, ["os.path"])
        >>> get("pi") > 3, names()
        (True, ['path', 'pi'])
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    module_of = {module.rpartition(".")[2]: module for module in modules}

    def get(name: str) -> Any:
        if name in module_of:
            value = importlib.import_module(module_of[name])
        elif name in home_of:
            value = getattr(importlib.import_module(home_of[name]), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # the next time it is simply there
        return value

    return get, lambda: sorted(home_of | module_of)
