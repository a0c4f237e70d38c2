"""The text that stands before all native kernels: vectors, elementary functions, tiles, memory, threads."""

from __future__ import annotations

from functools import cache

from codegen.rendering import render


@cache
def library_text() -> str:
    """C++ of ``templates/cpp``, without a kernel."""
    return render("cpp/library.hpp.jinja")


def with_library(kernels: str) -> str:
    """A whole translation unit: the library, then ``kernels``, which use it."""
    return f"{library_text()}\n{kernels}"
