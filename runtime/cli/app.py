"""The application that the commands belong to, and what several of them have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from graphir import InputError
from runtime.console import prepare_output
from runtime.ending import end_well

app = typer.Typer(
    help="Evolves attention structures as graphs of primitive math and compiles them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

TargetArgument = Annotated[
    str,
    typer.Argument(
        help="A preset, a graph or backbone file, a formula, the folder of a search or a model, a study, "
        "or a candidate: RUN#17."
    ),
]


def main() -> None:
    """Run the command line; see `runtime.ending` for how it ends."""
    prepare_output()
    end_well(app)


def check_file(path: Path, option: str) -> None:
    """Refuse a name under which no file can be written, before anything is worked out for it."""
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of {option} does not exist: make it first")
    if path.is_dir():
        raise InputError(f"{path} of {option} is a folder: give the name of a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} of {option} cannot be written: choose another place")
