"""The command line. Every command is a function of the API first; this file reads arguments and prints."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

# Each command imports what it runs, so that `opnas inspect` opens a graph without loading torch.

app = typer.Typer(
    help="Evolves attention structures as graphs of primitive math and compiles them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_BENCHMARKED = (
    "bert/1",
    "autobert-zero",
    "linear-attention",
    "linear-cosine-attention",
    "cosine-attention",
    "shared-qk",
)
"""What `opnas bench` measures where nothing else is named."""

TargetArgument = Annotated[
    str, typer.Argument(help="A preset, a graph or backbone file, a formula, or the folder of a search.")
]


def main() -> None:
    """Run the command line. Wrong input ends with one message on standard error and exit code 2."""
    try:
        app()
    except Exception as error:
        if not _is_users(error):
            raise
        print(f"opnas: {error}", file=sys.stderr)
        raise SystemExit(2) from None


class InputError(ValueError):
    """An option that is out of bounds."""


@contextmanager
def _options() -> Iterator[None]:
    """Around constructors that check what the user gave: their `ValueError` is for the user."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def _is_users(error: Exception) -> bool:
    """Whether it is one of the errors that our rooms define, all of them for people, or about a user's file."""
    room = type(error).__module__.partition(".")[0]
    return room in ("graphir", "evolution", "codegen", "runtime") or (
        isinstance(error, OSError) and error.filename is not None
    )


@app.command()
def search(
    out: Annotated[Path | None, typer.Option(help="Folder to make; by default runs/<time>.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="UTF-8 text to learn from; by default Python's own documentation.")
    ] = None,
    candidates: Annotated[int, typer.Option(help="How many candidates to evaluate.")] = 40,
    minutes: Annotated[float | None, typer.Option(help="Begin no candidate after so many minutes.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same study.")] = 0,
    strategy: Annotated[str, typer.Option(help="opnas, evolution or random.")] = "opnas",
    population: Annotated[int, typer.Option(help="Random candidates at the start.")] = 15,
    parents: Annotated[int, typer.Option(help="Parents of a generation (opnas).")] = 5,
    children: Annotated[int, typer.Option(help="Children of a parent (opnas).")] = 1,
    temperature: Annotated[float, typer.Option(help="Of the softmax over priorities (opnas).")] = 0.05,
    extended: Annotated[bool, typer.Option(help="Draw from the extended set of operations.")] = False,
    layers: Annotated[int, typer.Option(help="Layers of a backbone.")] = 4,
    hidden_size: Annotated[int, typer.Option(help="Width of a token.")] = 64,
    heads: Annotated[int, typer.Option(help="Heads of a layer.")] = 4,
    ffn_size: Annotated[int, typer.Option(help="Inner width of feed-forward blocks.")] = 128,
    vocab_size: Annotated[int, typer.Option(help="Most tokens of the tokenizer.")] = 1024,
    seq_len: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step.")] = 32,
    held_out: Annotated[int, typer.Option(help="Most sequences that a candidate is judged on.")] = 512,
    warm_up_steps: Annotated[int, typer.Option(help="Steps of the supernet.")] = 800,
    candidate_steps: Annotated[int, typer.Option(help="Steps of a candidate.")] = 30,
    winner_steps: Annotated[int, typer.Option(help="Steps of the winner before it is saved.")] = 400,
) -> None:
    """Evolve a backbone on real text; ends with a ranked list, a drawing and a trained winner."""
    from evolution import SearchSpace
    from graphir import EXTENDED_OPERATIONS, PAPER_OPERATIONS
    from runtime.pipeline import read_corpus
    from runtime.proxy import ProxyConfig
    from runtime.run import Run, RunConfig, refuse_existing

    folder = out or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    refuse_existing(folder)
    settings: dict[str, dict[str, Any]] = {
        "opnas": {
            "population": population,
            "parents": parents,
            "children": children,
            "temperature": temperature,
        },
        "evolution": {"population": population, "tournament": min(5, population)},
    }
    with _options():
        space = SearchSpace(
            layers=layers,
            hidden_size=hidden_size,
            heads=heads,
            ffn_size=ffn_size,
            operations=EXTENDED_OPERATIONS if extended else PAPER_OPERATIONS,
        )
        proxy = ProxyConfig(
            vocab_size=vocab_size,
            seq_len=seq_len,
            batch_size=batch_size,
            held_out_sequences=held_out,
            warm_up_steps=warm_up_steps,
            candidate_steps=candidate_steps,
        )
        text, path = read_corpus(None if corpus is None else str(corpus))
        config = RunConfig(
            corpus=path,
            corpus_digest=text.digest,
            candidates=candidates,
            minutes=minutes,
            seed=seed,
            strategy=strategy,
            strategy_settings=settings.get(strategy, {}),
            space=space,
            proxy=proxy,
            winner_steps=winner_steps,
        )
    _carry_out(Run.create(folder, config), text)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a search that was stopped or killed.")],
) -> None:
    """Go on with a search; nothing that was committed is done again."""
    from runtime.pipeline import read_corpus
    from runtime.run import Run

    opened = Run.open(run)
    text, _ = read_corpus(opened.config.corpus)
    _carry_out(opened, text)


def _carry_out(run: Any, corpus: Any) -> None:
    from runtime.pipeline import run_search
    from runtime.progress import make_reporter
    from runtime.ranking import print_outcome

    console = Console()
    console.print(
        f"corpus [bold]{corpus.name}[/]: {len(corpus.train):,} paragraphs to learn from, "
        f"{len(corpus.held_out):,} held out",
        highlight=False,
    )
    try:
        with make_reporter(run.config, console) as reporter:
            outcome = run_search(run, corpus, reporter)
    except KeyboardInterrupt:
        console.print(f"stopped; go on with: opnas resume {run.folder}", highlight=False)
        raise SystemExit(130) from None
    print_outcome(outcome, run, console)
    if not outcome.ranked:
        raise SystemExit(1)


@app.command()
def inspect(
    target: TargetArgument,
    form: Annotated[
        Literal["text", "latex", "dot", "mermaid", "json"], typer.Option("--format", help="What to print.")
    ] = "text",
    source: Annotated[bool, typer.Option(help="Print the generated Python instead.")] = False,
    kernels: Annotated[
        bool,
        typer.Option(help="Print the plan of the Triton kernels, with roofline times, and their source."),
    ] = False,
    draw: Annotated[Path | None, typer.Option(help="Draw to this .svg or .png file instead.")] = None,
) -> None:
    """Look at a graph, a backbone or the candidates of a search."""
    from graphir import AttentionGraph
    from runtime.targets import resolve

    folder = Path(target)
    plain = form == "text" and not source and not kernels and draw is None
    if (folder / "config.json").is_file() and plain:
        from runtime.ranking import print_run
        from runtime.run import Run

        print_run(Run.open(folder), Console())
        return
    found = resolve(target)
    if draw is not None:
        with _options():
            found.draw(draw)
        print(f"drawn to {draw}")
    elif kernels:
        from runtime.kernel_report import describe_kernels
        from runtime.targets import graphs_of

        for text in describe_kernels(graphs_of(found)):
            print(text)
    elif source:
        from codegen import backbone_source, compile_attention

        text = (
            compile_attention(found).source if isinstance(found, AttentionGraph) else backbone_source(found)
        )
        print(text, end="")
    elif form == "text":
        from codegen import compile_attention

        print(found.summary())
        if isinstance(found, AttentionGraph):
            print(f"\nplan: {compile_attention(found).plan}")
    else:
        written = {
            "latex": lambda: found.equation("latex"),
            "dot": found.to_dot,
            "mermaid": found.to_mermaid,
            "json": lambda: json.dumps(found.to_dict(), indent=2),
        }
        print(written[form]())


@app.command()
def aot(
    target: TargetArgument,
    device: Annotated[
        list[str] | None, typer.Option("--target", help="sm_80, sm_90, sm_100 or gfx942; by default all.")
    ] = None,
    head_dim: Annotated[int, typer.Option(help="Head dimension.", min=1, max=256)] = 64,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    masked: Annotated[bool, typer.Option(help="With a key mask.")] = False,
    dropout: Annotated[bool, typer.Option(help="With attention dropout.")] = False,
) -> None:
    """Build the kernels ahead of time, without a GPU: registers, spills and shared memory of each."""
    from codegen import TARGETS
    from runtime.kernel_report import build_table
    from runtime.targets import graphs_of, resolve

    unknown = [name for name in device or () if name not in TARGETS]
    if unknown:
        raise InputError(f"--target must be one of {', '.join(TARGETS)}, not {unknown[0][:40]!r}")
    graphs = graphs_of(resolve(target))
    with _options():
        for line in build_table(graphs, device or TARGETS, head_dim, dtype, masked, dropout):
            print(line, flush=True)


@app.command()
def diff(first: TargetArgument, second: TargetArgument) -> None:
    """What must change to turn the first graph or backbone into the second."""
    from runtime.targets import compare, resolve

    print(compare(resolve(first), resolve(second)))


@app.command()
def export(
    target: Annotated[
        str, typer.Argument(help="The folder of a search; or a backbone, for untrained weights.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
) -> None:
    """Write a folder that needs nothing of ours: module, weights, configuration, graph, drawing."""
    from graphir import Backbone
    from runtime.export import export_backbone, export_run
    from runtime.run import Run
    from runtime.targets import TargetError, resolve

    if (Path(target) / "config.json").is_file():
        written = export_run(Run.open(target), out)
    else:
        backbone = resolve(target)
        if not isinstance(backbone, Backbone):
            raise TargetError(f"{target} is a graph: a model is exported from a backbone or a search")
        written = export_backbone(backbone, out)
    print(f"exported to {written}:")
    for path in sorted(written.iterdir()):
        print(f"  {path.name:32} {path.stat().st_size:>12,} bytes")


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
    seq_len: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 2048,
    head_dim: Annotated[int, typer.Option(help="Head dimension.")] = 64,
    heads: Annotated[int, typer.Option(help="Heads.")] = 8,
    batch: Annotated[int, typer.Option(help="Sequences.")] = 2,
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
    out: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
) -> None:
    """Compare the generated code with eager PyTorch and torch.compile; a wrong result is not timed."""
    from runtime.bench import QUICK, Setting, benchmark
    from runtime.bench_table import format_table
    from runtime.random_graphs import random_graphs
    from runtime.targets import resolve

    sizes: dict[str, Any] = {"seq_len": seq_len, "head_dim": head_dim, "heads": heads, "batch": batch}
    choices: dict[str, Any] = {"dtype": dtype, "backend": backend, "compiled_graphs": compiled}
    drawn: Sequence[Any] = ()
    with _options():
        if random is not None:
            if targets or quick:
                raise ValueError("--random draws its own graphs: name no others, and leave --quick out")
            drawn = random_graphs(random, seed, extended)
            few: dict[str, Any] = {"compiled_graphs": compiled or 0, "forward": False, "judged_heads": 1}
            setting = Setting(**sizes, **(choices | few), rounds=3 if rounds is None else rounds)
        else:
            setting = Setting(**sizes, **choices, rounds=5 if rounds is None else rounds)
    if out is not None and not out.parent.is_dir():
        raise InputError(f"the folder {out.parent} of --json does not exist: make it first")
    graphs = [*drawn] or [resolve(target) for target in targets or _BENCHMARKED]
    if quick:
        setting, graphs = replace(QUICK, backend=setting.backend), [*graphs, resolve("bert/1")]
    result = benchmark(graphs, setting, progress=lambda line: print(f"  {line}", file=sys.stderr))
    print(format_table(result))
    if out is not None:
        out.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    if result.wrong:
        print(f"wrong results, not timed: {', '.join(result.wrong)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
