"""`opnas aot`."""

from __future__ import annotations

from typing import Annotated

import typer

from graphir import InputError
from runtime.cli.app import TargetArgument, app


@app.command()
def aot(
    target: TargetArgument,
    device: Annotated[
        list[str] | None, typer.Option("--target", help="sm_80, sm_90, sm_100 or gfx942; by default all.")
    ] = None,
    head_dim: Annotated[int, typer.Option(help="Head dimension.", min=1, max=256)] = 64,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    masked: Annotated[bool, typer.Option(help="With a key mask.")] = False,
    dropout: Annotated[bool, typer.Option(help="With dropout.")] = False,
) -> None:
    """Build the kernels ahead of time, without a GPU: registers, spills and shared memory of each.

    For a backbone, the kernels of the blocks beside attention too, at its sizes.
    """
    from codegen import TARGETS
    from runtime.kernel_report import build_table
    from runtime.targets import block_sizes_of, graphs_of, resolve

    unknown = [name for name in device or () if name not in TARGETS]
    if unknown:
        raise InputError(f"--target must be one of {', '.join(TARGETS)}, not {unknown[0][:40]!r}")
    found = resolve(target)
    graphs, blocks = graphs_of(found), block_sizes_of(found)
    for line in build_table(graphs, device or TARGETS, head_dim, dtype, masked, dropout, blocks):
        print(line, flush=True)
