"""C++ text to a loaded shared library, through a cache by content, compiler and processor.

The cache saves time and is never needed: a folder that cannot be written costs one warning, a damaged file a build.
Several processes that build one text at once each do so, and each library appears whole.
"""

from __future__ import annotations

import ctypes
import hashlib
import tempfile
import threading
import warnings
from pathlib import Path

from codegen.cache import cache_folder
from codegen.cpp.compiler import Compiler, NativeBuildError, find_compiler
from graphir.files import write_whole

__all__ = ["NativeBuildError", "load_library"]

_lock = threading.Lock()
_results: dict[str, ctypes.CDLL | NativeBuildError] = {}


def load_library(source: str, stem: str = "kernels") -> ctypes.CDLL:
    """The library that C++ text makes; built at most once a process, and not at all where the cache has it.

    Args:
        source: a whole translation unit (`codegen.cpp.library.with_library`).
        stem: what it is, for the name of its file.

    Raises:
        NativeBuildError: without a compiler, where it refuses the text, or where the result cannot be loaded. The same
            text is not tried again.
    """
    compiler = find_compiler()
    key = hashlib.sha256(f"{compiler.identity}\0{source}".encode()).hexdigest()
    with _lock:
        if key not in _results:
            try:
                _results[key] = _load(source, f"{stem}_{key[:24]}", compiler)
            except NativeBuildError as error:
                _results[key] = error
        found = _results[key]
    if isinstance(found, NativeBuildError):
        raise NativeBuildError(str(found))
    return found


def _load(source: str, name: str, compiler: Compiler) -> ctypes.CDLL:
    folder = cache_folder("native")
    kept = None if folder is None else folder / f"{name}.so"
    if kept is not None and kept.is_file():
        try:
            return ctypes.CDLL(str(kept))
        except OSError:
            pass  # damaged, or of a system that is gone: built again
    try:
        with tempfile.TemporaryDirectory(prefix="opnas-") as place:
            text, library = Path(place) / f"{name}.cpp", Path(place) / f"{name}.so"
            text.write_text(source, encoding="utf-8")
            compiler.build(text, library)
            if kept is not None:
                _keep(library, kept)
            return ctypes.CDLL(str(library))  # it stays in memory when its file goes
    except OSError as error:
        reason = error.strerror or str(error)
        raise NativeBuildError(f"the library of native kernels cannot be made or loaded: {reason}") from None


def _keep(library: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, library.read_bytes())
    except OSError as error:
        _warn_once(f"nothing is kept in {kept.parent} for the next time: {error.strerror}")


_said: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warnings.warn(message, stacklevel=5)


def clear_loaded() -> None:
    """Forget what this process has built, as for a measurement of the cache."""
    with _lock:
        _results.clear()
        _said.clear()
