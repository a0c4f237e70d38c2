"""Tables of a report: cells with what is shown and what they are sorted by, and tables made of any JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_TABLES, MOST_ROWS, MOST_COLUMNS = 12, 500, 20
"""Bounds of what is made of a file that may be anything."""


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what is shown.
        number: what it is sorted by; None where it is sorted by its text.
        target: index of the candidate that it points to, or None.
    """

    text: str
    number: float | None = None
    target: int | None = None


@dataclass(frozen=True)
class Table:
    """Some rows with a title; without heads the first cell of each row is its name."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(data: Any, title: str = "") -> tuple[Table, ...]:
    """JSON as tables: plain values of an object are one table, a list of objects is one, objects within follow.

    Example:
        >>> for table in tables_of({"candidates": 24, "proxies": [{"name": "mlm", "tau": 0.71234567}]}):
        ...     print(table)
        Table(title='', heads=(), rows=(('candidates', '24'),))
        Table(title='proxies', heads=('name', 'tau'), rows=(('mlm', '0.7123'),))
    """
    return tuple(_tables(data, title))[:MOST_TABLES]


def _tables(data: Any, title: str) -> list[Table]:
    if isinstance(data, dict):
        plain = {str(name): value for name, value in data.items() if not _nested(value)}
        found = []
        if plain:
            named = [(name, show(value)) for name, value in plain.items()]
            found.append(Table(title, (), tuple(named[:MOST_ROWS])))
        for name, value in data.items():
            if _nested(value) and len(found) < MOST_TABLES:
                found += _tables(value, f"{title}: {name}" if title else str(name))
        return found
    if isinstance(data, list) and data and all(isinstance(entry, dict) for entry in data):
        heads = tuple(dict.fromkeys(str(name) for entry in data for name in entry))[:MOST_COLUMNS]
        rows = [tuple(show(entry.get(head, "")) for head in heads) for entry in data[:MOST_ROWS]]
        return [Table(title, heads, tuple(rows))]
    return [Table(title, (), ((title or "value", show(data)),))]


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value))


def show(value: Any) -> str:
    """A value of JSON for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "none"
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(map(show, value))
    return json.dumps(value) if isinstance(value, dict) else f"{value}"
