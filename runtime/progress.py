"""Showing a search while it runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evolution import Candidate
from evolution.candidate import ranking
from evolution.strategy import OperationPriorityEvolution
from graphir import Backbone, ConvLayer
from runtime.console import is_screen, overflow_of, printable, say
from runtime.run_config import RunConfig

STAGES = {
    "tokenizer": "reading the corpus and training a tokenizer on it",
    "supernet": "warming up the supernet",
    "search": "searching",
    "winner": "training the winner",
    "comparison": "comparing the winner with a stack of convolutions and BERT",
}
"""What each stage of `runtime.pipeline` is called for people."""

_SHOWN_CANDIDATES = 5
_SHOWN_PRIORITIES = 10
_BAR_WIDTH = 24


class Count:
    """What is shown of a history that grows. Each candidate is looked at once.

    Attributes:
        candidates: how many there are.
        failed: how many of them failed.
        seconds: that their evaluations took together.
        best: the few best, best first.
    """

    def __init__(self) -> None:
        self.candidates, self.failed, self.seconds = 0, 0, 0.0
        self.best: list[Candidate] = []

    def update(self, history: Sequence[Candidate]) -> None:
        """Look at the candidates that are new."""
        for index in range(self.candidates, len(history)):
            candidate = history[index]
            self.failed += not candidate.ok
            self.seconds += candidate.seconds
            if candidate.ok:
                self.best = sorted([*self.best, candidate], key=ranking)[:_SHOWN_CANDIDATES]
        self.candidates = len(history)

    @property
    def winner(self) -> Candidate | None:
        """The candidate with the best score, if there is one."""
        return self.best[0] if self.best else None


class PlainReporter:
    """A line for each stage and candidate, for logs and pipes."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self.clock = Clock(config)
        self.count = Count()

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def stage(self, title: str) -> None:
        """Print the stage."""
        self.clock.stage(title)
        say(self.console, f"{STAGES[title]} ...")

    def step(self, step: int, steps: int, loss: float) -> None:
        """Print every hundredth step."""
        if step % 100 == 0 or step == steps:
            say(self.console, f"  step {step}/{steps}, loss {loss:.3f}")

    def candidate(self, history: Sequence[Candidate]) -> None:
        """Print the newest candidate, the best so far and the time left."""
        newest = history[-1]
        self.count.update(history)
        outcome = f"score {show_score(newest)}" if newest.ok else f"failed ({printable(str(newest.reason))})"
        say(
            self.console,
            f"  {len(history)}/{self.config.candidates}  {outcome}  best {show_score(self.count.winner)}  "
            f"{describe(newest.backbone)}  {self.clock.left(self.count)} left",
        )

    def in_flight(self, count: int) -> None:
        """Remember it for the time left."""
        self.clock.in_flight(count)


class LiveReporter:
    """Candidates done, best score, operation priorities and time left, redrawn in place."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self.config = config
        self.clock = Clock(config)
        self.overflow = overflow_of(console)
        self.title = ""
        self.done, self.total, self.note = 0, 0, ""
        self.flying = 0
        self.count = Count()
        self.priorities: RenderableType = ""
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> LiveReporter:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def stage(self, title: str) -> None:
        """Show the stage."""
        self.clock.stage(title)
        self.title, self.done, self.total, self.note = title, 0, 0, ""

    def step(self, step: int, steps: int, loss: float) -> None:
        """Show training steps."""
        self.done, self.total, self.note = step, steps, f"loss {loss:.3f}"

    def candidate(self, history: Sequence[Candidate]) -> None:
        """Show the candidates so far."""
        self.count.update(history)
        self.done, self.total = len(history), self.config.candidates
        failed = self.count.failed
        self.note = f"best {show_score(self.count.winner)}" + (f", {failed} failed" if failed else "")
        self.priorities = self._priorities(history)

    def in_flight(self, count: int) -> None:
        """Show how many candidates are being evaluated."""
        self.clock.in_flight(count)
        self.flying = count

    def render(self) -> RenderableType:
        """The display as it stands."""
        line = Table.grid(padding=(0, 2))
        cells: list[RenderableType] = [Text(STAGES.get(self.title, "starting"), style="bold")]
        if self.total:
            cells += [
                ProgressBar(self.total, self.done, width=_BAR_WIDTH),
                Text(f"{self.done}/{self.total}"),
                Text(self.note),
            ]
        if self.title == "search":
            if self.flying:
                cells.append(Text(f"{self.flying} in flight"))
            cells.append(Text(f"{self.clock.left(self.count)} left"))
        else:
            cells.append(Text(f"{self.clock.in_stage():.0f} s"))
        line.add_row(*cells)
        if not self.count.candidates:
            return line
        return Group(line, "", self._candidates(), "", self.priorities)

    def _candidates(self) -> Table:
        table = Table(title="best so far", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("candidate", "score", "accuracy", "layers"):
            table.add_column(heading, no_wrap=heading != "layers", overflow=self.overflow)
        for candidate in tuple(self.count.best):
            accuracy = candidate.metrics.get("accuracy", math.nan)
            cells = (
                str(candidate.index),
                show_score(candidate),
                f"{accuracy:.4f}",
                describe(candidate.backbone),
            )
            table.add_row(*map(Text, cells))
        return table

    def _priorities(self, history: Sequence[Candidate]) -> Table:
        table = Table(title="operation priorities", title_justify="left", box=None, padding=(0, 2, 0, 0))
        strategy = self.config.make_strategy()
        if not isinstance(strategy, OperationPriorityEvolution):
            table.add_row(Text(f"operations are drawn uniformly by the strategy {strategy.name!r}"))
            return table
        drawn = strategy.priority(history, self.config.space).probabilities()
        top = max(drawn.values())
        for name, probability in sorted(drawn.items(), key=lambda item: -item[1])[:_SHOWN_PRIORITIES]:
            bar = ProgressBar(top, probability, width=_BAR_WIDTH)
            table.add_row(Text(name), bar, Text(f"{probability:6.1%}"))
        return table


class Clock:
    """Estimates the time that a search has left."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.started = time.monotonic()
        self.workers = 1

    def in_flight(self, count: int) -> None:
        """So many candidates are evaluated at a time, for all that is known."""
        self.workers = max(self.workers, count)

    def stage(self, title: str) -> None:
        """A new stage begins now."""
        self.started = time.monotonic()

    def in_stage(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self.started

    def left(self, count: Count) -> str:
        """Time left for candidates, as minutes and seconds: what their number or the limit asks, if less."""
        estimates = []
        if count.candidates:
            mean = count.seconds / count.candidates
            estimates.append(mean * (self.config.candidates - count.candidates) / self.workers)
        if self.config.minutes is not None:
            estimates.append(60 * self.config.minutes - self.in_stage())
        if not estimates:
            return "?"
        minutes, seconds = divmod(max(0, round(min(estimates))), 60)
        return f"{minutes}:{seconds:02}"


def make_reporter(config: RunConfig, console: Console) -> LiveReporter | PlainReporter:
    """The live display on a terminal, plain lines elsewhere."""
    return LiveReporter(config, console) if is_screen(console) else PlainReporter(config, console)


def show_score(candidate: Candidate | None) -> str:
    """The score of a candidate for people; a dash where there is none."""
    return "-" if candidate is None or candidate.score is None else f"{candidate.score:.4f}"


def describe(backbone: Backbone) -> str:
    """The layers on one line: kernel sizes of convolutions, formulas of attentions."""
    return " | ".join(
        f"conv {layer.kernel_size}" if isinstance(layer, ConvLayer) else layer.graph.equation()
        for layer in backbone.layers
    )
