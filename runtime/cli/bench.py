"""`opnas bench`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from graphir import InputError
from graphir.files import write_json
from runtime.cli.app import app, check_file
from runtime.console import make_console, say

_BENCHMARKED = (
    "bert/1",
    "autobert-zero",
    "linear-attention",
    "linear-cosine-attention",
    "cosine-attention",
    "shared-qk",
)
"""What `opnas bench` measures where nothing else is named."""


@app.command()
def bench(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Presets, files, formulas or a search; by default the presets."),
    ] = None,
    random: Annotated[
        int | None, typer.Option(help="Measure so many random graphs; forward and backward.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random graphs; the same seed draws the same ones.")] = 0,
    extended: Annotated[bool, typer.Option(help="Draw them from the extended set of operations.")] = False,
    seq_len: Annotated[
        int | None, typer.Option(help="Tokens of a sequence; by default 2048, of a model 128 and 512.")
    ] = None,
    head_dim: Annotated[int, typer.Option(help="Head dimension.")] = 64,
    heads: Annotated[int, typer.Option(help="Heads.")] = 8,
    batch: Annotated[int | None, typer.Option(help="Sequences; by default 2, of a model 8.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    rounds: Annotated[
        int | None, typer.Option(help="How often each form is timed; by default 5, and 3 for random graphs.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="Generated code: torch, triton (here: in its interpreter) or auto.")
    ] = "torch",
    compiled: Annotated[
        int | None,
        typer.Option(
            help="torch.compile takes part in so many graphs; by default in all that are not random."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option(help="A small table in seconds; sizes are fixed.")] = False,
    model: Annotated[
        bool,
        typer.Option(
            "--model", help="A whole model as exported, against BERT of transformers; one backbone."
        ),
    ] = False,
    head: Annotated[
        bool, typer.Option("--head", help="With --model: with the masked-language-model heads.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
) -> None:
    """Compare the generated code with eager PyTorch and torch.compile; a wrong result is not timed."""
    if model:
        if random is not None or quick or len(targets or ()) > 1:
            raise InputError("--model measures one backbone: leave --random, --quick and other targets out")
        given = {"seq_lens": None if seq_len is None else (seq_len,), "batch": batch, "rounds": rounds}
        _bench_model(targets or ["autobert-zero-small"], given, head, seed, out)
        return
    from runtime.bench import QUICK, Setting, benchmark
    from runtime.bench_table import format_table
    from runtime.random_graphs import random_graphs
    from runtime.targets import resolve

    sizes: dict[str, Any] = {
        "seq_len": 2048 if seq_len is None else seq_len,
        "head_dim": head_dim,
        "heads": heads,
        "batch": 2 if batch is None else batch,
    }
    choices: dict[str, Any] = {"dtype": dtype, "backend": backend, "compiled_graphs": compiled}
    drawn: Sequence[Any] = ()
    if random is not None:
        if targets or quick:
            raise InputError("--random draws its own graphs: name no others, and leave --quick out")
        drawn = random_graphs(random, seed, extended)
        few: dict[str, Any] = {
            "compiled_graphs": compiled or 0,
            "forward": False,
            "judged_heads": 1,
            "least_seconds": 4.0,
        }
        setting = Setting(**sizes, **(choices | few), rounds=3 if rounds is None else rounds)
    else:
        setting = Setting(**sizes, **choices, rounds=5 if rounds is None else rounds)
    if out is not None:
        check_file(out, "--json")
    graphs = [*drawn] or [resolve(target) for target in targets or _BENCHMARKED]
    if quick:
        setting, graphs = replace(QUICK, backend=setting.backend), [*graphs, resolve("bert/1")]
    result = benchmark(graphs, setting, progress=lambda line: print(f"  {line}", file=sys.stderr))
    print(format_table(result))
    if out is not None:
        write_json(out, result.to_dict())
    if result.wrong:
        print(f"wrong results, not timed: {', '.join(result.wrong)}", file=sys.stderr)
        raise SystemExit(1)


def _bench_model(targets: list[str], given: dict[str, Any], head: bool, seed: int, out: Path | None) -> None:
    from graphir import Backbone
    from runtime.model_bench import ModelSetting, benchmark_model
    from runtime.model_bench_table import format_model_table
    from runtime.targets import resolve

    chosen = {name: value for name, value in given.items() if value is not None}
    setting = ModelSetting(**chosen, head=head, seed=seed)
    if out is not None:
        check_file(out, "--json")
    backbone = resolve(targets[0])
    if not isinstance(backbone, Backbone):
        raise InputError(f"{targets[0]} is a graph: --model measures a backbone")
    result = benchmark_model(backbone, setting, progress=lambda line: print(f"  {line}", file=sys.stderr))
    say(make_console(), format_model_table(result))
    if out is not None:
        write_json(out, result.to_dict())
