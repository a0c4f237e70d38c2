"""`opnas calibrate`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.app import app
from runtime.console import make_console, say
from runtime.proxy_config import TASKS


@app.command()
def calibrate(
    run: Annotated[
        Path | None,
        typer.Argument(help="A search whose space, text and proxy are taken; by default the default ones."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the numbers; by default in the run, or runs/calibration.")
    ] = None,
    backbones: Annotated[int, typer.Option(help="How many are trained long.")] = 24,
    steps: Annotated[int, typer.Option(help="Of a long training on text.")] = 3000,
    probe_steps: Annotated[int, typer.Option(help="Of a long training on recall.")] = 600,
    proxy: Annotated[
        str | None, typer.Option(help=f"The proxy that is calibrated, of {', '.join(TASKS)}.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(help="Of the random backbones.")] = 0,
) -> None:
    """Train backbones long and print how well each proxy ranks them; what was stopped goes on."""
    from runtime.calibration import Calibration
    from runtime.calibration import calibrate as carry_out
    from runtime.calibration.table import format_agreements
    from runtime.report.data import CALIBRATION
    from runtime.run import Run

    wanted = Calibration(backbones=backbones, steps=steps, probe_steps=probe_steps, seed=seed)
    found = None if run is None else Run.open(run)
    if found is not None:
        corpus = None if found.corpus_path is None else str(found.corpus_path)
        wanted = replace(wanted, space=found.config.space, proxy=found.config.proxy, corpus=corpus)
    if proxy is not None:
        wanted = replace(wanted, proxy=replace(wanted.proxy, task=proxy))
    folder = out or (Path("runs/calibration") if found is None else found.folder / "calibration")
    console = make_console()
    results = carry_out(folder, wanted, workers, lambda line: say(console, f"  {line}"))
    if found is not None:
        from graphir.files import write_json

        write_json(
            found.folder / CALIBRATION, {name: results[name] for name in ("core_minutes", "agreement")}
        )
    say(console, format_agreements(results))
    say(console, f"all numbers: {folder / 'calibration.json'}")
