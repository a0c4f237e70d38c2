"""`opnas finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from graphir import InputError
from graphir.checks import excerpt
from runtime.cli.app import app
from runtime.console import make_console, say
from runtime.finetuning_config import FineTuning

_DEFAULT = FineTuning()


@app.command()
def finetune(
    folder: Annotated[
        Path, typer.Argument(help="An exported model; its own code is run, so know where it comes from.")
    ],
    task: Annotated[
        str,
        typer.Option(help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, squad (1.1) or squad2 (2.0)."),
    ],
    data: Annotated[Path, typer.Option(help="Folder with the files of the task, as the benchmark has them.")],
    out: Annotated[Path, typer.Option(help="Folder to make: model, results.json, predictions.")],
    seeds: Annotated[str, typer.Option(help="One training each, such as 0,1,2.")] = "0",
    epochs: Annotated[
        float, typer.Option(help="How often the training data is gone through.")
    ] = _DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step.")] = _DEFAULT.batch_size,
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = _DEFAULT.learning_rate,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens of a sequence; by default 128 (GLUE) or 384 (SQuAD).")
    ] = _DEFAULT.max_length,
    warm_up: Annotated[
        float, typer.Option(help="Part of the steps in which the learning rate rises.")
    ] = _DEFAULT.warm_up,
    weight_decay: Annotated[float, typer.Option(help="Of matrices.")] = _DEFAULT.weight_decay,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="In which a step computes.")
    ] = _DEFAULT.precision,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto is a GPU where there is one.")
    ] = _DEFAULT.device,
    keep: Annotated[
        Literal["best", "median"], typer.Option(help="Which seed's model is saved.")
    ] = _DEFAULT.keep,
    stride: Annotated[
        int | None, typer.Option(help="Tokens that parts of a paragraph share (SQuAD); by default 128.")
    ] = _DEFAULT.stride,
    n_best: Annotated[
        int, typer.Option(help="Answers to write for each question (SQuAD).")
    ] = _DEFAULT.n_best,
    max_answer_length: Annotated[
        int, typer.Option(help="Most tokens of an answer (SQuAD).")
    ] = _DEFAULT.max_answer_length,
    null_threshold: Annotated[
        float, typer.Option(help="No answer where that scores so much above the best one (SQuAD 2.0).")
    ] = _DEFAULT.null_threshold,
) -> None:
    """Train an exported model on a task of GLUE or SQuAD; mean and deviation over several seeds."""
    settings = FineTuning(
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        max_length=max_length,
        seeds=_whole_numbers(seeds),
        warm_up=warm_up,
        weight_decay=weight_decay,
        precision=precision,
        device=device,
        keep=keep,
        stride=stride,
        n_best=n_best,
        max_answer_length=max_answer_length,
        null_threshold=null_threshold,
    )
    from runtime.finetuning import finetune as train

    console = make_console()
    report = train(folder, task, data, settings, out, progress=lambda line: say(console, line, cut=True))
    say(console, f"\n{report.table()}\n")
    say(console, f"the model of seed {report.kept_seed} and its predictions are in {out}")


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--seeds must be whole numbers such as 0,1,2, not {excerpt(text)}") from None
