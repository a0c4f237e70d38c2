"""What opnas keeps on disk between runs to save time: never needed, so never a reason to fail."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from graphir.files import write_whole


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of results: below ``OPNAS_CACHE``, or the user's cache folder (XDG base directories).

    None where there is no place for it, as for a user without a home. It need not exist.
    """
    if root := os.environ.get("OPNAS_CACHE"):
        return Path(root) / kind
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # by its specification, other values are to be ignored
        return Path(shared) / "opnas" / kind
    try:
        return Path.home() / ".cache" / "opnas" / kind
    except RuntimeError:
        return None


def read_cached(path: Path | None) -> str | None:
    """The text of a file; None where there is none that can be read."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def write_cached(path: Path | None, text: str) -> None:
    """Write a file whole or not at all: other processes may read it. Where that fails there is a warning."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode("utf-8"))
    except OSError as error:
        warnings.warn(f"nothing is kept in {path.parent} for the next time: {error.strerror}", stacklevel=3)
