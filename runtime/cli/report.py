"""`opnas report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphir import InputError
from runtime.cli.app import app, check_file
from runtime.console import make_console, say


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a search, also of one that is running.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file; by default report.html in that folder.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Follow a running search in a browser instead.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="Of --serve, on this machine alone; 0 for any that is free.")
    ] = 8765,
) -> None:
    """Write what a search found as one HTML page that needs no network."""
    if serve:
        from runtime.report.server import make_server

        if out is not None:
            raise InputError("--serve writes no file: leave out --out, or --serve")
        with make_server(run, port) as server:
            host, bound = server.server_address[:2]
            say(make_console(), f"http://{host!s}:{bound}/ follows {run}; end with Ctrl-C")
            server.serve_forever()
        return
    from runtime.report import report as write_report

    if out is not None:
        check_file(out, "--out")
    path = write_report(run, out)
    say(make_console(), f"report of {path.stat().st_size:,} bytes: {path}")
