"""`opnas diff`."""

from __future__ import annotations

from runtime.cli.app import TargetArgument, app


@app.command()
def diff(first: TargetArgument, second: TargetArgument) -> None:
    """What must change to turn the first graph or backbone into the second."""
    from runtime.targets import compare, resolve

    print(compare(resolve(first), resolve(second)))
