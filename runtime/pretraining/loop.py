"""The steps of a pretraining, from wherever it is to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from runtime.masking import MaskedBatch
from runtime.pretraining.batches import Batches
from runtime.pretraining.checkpoint import Progress, write_checkpoint
from runtime.pretraining.reporter import PretrainingReporter, StepRecord
from runtime.pretraining.seeds import derived_seed
from runtime.pretraining.update import Update, UpdateResult
from runtime.training import TrainingDiverged, evaluate_mlm

_READ_EVERY = 10
"""Steps whose losses are read from a GPU together: reading waits for it, and so leaves it idle."""

_MOST_SKIPPED = 40
"""Steps in a row whose gradients do not fit float16, the scale halved each time: the next one will not fit either."""


class Loop:
    """Carries out the steps that are left.

    The random numbers of a step are drawn from a seed that is made from ``settings.seed``, the number of the step and
    that of the process. So nothing about them need be saved, and who goes on from a checkpoint draws the same.

    Args:
        update: model and optimizer, as ``progress`` left them.
        batches: what to learn from.
        held_out: what to be judged on; it may be empty.
        progress: how far that is; it is kept up to date.
        folder: where checkpoints are written.
        reporter: told of every step, in the main process.
    """

    def __init__(
        self,
        update: Update,
        batches: Batches,
        held_out: Sequence[MaskedBatch],
        progress: Progress,
        folder: Path,
        reporter: PretrainingReporter,
    ) -> None:
        self.update = update
        self.settings = update.settings
        self.accelerator = update.accelerator
        self.batches = batches
        self.held_out = [batch.to(self.accelerator.device) for batch in held_out]
        self.progress = progress
        self.folder = folder
        self.reporter = reporter
        self.read_every = 1 if self.accelerator.device.type == "cpu" else _READ_EVERY
        self.skipped = 0
        self.tokens_per_second = 0.0

    def run(self) -> None:
        """Learn until the last step is done, checkpoints and evaluations included.

        Raises:
            TrainingDiverged: where a loss or a gradient is not finite. No checkpoint holds what came of it.
            OSError: where a checkpoint cannot be written.
        """
        settings = self.settings
        with self._own_random_numbers():
            self.update.model.train()
            while self.progress.steps < settings.steps:
                first = self.progress.steps
                start = time.perf_counter()
                results = [self._step(step) for step in range(first, self._next_stop(first))]
                self._record(results, start)
                self._judge_and_save()

    def _next_stop(self, step: int) -> int:
        """How many steps are done when losses are read next."""
        stops = [step + self.read_every, self.settings.steps]
        for every in (self.settings.checkpoint_every, self.settings.evaluate_every):
            if every:
                stops.append((step // every + 1) * every)
        return min(stops)

    def _step(self, step: int) -> UpdateResult:
        torch.manual_seed(derived_seed("dropout", self.settings.seed, step, self.accelerator.process_index))
        return self.update.step(step, self.batches.of_step(step))

    def _record(self, results: list[UpdateResult], start: float) -> None:
        steps = self.settings.steps
        losses = torch.stack([torch.stack([result.loss, result.norm]) for result in results])
        values = self.accelerator.reduce(losses, "mean").tolist()
        seconds = time.perf_counter() - start
        tokens = self.settings.batch_size * self.settings.seq_len
        speed = tokens * len(results) / seconds
        self.tokens_per_second = (
            0.9 * self.tokens_per_second + 0.1 * speed if self.tokens_per_second else speed
        )
        for result, (loss, norm) in zip(results, values, strict=True):
            self.progress.losses.append(loss)
            self.skipped = self.skipped + 1 if result.skipped else 0
            step = self.progress.steps
            bad_norm = not math.isfinite(norm) and not result.skipped
            if not math.isfinite(loss) or bad_norm or self.skipped > _MOST_SKIPPED:
                raise TrainingDiverged(
                    f"pretraining diverged at step {step} of {steps}: the loss is {loss:.4g}, the norm of its "
                    f"gradient {norm:.4g}; try a lower learning rate or a longer warm-up"
                )
            left = (steps - step) * tokens / self.tokens_per_second
            rate = self.settings.learning_rate_at(step - 1)
            self.reporter.step(StepRecord(step, steps, loss, norm, rate, self.tokens_per_second, left))
        self.progress.tokens += tokens * len(results)
        self.progress.seconds += seconds

    def _judge_and_save(self) -> None:
        step, settings = self.progress.steps, self.settings
        last = step == settings.steps
        if self.held_out and (last or (settings.evaluate_every and step % settings.evaluate_every == 0)):
            with self.accelerator.autocast():
                metrics = evaluate_mlm(self.update.model, self.held_out)
            self.update.model.train()
            self.progress.evaluations.append({"steps": step, **metrics})
            self.reporter.evaluated(step, metrics)
        if (last or step % settings.checkpoint_every == 0) and self.accelerator.is_main_process:
            if self.accelerator.scaler is not None:
                self.progress.scaler = self.accelerator.scaler.state_dict()
            write_checkpoint(self.folder, self.update, self.progress)

    def _own_random_numbers(self) -> AbstractContextManager[None]:
        """Seeds set within do not disturb who called."""
        device = self.accelerator.device
        return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
