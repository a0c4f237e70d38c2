"""Showing a pretraining while it runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from runtime.console import is_screen, say
from runtime.pretraining.reporter import StepRecord

_SECONDS_BETWEEN_LINES = 10.0


class PlainDisplay:
    """A line for each note and evaluation, and one in ten seconds for steps; for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.next_line = 0.0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def note(self, text: str) -> None:
        """Print it."""
        say(self.console, text)

    def step(self, record: StepRecord) -> None:
        """Print it, unless the last line is not long ago."""
        if time.monotonic() >= self.next_line or record.step == record.steps:
            self.next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            say(self.console, f"  step {record.step}/{record.steps}, {describe(record)}")

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print it."""
        say(self.console, f"  {describe_evaluation(step, metrics)}")


class LiveDisplay:
    """A bar with what the last step gave, redrawn in place; notes and evaluations stay above it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            BarColumn(24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
            TextColumn("{task.description}", markup=False),
            console=console,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> LiveDisplay:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        """Print it above the bar."""
        say(self.console, text)

    def step(self, record: StepRecord) -> None:
        """Move the bar."""
        if self.task is None:
            self.task = self.bar.add_task("", total=record.steps)
        self.bar.update(self.task, completed=record.step, description=describe(record))

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print it above the bar."""
        say(self.console, describe_evaluation(step, metrics))


def make_display(console: Console) -> LiveDisplay | PlainDisplay:
    """The bar on a terminal, plain lines elsewhere."""
    return LiveDisplay(console) if is_screen(console) else PlainDisplay(console)


def describe(record: StepRecord) -> str:
    """What a step gave, for people.

    Example:
        >>> describe(StepRecord(5, 9, 2.5, 1.0, 1e-3, 12345.6, 3671.0))
        'loss 2.500, 12,346 tokens/s, 1:01:11 left'
    """
    minutes, seconds = divmod(round(record.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"loss {record.loss:.3f}, {record.tokens_per_second:,.0f} tokens/s, {hours}:{minutes:02}:{seconds:02} left"


def describe_evaluation(step: int, metrics: Mapping[str, float]) -> str:
    """What the model was worth after so many steps, for people."""
    return f"after step {step}: held-out loss {metrics['loss']:.4f}, accuracy {metrics['accuracy']:.4f}"
