"""`opnas inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from runtime.cli.app import TargetArgument, app
from runtime.console import make_console


@app.command()
def inspect(
    target: TargetArgument,
    form: Annotated[
        Literal["text", "latex", "dot", "mermaid", "json"], typer.Option("--format", help="What to print.")
    ] = "text",
    source: Annotated[bool, typer.Option(help="Print the generated Python instead.")] = False,
    backend: Annotated[
        Literal["auto", "torch", "triton"],
        typer.Option(help="Which form of it: PyTorch's or Triton kernels."),
    ] = "auto",
    kernels: Annotated[
        bool,
        typer.Option(help="Print the plan of the Triton kernels, with roofline times, and their source."),
    ] = False,
    draw: Annotated[Path | None, typer.Option(help="Draw to this .svg or .png file instead.")] = None,
) -> None:
    """Look at a graph, a backbone or the candidates of a search."""
    from graphir import AttentionGraph
    from graphir.drawing import check_suffix
    from runtime.targets import resolve

    if draw is not None:
        check_suffix(draw)
    folder = Path(target)
    plain = form == "text" and not source and not kernels and draw is None
    if (folder / "config.json").is_file() and plain:
        from runtime.ranking import print_run
        from runtime.run import Run

        print_run(Run.open(folder), make_console())
        return
    found = resolve(target)
    if draw is not None:
        found.draw(draw)
        print(f"drawn to {draw}")
    elif kernels:
        from runtime.kernel_report import describe_kernels
        from runtime.targets import graphs_of

        for text in describe_kernels(graphs_of(found)):
            print(text)
    elif source:
        from runtime.generated_text import describe_source

        print(describe_source(found, backend), end="")
    elif form == "text":
        from codegen import compile_attention

        print(found.summary())
        if isinstance(found, AttentionGraph):
            print(f"\nplan: {compile_attention(found, backend).plan}")
    else:
        written = {
            "latex": lambda: found.equation("latex"),
            "dot": found.to_dot,
            "mermaid": found.to_mermaid,
            "json": lambda: json.dumps(found.to_dict(), indent=2),
        }
        print(written[form]())
