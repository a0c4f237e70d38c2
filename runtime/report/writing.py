"""Writing a report: `opnas.report`."""

from __future__ import annotations

from pathlib import Path

from graphir.files import write_whole
from runtime.report.data import collect
from runtime.report.page import render

REPORT = "report.html"
"""Its name in the folder of a run."""


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a search, whether it is running, stopped or complete: one file that needs no network.

    Args:
        run: the folder of the search.
        out: the HTML file; by default ``report.html`` in that folder.

    Returns:
        The file, which is whole; where something is wrong, what stood there before is still there.

    Raises:
        OpnasError: where ``run`` is not the folder of a search, or its study cannot be read.
        OSError: where the file cannot be written.
    """
    path = Path(run) / REPORT if out is None else Path(out)
    write_whole(path, render_run(run).encode())
    return path


def render_run(run: str | Path, version: str | None = None) -> str:
    """The text of the report; ``version`` as of `runtime.report.page.render`. Raises as `report` does."""
    return render(collect(run), version)
