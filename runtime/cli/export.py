"""`opnas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from runtime.cli.app import app


@app.command()
def export(
    target: Annotated[
        str,
        typer.Argument(help="The folder of a search or of a model; or a backbone, for untrained weights."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    form: Annotated[
        Literal["transformers", "torch"],
        typer.Option(help="For the Auto classes of transformers, or one module that needs torch alone."),
    ] = "transformers",
    size: Annotated[
        Literal["small", "base", "large"] | None,
        typer.Option(help="Another size of a backbone: hidden size 256, 768 or 1024."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of untrained weights.")] = 0,
    pt2: Annotated[
        bool, typer.Option("--pt2", help="Also write model.pt2, a program of torch.export.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx, checked with onnxruntime.")
    ] = False,
) -> None:
    """Write a folder that needs nothing of ours: modules, kernels, weights, graph, drawing, model card."""
    from runtime.export import export as write_folder

    written = write_folder(target, out, seed=seed, form=form, size=size, pt2=pt2, onnx=onnx)
    print(f"exported to {written}:")
    for path in sorted(written.iterdir()):
        print(f"  {path.name:32} {path.stat().st_size:>12,} bytes")
