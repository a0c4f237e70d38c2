"""`opnas diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.app import TargetArgument, app


@app.command()
def diff(
    first: TargetArgument,
    second: TargetArgument,
    draw: Annotated[
        Path | None, typer.Option(help="Draw both to this .svg or .png file, with what changed in colour.")
    ] = None,
) -> None:
    """What must change to turn the first graph or backbone into the second."""
    from graphir.drawing import check_suffix
    from runtime.targets import compare, resolve

    if draw is not None:
        check_suffix(draw)
    found = compare(resolve(first), resolve(second))
    print(found)
    if draw is not None:
        found.draw(draw)
        print(f"drawn to {draw}")
