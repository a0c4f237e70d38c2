"""Reading and writing files. A stranger's is data: its size and shape are bounded. Ours are whole or not there."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from graphir.checks import excerpt
from graphir.errors import GraphError

TEMPORARY_SUFFIX = ".tmp"
"""What the names of temporary files and folders end in; they begin with a dot."""
MAX_FILE_BYTES = 4_000_000
"""Largest graph or backbone file that is read; the largest valid backbone is smaller."""


def read_json(path: str | Path) -> Any:
    """Parse a small JSON file.

    Raises:
        GraphError: larger than `MAX_FILE_BYTES`, or not JSON.
        OSError: where the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        size = path.stat().st_size
        raise GraphError(f"{path.name} is {size:,} bytes: files of at most {MAX_FILE_BYTES:,} bytes are read")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"{path.name} is not JSON: {str(error)[:120]}") from None


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON; ``path`` is never half-written (see `write_whole`)."""
    write_whole(path, (json.dumps(data, indent=2) + "\n").encode())


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file through a temporary one beside it, so that it holds all of ``data`` or what it held before.

    Whoever is stopped or meets a full disk leaves nothing behind. The mode is the usual one, a link is followed, and
    what is no plain file (a pipe, a terminal) is written as it is.

    Raises:
        OSError: where it cannot be written, naming ``path``.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        temporary = temporary_beside(target)
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def temporary_beside(path: Path) -> Path:
    """A new hidden name in the folder of ``path``, for what shall take its place when it is whole."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def require_format(data: Any, expected: str, what: str) -> None:
    """Refuse anything but an object whose ``format`` is ``expected``."""
    if not isinstance(data, dict):
        raise GraphError(f"a {what} file holds one JSON object, not {excerpt(data)}")
    found = data.get("format")
    if found != expected:
        raise GraphError(f"unknown format {excerpt(found)}: this version reads {expected!r}")


def require_keys(data: dict[str, Any], keys: set[str], what: str) -> None:
    """Refuse an object that lacks one of ``keys`` or has others."""
    missing, unknown = sorted(keys - data.keys()), sorted(data.keys() - keys, key=str)
    if missing:
        raise GraphError(f"the {what} lacks {', '.join(missing)}")
    if unknown:
        shown = ", ".join(excerpt(key, 40) for key in unknown[:5])
        raise GraphError(f"the {what} has unknown keys {shown}: only {', '.join(sorted(keys))} are allowed")
