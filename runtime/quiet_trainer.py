"""The Trainer of transformers, set so that it writes no file, prints nothing and reports to nobody."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from graphir import InputError
from runtime.finetuning_config import FineTuning
from runtime.tasks.features import Features
from runtime.training import TrainingDiverged

_SHOWN_PER_TRAINING = 0.1
"""A line of progress for this part of the steps."""


class ProgressLines(TrainerCallback):
    """Tells the loss and the speed now and then, and stops a training whose loss is no number.

    Args:
        seed: named in the lines.
        tell: what is called with a line.
    """

    def __init__(self, seed: int, tell: Callable[[str], None]) -> None:
        self.seed = seed
        self.tell = tell
        self.started = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.started = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **others: Any
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        step, loss = state.global_step, float(logs["loss"])
        check_loss(loss, self.seed, args.learning_rate)
        speed = step / (time.perf_counter() - self.started)
        left = (state.max_steps - step) / speed
        self.tell(
            f"seed {self.seed}: step {step:,} of {state.max_steps:,}, loss {loss:.4f}, "
            f"{speed:.1f} steps a second, {left:.0f} s left"
        )


def check_loss(loss: float, seed: int, learning_rate: float) -> None:
    """Refuse a loss that is no number.

    Raises:
        TrainingDiverged: naming seed and learning rate.
    """
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"training with seed {seed} diverged: its loss is {loss}; "
            f"a learning rate below {learning_rate:g} may help"
        )


def make_trainer(
    model: Any,
    tokenizer: Any,
    features: Features,
    settings: FineTuning,
    seed: int,
    folder: str,
    tell: Callable[[str], None],
) -> Trainer:
    """A trainer for ``model``: AdamW, linear warm-up and decay; batches are padded to their longest sequence.

    Args:
        model: of transformers, with the labels that ``features`` have among the arguments of its forward.
        tokenizer: knows how to pad.
        features: what is learnt from.
        settings: see `FineTuning`.
        seed: of dropout and the order of the data.
        folder: a temporary one; the library asks for it.
        tell: takes lines of progress.
    """
    arguments = TrainingArguments(
        folder,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        warmup_steps=settings.warm_up,
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        optim="adamw_torch",
        seed=seed,
        use_cpu=not uses_gpu(settings),
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        logging_steps=_SHOWN_PER_TRAINING,
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=uses_gpu(settings),
    )
    trainer = Trainer(
        model,
        arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=features,
        callbacks=[ProgressLines(seed, tell)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def uses_gpu(settings: FineTuning) -> bool:
    """Whether a GPU is asked for, or is there where nothing is said.

    Raises:
        InputError: where the device or the precision is not to be had here.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: there is no GPU that PyTorch can use here; cpu or auto is possible")
    gpu = settings.device != "cpu" and torch.accelerator.is_available()
    if settings.precision == "float16" and not gpu:
        raise InputError("precision float16 needs a GPU; bfloat16 or float32 is possible here")
    return gpu


def predict(trainer: Trainer, features: Features) -> tuple[NDArray[np.float32], ...]:
    """The outputs of a trainer's model for features, in their order.

    Sequences of similar length are computed together, the longest first.
    """
    order = np.argsort(-features.lengths, kind="stable")
    found = trainer.predict(features.unlabelled(order.tolist())).predictions
    outputs = found if isinstance(found, tuple) else (found,)
    back = np.argsort(order)
    return tuple(np.asarray(output, np.float32)[back] for output in outputs)
