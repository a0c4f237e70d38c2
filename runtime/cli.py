"""The command line. Every command is a function of the API first; this file reads arguments and prints."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evolution import OperationPriorityEvolution, RegularizedEvolution
from graphir import InputError
from graphir.files import write_json
from runtime.console import make_console, prepare_output, say
from runtime.ending import end_well
from runtime.run_config import RunConfig
from runtime.stopping import Stopped

if TYPE_CHECKING:
    from runtime.corpus import Corpus
    from runtime.run import Run

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

_DEFAULT = RunConfig()
_OPNAS = OperationPriorityEvolution()

TargetArgument = Annotated[
    str, typer.Argument(help="A preset, a graph or backbone file, a formula, or the folder of a search.")
]


def main() -> None:
    """Run the command line; see `runtime.ending` for how it ends."""
    prepare_output()
    end_well(app)


@app.command()
def search(
    out: Annotated[Path | None, typer.Option(help="Folder to make; by default runs/<time>.")] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="UTF-8 text to learn from; by default Python's own documentation.")
    ] = None,
    candidates: Annotated[int, typer.Option(help="How many candidates to evaluate.")] = _DEFAULT.candidates,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no candidate after so many minutes.")
    ] = _DEFAULT.minutes,
    seed: Annotated[int, typer.Option(help="The same seed gives the same study.")] = _DEFAULT.seed,
    strategy: Annotated[str, typer.Option(help="opnas, evolution or random.")] = _DEFAULT.strategy,
    population: Annotated[int, typer.Option(help="Random candidates at the start.")] = _OPNAS.population,
    parents: Annotated[int, typer.Option(help="Parents of a generation (opnas).")] = _OPNAS.parents,
    children: Annotated[int, typer.Option(help="Children of a parent (opnas).")] = _OPNAS.children,
    temperature: Annotated[
        float, typer.Option(help="Of the softmax over priorities (opnas).")
    ] = _OPNAS.temperature,
    scores: Annotated[
        str, typer.Option(help="What priorities are taken of (opnas): standardised scores or raw ones.")
    ] = _OPNAS.scores,
    extended: Annotated[bool, typer.Option(help="Draw from the extended set of operations.")] = False,
    layers: Annotated[int, typer.Option(help="Layers of a backbone.")] = _DEFAULT.space.layers,
    hidden_size: Annotated[int, typer.Option(help="Width of a token.")] = _DEFAULT.space.hidden_size,
    heads: Annotated[int, typer.Option(help="Heads of a layer.")] = _DEFAULT.space.heads,
    ffn_size: Annotated[
        int, typer.Option(help="Inner width of feed-forward blocks.")
    ] = _DEFAULT.space.ffn_size,
    vocab_size: Annotated[
        int, typer.Option(help="Most tokens of the tokenizer.")
    ] = _DEFAULT.proxy.vocab_size,
    seq_len: Annotated[int, typer.Option(help="Tokens of a sequence.")] = _DEFAULT.proxy.seq_len,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step.")] = _DEFAULT.proxy.batch_size,
    held_out: Annotated[
        int, typer.Option(help="Most sequences that a candidate is judged on.")
    ] = _DEFAULT.proxy.held_out_sequences,
    warm_up_steps: Annotated[int, typer.Option(help="Steps of the supernet.")] = _DEFAULT.proxy.warm_up_steps,
    candidate_steps: Annotated[
        int, typer.Option(help="Steps of a candidate.")
    ] = _DEFAULT.proxy.candidate_steps,
    winner_steps: Annotated[
        int, typer.Option(help="Steps of the winner before it is saved.")
    ] = _DEFAULT.winner_steps,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:<number>; auto is a GPU where there is one.")
    ] = _DEFAULT.proxy.device,
    backend: Annotated[
        Literal["auto", "torch", "triton"], typer.Option(help="Fused kernels on a GPU, or PyTorch's form.")
    ] = _DEFAULT.proxy.backend,
) -> None:
    """Evolve a backbone on real text; ends with a ranked list, a drawing and a trained winner."""
    from graphir import EXTENDED_OPERATIONS

    given: dict[str, dict[str, Any]] = {
        "opnas": {
            "population": population,
            "parents": parents,
            "children": children,
            "temperature": temperature,
            "scores": scores,
        },
        "evolution": {
            "population": population,
            "tournament": min(RegularizedEvolution.tournament, population),
        },
    }
    space = replace(_DEFAULT.space, layers=layers, hidden_size=hidden_size, heads=heads, ffn_size=ffn_size)
    config = RunConfig(
        candidates=candidates,
        minutes=minutes,
        seed=seed,
        strategy=strategy,
        strategy_settings=given.get(strategy, {}),
        space=replace(space, operations=EXTENDED_OPERATIONS) if extended else space,
        proxy=replace(
            _DEFAULT.proxy,
            vocab_size=vocab_size,
            seq_len=seq_len,
            batch_size=batch_size,
            held_out_sequences=held_out,
            warm_up_steps=warm_up_steps,
            candidate_steps=candidate_steps,
            device=device,
            backend=backend,
        ),
        winner_steps=winner_steps,
    )
    from runtime.search import begin

    _carry_out(*begin(out, corpus=corpus, config=config))


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a search that was stopped or killed.")],
    corpus: Annotated[Path | None, typer.Option(help="Where its text is now; only if it was moved.")] = None,
) -> None:
    """Go on with a search; nothing that was committed is done again."""
    from runtime.search import reopen

    _carry_out(*reopen(run, corpus=corpus))


def _carry_out(run: Run, corpus: Corpus) -> None:
    try:
        from runtime.pipeline import run_search
        from runtime.progress import make_reporter
        from runtime.ranking import print_outcome

        console = make_console()
        learnt, held_out = len(corpus.train), len(corpus.held_out)
        say(console, f"corpus {corpus.name}: {learnt:,} paragraphs to learn from, {held_out:,} held out")
        with make_reporter(run.config, console) as reporter:
            outcome = run_search(run, corpus, reporter)
    except (KeyboardInterrupt, Stopped) as error:
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        stop.hint = f"go on with: opnas resume {run.folder}"
        raise stop from None
    print_outcome(outcome, console)
    if not outcome.ranked:
        raise SystemExit(1)


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
) -> None:
    """Write a folder that needs nothing of ours: modules, kernels, weights, graph, drawing, model card."""
    from runtime.export import export as write_folder

    written = write_folder(target, out, seed=seed, form=form, size=size, pt2=pt2)
    print(f"exported to {written}:")
    for path in sorted(written.iterdir()):
        print(f"  {path.name:32} {path.stat().st_size:>12,} bytes")


def _check_file(path: Path, option: str) -> None:
    """Refuse a name under which no file can be written, before anything is worked out for it."""
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of {option} does not exist: make it first")
    if path.is_dir():
        raise InputError(f"{path} of {option} is a folder: give the name of a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} of {option} cannot be written: choose another place")


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
        _check_file(out, "--json")
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


if __name__ == "__main__":
    main()
