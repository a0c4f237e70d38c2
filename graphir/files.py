"""Reading and writing the JSON file forms. A file from a stranger is data: its size and shape are bounded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from graphir.checks import excerpt
from graphir.errors import GraphError

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
    """Write JSON through a temporary file beside ``path``, so that ``path`` is never half-written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
