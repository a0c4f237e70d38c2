"""Printing what a search found: the ranked list, the winner and where everything is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from evolution import Candidate
from runtime.pipeline import Outcome
from runtime.run import Run

_SHOWN = 10


def print_ranking(ranked: Sequence[Candidate], console: Console) -> None:
    """The best candidates, best first, each with its layers below it."""
    shown = min(_SHOWN, len(ranked))
    console.print(f"[bold]the best {shown} of {len(ranked)} candidates[/]", highlight=False)
    console.print(f"{'rank':>4} {'candidate':>9} {'accuracy':>9} {'loss':>7} {'parameters':>11}  made by")
    for rank, candidate in enumerate(ranked[:shown], 1):
        origin = "random" if candidate.parent is None else f"{candidate.parent}: {candidate.mutation}"
        line = (
            f"{rank:>4} {candidate.index:>9} {candidate.score:>9.4f} "
            f"{candidate.metrics.get('loss', math.nan):>7.3f} "
            f"{candidate.metrics.get('parameters', 0):>11,.0f}  {origin}"
        )
        console.print(line, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")
        for layer in candidate.backbone.equation().splitlines():
            console.print(
                f"{'':14} {layer}",
                style="dim",
                markup=False,
                highlight=False,
                no_wrap=True,
                overflow="ellipsis",
            )


def print_outcome(outcome: Outcome, run: Run, console: Console) -> None:
    """What a finished search found, and where it is."""
    if not outcome.ranked:
        console.print(
            f"none of {outcome.failures} candidates succeeded; their reasons: opnas inspect {run.folder}",
            highlight=False,
        )
        return
    print_ranking(outcome.ranked, console)
    if outcome.failures:
        console.print(f"{outcome.failures} candidates failed; their reasons are in {run.log_path}")
    winner = outcome.ranked[0]
    console.print(f"\n[bold]winner: candidate {winner.index}[/]", highlight=False)
    console.print(winner.backbone.equation(), markup=False, highlight=False, soft_wrap=True)
    metrics = outcome.winner_metrics
    console.print(
        f"held-out accuracy {metrics['accuracy']:.4f}, loss {metrics['loss']:.3f} after training for "
        f"{run.config.winner_steps} steps (always the commonest token: {outcome.baseline:.4f})",
        highlight=False,
    )
    for what, path in (
        ("drawing", run.best_path / "backbone.svg"),
        ("model", run.best_path),
        ("study", run.study_path),
    ):
        console.print(f"  {what:8} {path}", highlight=False, soft_wrap=True)


def print_run(run: Run, console: Console) -> None:
    """What the study of a run holds so far."""
    with run.open_study(readonly=True) as study:
        ranked, failures = study.ranked(), study.failures()
    console.print(f"{run.folder}: {len(ranked) + len(failures)} of {run.config.candidates} candidates")
    if ranked:
        print_ranking(ranked, console)
        console.print(ranked[0].backbone.summary(), markup=False, highlight=False, soft_wrap=True)
    for candidate in failures[:_SHOWN]:
        console.print(f"candidate {candidate.index} failed: {candidate.reason}", markup=False)
