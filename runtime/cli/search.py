"""`opnas search` and `opnas resume`."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evolution import STRATEGIES, OperationPriorityEvolution, RegularizedEvolution
from graphir import InputError
from graphir.checks import excerpt
from graphir.devices import DEVICES
from runtime.cli.app import app
from runtime.console import make_console, say
from runtime.proxy_config import TASKS
from runtime.run_config import DEFAULT_LIMIT_SECONDS, EXECUTORS, RunConfig
from runtime.stopping import Stopped

if TYPE_CHECKING:
    from runtime.corpus import Corpus
    from runtime.run import Run

_DEFAULT = RunConfig()
_OPNAS = OperationPriorityEvolution()


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
    strategy: Annotated[str, typer.Option(help=f"{', '.join(STRATEGIES)}.")] = _DEFAULT.strategy,
    population: Annotated[
        int | None, typer.Option(help=f"Random candidates at the start; by default {_OPNAS.population}.")
    ] = None,
    parents: Annotated[
        int | None, typer.Option(help=f"Parents of a generation; by default {_OPNAS.parents}.")
    ] = None,
    children: Annotated[
        int | None, typer.Option(help=f"Children of a parent; by default {_OPNAS.children}.")
    ] = None,
    crossover: Annotated[
        float | None, typer.Option(help="Share of children between two parents; by default the strategy's.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help=f"Weight of exploration (opnas); by default {_OPNAS.alpha}.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help=f"Of the softmax over priorities (opnas); by default {_OPNAS.temperature}."),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            help="What priorities are taken of (opnas): standardised, raw or ranked scores; "
            f"by default {_OPNAS.scores}."
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help=f"Priorities apart by position or neighbour (opnas); by default {_OPNAS.context}."),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(help=f"Weight of a candidate against the next one (opnas); by default {_OPNAS.decay}."),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help="Of nsga2, with - in front of what is minimised: score,-parameters,-operations,-roofline_ms"
        ),
    ] = None,
    latency_device: Annotated[
        str | None,
        typer.Option(help=f"Record the roofline latency on it as roofline_ms: {', '.join(DEVICES).lower()}."),
    ] = None,
    latency_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a sequence of that pass; by default --seq-len.")
    ] = None,
    measure_latency: Annotated[
        bool,
        typer.Option(
            "--measure-latency",
            help="Record the latency measured here as latency_ms; takes time, differs from run to run.",
        ),
    ] = False,
    extended: Annotated[bool, typer.Option(help="Draw from the extended set of operations.")] = False,
    plain_probability: Annotated[
        float, typer.Option(help="Share of new attention layers that are plain attention, not random.")
    ] = _DEFAULT.space.plain_probability,
    layers: Annotated[int, typer.Option(help="Layers of a backbone.")] = _DEFAULT.space.layers,
    hidden_size: Annotated[int, typer.Option(help="Width of a token.")] = _DEFAULT.space.hidden_size,
    heads: Annotated[int, typer.Option(help="Heads of a layer.")] = _DEFAULT.space.heads,
    ffn_size: Annotated[
        int, typer.Option(help="Inner width of feed-forward blocks.")
    ] = _DEFAULT.space.ffn_size,
    proxy: Annotated[
        str, typer.Option(help=f"What candidates are judged by: {', '.join(TASKS)}.")
    ] = _DEFAULT.proxy.task,
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
    probe_steps: Annotated[
        int, typer.Option(help="Steps of a candidate on a probe.")
    ] = _DEFAULT.proxy.probe_steps,
    winner_steps: Annotated[
        int, typer.Option(help="Steps of the winner before it is saved.")
    ] = _DEFAULT.winner_steps,
    rungs: Annotated[
        str, typer.Option(help="Steps after which only the best go on, such as 10,20; by default none.")
    ] = "",
    eta: Annotated[int, typer.Option(help="One in so many goes on from a rung.")] = _DEFAULT.eta,
    comparison_steps: Annotated[
        int, typer.Option(help="Steps of the winner and its rivals in the closing comparison; 0 for none.")
    ] = _DEFAULT.comparison_steps,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:<number>; auto is a GPU where there is one.")
    ] = _DEFAULT.proxy.device,
    backend: Annotated[
        Literal["auto", "torch", "triton"], typer.Option(help="Fused kernels on a GPU, or PyTorch's form.")
    ] = _DEFAULT.proxy.backend,
    executor: Annotated[
        Literal["local", "processes", "ray"],
        typer.Option(help="Who evaluates: this process, processes of their own, or a Ray cluster."),
    ] = _DEFAULT.executor,  # type: ignore[assignment]
    workers: Annotated[
        int | None, typer.Option(help="Candidates at a time; by default one a core, or one a GPU.")
    ] = None,
    limit_seconds: Annotated[
        float | None,
        typer.Option(help=f"Most time of a candidate; by default {DEFAULT_LIMIT_SECONDS:g}."),
    ] = None,
    limit_memory: Annotated[
        float | None,
        typer.Option(help="Most GB of the process of a candidate; by default a share of the machine's."),
    ] = None,
    asynchronous: Annotated[
        bool, typer.Option(help="No worker waits for another: quicker, but the study cannot be reproduced.")
    ] = False,
) -> None:
    """Evolve a backbone on real text; ends with a ranked list, a drawing and a trained winner."""
    from graphir import EXTENDED_OPERATIONS

    given: dict[str, Any] = {
        "population": population,
        "parents": parents,
        "children": children,
        "crossover": crossover,
        "alpha": alpha,
        "temperature": temperature,
        "scores": scores,
        "context": context,
        "decay": decay,
        "objectives": None if objectives is None else [name.strip() for name in objectives.split(",")],
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if strategy == RegularizedEvolution.name and population is not None:
        settings["tournament"] = min(RegularizedEvolution.tournament, population)
    space = replace(
        _DEFAULT.space,
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        ffn_size=ffn_size,
        plain_probability=plain_probability,
    )
    config = RunConfig(
        candidates=candidates,
        minutes=minutes,
        seed=seed,
        strategy=strategy,
        strategy_settings=settings,
        space=replace(space, operations=EXTENDED_OPERATIONS) if extended else space,
        proxy=replace(
            _DEFAULT.proxy,
            task=proxy,
            probe_steps=probe_steps,
            vocab_size=vocab_size,
            seq_len=seq_len,
            batch_size=batch_size,
            held_out_sequences=held_out,
            warm_up_steps=warm_up_steps,
            candidate_steps=candidate_steps,
            device=device,
            backend=backend,
            latency_device=latency_device,
            latency_tokens=latency_tokens,
            measure_latency=measure_latency,
        ),
        winner_steps=winner_steps,
        comparison_steps=comparison_steps,
        rungs=_rungs(rungs),
        eta=eta,
        executor=executor,
        workers=workers,
        limit_seconds=limit_seconds,
        limit_memory=limit_memory,
        asynchronous=asynchronous,
    )
    from runtime.search import begin

    _carry_out(*begin(out, corpus=corpus, config=config))


def _rungs(text: str) -> tuple[int, ...]:
    """Numbers of steps, separated by commas."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise InputError(f"--rungs must be numbers of steps such as 10,20, not {excerpt(text)}") from None


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a search that was stopped or killed.")],
    corpus: Annotated[Path | None, typer.Option(help="Where its text is now; only if it was moved.")] = None,
    executor: Annotated[
        str | None, typer.Option(help=f"Another one this time: {', '.join(EXECUTORS)}.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Candidates at a time, this time.")] = None,
) -> None:
    """Go on with a search; nothing that was committed is done again."""
    from runtime.search import reopen

    _carry_out(*reopen(run, corpus=corpus, executor=executor, workers=workers))


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
