"""`opnas inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from graphir import InputError
from runtime.cli.app import TargetArgument, app, check_file
from runtime.console import make_console, say


@app.command()
def inspect(
    target: TargetArgument,
    form: Annotated[
        Literal["text", "latex", "dot", "mermaid", "json", "model-explorer"],
        typer.Option("--format", help="What to print; model-explorer is a file for Model Explorer."),
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
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens", help="How alike a model's tokens become from layer to layer; runs its code."
        ),
    ] = False,
    against: Annotated[
        list[Path] | None, typer.Option(help="With --tokens: the folder of another model, e.g. a BERT.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="With --tokens: UTF-8 text; by default Python's own documentation.")
    ] = None,
) -> None:
    """Look at a graph, a backbone, the candidates of a search, or an exported model."""
    from graphir import AttentionGraph
    from graphir.drawing import check_suffix
    from graphir.model_explorer import to_model_explorer
    from runtime.targets import folder_kind, folder_named, resolve

    if draw is not None:
        check_suffix(draw)
    if tokens:
        if source or kernels or form not in ("text", "json"):
            raise InputError("--tokens prints a table, or --format json: leave --source and --kernels out")
        _inspect_tokens([Path(target), *(against or [])], text, form, draw)
        return
    if against or text:
        raise InputError("--against and --text belong to --tokens")
    folder = folder_named(target)
    plain = form == "text" and not source and not kernels and draw is None
    if folder is not None and folder_kind(folder) == "search" and plain:
        from runtime.ranking import print_run
        from runtime.run import Run

        print_run(Run.open(folder), make_console())
        return
    if plain and folder is None and _print_of_study(target):
        return
    found = resolve(target)
    if draw is not None:
        found.draw(draw)
        print(f"drawn to {draw}")
    elif kernels:
        from runtime.kernel_report import describe_kernels
        from runtime.targets import graphs_of

        for description in describe_kernels(graphs_of(found)):
            print(description)
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
            "model-explorer": lambda: json.dumps(to_model_explorer(found), indent=2),
        }
        print(written[form]())


def _print_of_study(target: str) -> bool:
    """Print a study, or a candidate of one; False where the target is neither."""
    from evolution import Study
    from graphir import presets
    from runtime.ranking import print_candidate, print_study
    from runtime.targets import candidate_named, is_study

    path = Path(target)
    if target in presets.names():
        return False
    try:
        study_file = is_study(path)
    except (OSError, ValueError):  # a formula too long for a path
        return False
    if study_file:
        with Study.open(path, readonly=True) as study:
            print_study(study, f"{path}: {len(study)} candidates", make_console())
        return True
    candidate = candidate_named(target)
    if candidate is not None:
        print_candidate(candidate, make_console())
    return candidate is not None


def _inspect_tokens(folders: list[Path], text: Path | None, form: str, draw: Path | None) -> None:
    from runtime.corpus import load_corpus, read_paragraphs
    from runtime.token_similarity import similarity_table, token_similarity

    if draw is not None:
        check_file(draw, "--draw")
    texts = load_corpus().held_out if text is None else read_paragraphs(text)
    measured = [token_similarity(folder, texts) for folder in folders]
    if draw is not None:
        from runtime.similarity_plot import draw_similarity

        draw_similarity(measured, draw)
    if form == "json":
        print(json.dumps([one.to_dict() for one in measured], indent=2))
    else:
        say(make_console(), similarity_table(measured))
        if draw is not None:
            print(f"drawn to {draw}")
