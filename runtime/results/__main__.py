"""The command ``python -m runtime.results``; see ``--help``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from graphir.files import write_json, write_whole
from runtime.console import make_console, prepare_output, say
from runtime.ending import end_well
from runtime.results.experiment import Experiment
from runtime.results.page import format_page
from runtime.results.settings import QUICK, ResultsSettings


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment, or go on with one; write its page and its numbers."""
    parser = argparse.ArgumentParser(prog="python -m runtime.results", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with wikitext-2/ and glue/")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/results"), help="models and numbers (%(default)s)"
    )
    parser.add_argument(
        "--page", type=Path, default=Path("docs/results.md"), help="page to write (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="everything in a minute; numbers mean nothing")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data is needed: the folder with wikitext-2/ and glue/ (make results DATA=<folder>)")
    console = make_console()
    settings = QUICK if options.quick else ResultsSettings()
    experiment = Experiment(
        options.data, options.out, settings, options.workers, lambda line: say(console, f"  {line}")
    )
    for results in experiment.stages():
        write_whole(options.page, format_page(results).encode())
        write_json(options.page.with_suffix(".json"), results)
    say(console, f"written to {options.page}")


if __name__ == "__main__":
    prepare_output()
    end_well(main)
