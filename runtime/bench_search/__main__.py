"""`python -m runtime.bench_search`: the tables of docs/search.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from graphir.files import write_json
from runtime.bench_search.contest import contest
from runtime.bench_search.contest_table import format_contest
from runtime.bench_search.nas_bench_bert import read_nas_bench_bert
from runtime.bench_search.nas_bench_graph import read_nas_bench_graph
from runtime.cli.app import check_file
from runtime.console import make_console, prepare_output, say
from runtime.ending import end_well

DEFAULT_DATA_SETS = ("cora", "computers", "arxiv")
BERT_EVALUATIONS, BERT_TOP = 60, 0.05
"""Of 133 backbones, half are seen, and the best seven are aimed at."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench_search(
    data_sets: Annotated[
        list[str] | None, typer.Argument(help="Data sets of NAS-Bench-Graph; by default three.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Searches of each strategy.")] = 60,
    evaluations: Annotated[int, typer.Option(help="Of each search.")] = 300,
    nas_bench_bert: Annotated[
        Path | None, typer.Option(help="BERT_benchmark.json of NAS-Bench-BERT; without it, it is left out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--json", help="Also write everything, regret curves included, to this file."),
    ] = None,
) -> None:
    """Replay every strategy on tables of trained networks and print how many evaluations each needs."""
    if out is not None:
        check_file(out, "--json")
    console, errors = make_console(), make_console(sys.stderr)
    # All are read before the first is replayed: a name that is wrong is told at once.
    spaces = [read_nas_bench_graph(name) for name in data_sets or DEFAULT_DATA_SETS]
    bert = None if nas_bench_bert is None else read_nas_bench_bert(nas_bench_bert)
    results = []
    for space in [*spaces, *([] if bert is None else [bert])]:
        small = space is bert
        result = contest(
            space,
            seeds=seeds,
            evaluations=min(evaluations, BERT_EVALUATIONS) if small else evaluations,
            top=BERT_TOP if small else 0.001,
            progress=lambda line: say(errors, f"  {line}"),
        )
        say(console, format_contest(result) + "\n")
        results.append(result.to_dict())
    if out is not None:
        write_json(out, results)


if __name__ == "__main__":
    prepare_output()
    end_well(app)
