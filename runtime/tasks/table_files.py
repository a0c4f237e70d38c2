"""Tables of text: a row a line, tabulators between the fields, nothing quoted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphir import InputError
from graphir.checks import excerpt
from runtime.text_lines import read_lines

LONGEST_LINE = 1_000_000
"""Most bytes of a row; the longest of GLUE have some thousands."""

_ROWS_PER_TORN_ROW = 1_000


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        place: file and line, for messages.
        values: the field of each column.
    """

    place: str
    values: dict[str, str]


def read_rows(
    path: Path, needed: Sequence[str], columns: Sequence[str] | None = None, torn_rows: bool = False
) -> Iterator[Row]:
    """The rows of a table; lines without a character are left out.

    Quotation marks are text: GLUE's files are written without quoting.

    Args:
        path: the file.
        needed: columns that must be there; others may stand beside them.
        columns: all columns, in a file whose first line is a row; None where the first line names them.
        torn_rows: leave out rows that have too few or too many fields, where that is at most one in a thousand.

    Raises:
        InputError: for a missing column, a row with another number of fields, a file without rows, and what
            `read_lines` refuses; it names file and line.
        OSError: where the file cannot be read.
    """
    header = columns
    torn: list[str] = []
    rows = 0
    for number, line in read_lines(path, LONGEST_LINE):
        if not line:
            continue
        place, fields = f"{path}, line {number:,}", line.split("\t")
        if header is None:
            _check_header(fields, needed, place)
            header = fields
            continue
        if len(fields) != len(header):
            problem = f"{place}: it has {len(fields)} fields between tabulators; {len(header)} are expected: "
            problem += ", ".join(excerpt(name, 30) for name in header)
            if not torn_rows:
                raise InputError(problem)
            torn.append(problem)
            continue
        rows += 1
        yield Row(place, dict(zip(header, fields, strict=True)))
    if len(torn) * _ROWS_PER_TORN_ROW > rows:
        raise InputError(torn[0])
    if not rows:
        raise InputError(f"{path}: it has no rows; expected are rows with {', '.join(needed)}")


def _check_header(found: Sequence[str], needed: Sequence[str], place: str) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        shown = ", ".join(excerpt(name, 30) for name in found[:20])
        raise InputError(
            f"{place}: the column {', '.join(missing)} is missing; a header with {', '.join(needed)} is "
            f"expected, with a tabulator between two names, and {shown} was found"
        )
