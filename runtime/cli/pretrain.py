"""`opnas pretrain`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from runtime.cli.app import app
from runtime.console import make_console
from runtime.pretraining.settings import Decay, Device, MaskingKind, Precision, Pretraining
from runtime.stopping import Stopped

_DEFAULT = Pretraining()


@app.command()
def pretrain(
    target: Annotated[
        str,
        typer.Argument(
            help="A backbone (a preset, a file, the folder of a search), for new weights; or a folder with a model to "
            "go on from."
        ),
    ],
    text: Annotated[
        list[str],
        typer.Option(
            help="UTF-8 file or folder of .txt files, also several; or a data set, hf:NAME?name=...&split=..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    size: Annotated[
        Literal["small", "base", "large"] | None,
        typer.Option(help="Another size of a backbone: hidden size 256, 768 or 1024."),
    ] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="Text to judge the model on; may be given several times.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json or a folder with it; by default trained on the text.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Folder that keeps tokens of texts, for several pretrainings.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")] = False,
    steps: Annotated[int, typer.Option(help="Updates of the weights.")] = _DEFAULT.steps,
    seq_len: Annotated[int, typer.Option(help="Tokens of a sequence.")] = _DEFAULT.seq_len,
    batch_size: Annotated[
        int, typer.Option(help="Sequences of a step, over all parts and processes.")
    ] = _DEFAULT.batch_size,
    accumulate: Annotated[
        int, typer.Option(help="Compute a step in so many parts, to need less memory.")
    ] = _DEFAULT.accumulate,
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = _DEFAULT.learning_rate,
    warm_up: Annotated[
        float, typer.Option(help="Part of the steps in which the learning rate rises.")
    ] = _DEFAULT.warm_up,
    decay: Annotated[Decay, typer.Option(help="How it falls afterwards.")] = _DEFAULT.decay,
    weight_decay: Annotated[float, typer.Option(help="Of matrices.")] = _DEFAULT.weight_decay,
    beta2: Annotated[float, typer.Option(help="Decay of Adam's second moment.")] = _DEFAULT.beta2,
    clip: Annotated[float, typer.Option(help="Largest norm of a gradient.")] = _DEFAULT.clip,
    masking: Annotated[
        MaskingKind, typer.Option(help="Hide tokens one by one, or whole words.")
    ] = _DEFAULT.masking,
    vocab_size: Annotated[
        int, typer.Option(help="Most tokens of a tokenizer that is trained.")
    ] = _DEFAULT.vocab_size,
    max_positions: Annotated[
        int | None, typer.Option(help="Longest sequence of a new model; by default that of training.")
    ] = _DEFAULT.max_positions,
    dropout: Annotated[float, typer.Option(help="Probability of dropout.")] = _DEFAULT.dropout,
    precision: Annotated[
        Precision, typer.Option(help="Of products; float16 needs a GPU.")
    ] = _DEFAULT.precision,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = _DEFAULT.gradient_checkpointing,
    seed: Annotated[
        int, typer.Option(help="Of new weights, order, hidden tokens and dropout.")
    ] = _DEFAULT.seed,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints.")
    ] = _DEFAULT.checkpoint_every,
    evaluate_every: Annotated[
        int, typer.Option(help="Steps between evaluations; 0 for one at the end.")
    ] = _DEFAULT.evaluate_every,
    held_out_sequences: Annotated[
        int, typer.Option(help="Most sequences that are judged on.")
    ] = _DEFAULT.held_out_sequences,
    device: Annotated[Device, typer.Option(help="auto is a GPU where there is one.")] = _DEFAULT.device,
) -> None:
    """Pretrain a masked language model; several GPUs by 'accelerate launch -m opnas pretrain ...'."""
    settings = Pretraining(
        steps=steps,
        seq_len=seq_len,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        warm_up=warm_up,
        decay=decay,
        weight_decay=weight_decay,
        beta2=beta2,
        clip=clip,
        masking=masking,
        vocab_size=vocab_size,
        max_positions=max_positions,
        dropout=dropout,
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        seed=seed,
        checkpoint_every=checkpoint_every,
        evaluate_every=evaluate_every,
        held_out_sequences=held_out_sequences,
        device=device,
    )
    from runtime.pretraining.display import make_display
    from runtime.pretraining.pretrain import pretrain as carry_out

    try:
        with make_display(make_console()) as display:
            carry_out(
                target,
                text,
                out,
                settings,
                size=size,
                held_out=held_out,
                tokenizer=tokenizer,
                tokens=tokens,
                resume=resume,
                reporter=display,
            )
    except (KeyboardInterrupt, Stopped) as error:
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        stop.hint = "go on with the same command and --resume" if out.exists() else ""
        raise stop from None
