"""When and where a run was carried on: ``sessions.json`` in its folder, one entry each time that a search began."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from graphir import OpnasError
from graphir.files import read_json, write_json
from runtime.machine import describe_machine, installed_versions

SESSIONS = "sessions.json"
MOST_SESSIONS = 100
"""Older ones than the newest so many are forgotten, but for the first."""


def record_session(folder: Path, device: str) -> None:
    """Add an entry for a search that begins now.

    Args:
        folder: of the run.
        device: what models are trained on.

    Raises:
        OSError: where it cannot be written.
    """
    entry = {
        "begun": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": {**describe_machine(), "device": device},
        "versions": installed_versions(),
    }
    sessions = [*read_sessions(folder), entry]
    if len(sessions) > MOST_SESSIONS:
        sessions = [sessions[0], *sessions[-MOST_SESSIONS + 1 :]]
    write_json(folder / SESSIONS, sessions)


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The entries, oldest first; what is no entry is left out, and where there is no such file there are none."""
    try:
        entries = read_json(folder / SESSIONS)
    except (OSError, OpnasError):
        return []
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if _is_entry(entry)]


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("begun"), str):
        return False
    return all(isinstance(entry.get(part), dict) for part in ("machine", "versions"))
