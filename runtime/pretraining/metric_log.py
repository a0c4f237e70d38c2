"""The log of a pretraining for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtime.pretraining.reporter import PretrainingReporter, StepRecord

_EVERY = 10
"""Steps from one entry to the next: a curve needs no more points, and each takes time."""


class MetricLog:
    """Writes what it is told into event files, and tells it to another reporter.

    Args:
        folder: where the files are.
        first_step: of this process; what an interrupted one wrote of later steps is not shown.
        reporter: told of everything as well.
    """

    def __init__(self, folder: Path, first_step: int, reporter: PretrainingReporter) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first_step)
        self.reporter = reporter

    def note(self, text: str) -> None:
        """Only told."""
        self.reporter.note(text)

    def step(self, record: StepRecord) -> None:
        """Loss, norm of the gradient, learning rate and speed."""
        self.reporter.step(record)
        if record.step % _EVERY and record.step not in (1, record.steps):
            return
        for name in ("loss", "norm", "learning_rate", "tokens_per_second"):
            self.writer.add_scalar(f"train/{name}", getattr(record, name), record.step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Loss and accuracy on held-out text."""
        self.reporter.evaluated(step, metrics)
        for name, value in metrics.items():
            self.writer.add_scalar(f"held-out/{name}", value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        self.writer.close()
