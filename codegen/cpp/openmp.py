"""The OpenMP runtime that PyTorch has loaded: native kernels run on its threads. Two pools would fight."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_NAME = re.compile(r"lib(?:gomp|iomp5|omp)\b[^/]*\.(?:so(?:\.\d+)*|dylib)$")


@cache
def openmp_runtime() -> Path | None:
    """The file of the runtime; None where none is found, and then the compiler's own is taken.

    A library that is linked against this file needs a library of the same name, and so the loader gives it the one that
    PyTorch has loaded already. Others in the process (scikit-learn has one under a name of its own) are no concern.
    """
    import torch

    beside = sorted(
        path for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*") if _NAME.search(path.name)
    )
    found = beside or _loaded()
    return found[0] if found else None


def _loaded() -> list[Path]:
    """Runtimes in this process, as where the system's package manager built PyTorch."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    names = {line.split(maxsplit=5)[-1] for line in lines if _NAME.search(line)}
    return [Path(name) for name in sorted(names) if ".libs/" not in name]
