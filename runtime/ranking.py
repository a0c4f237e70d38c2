"""Printing what a search found: the ranked list, the winner and where everything is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from evolution import Candidate, Study
from runtime.calibration.table import read_verdict
from runtime.comparison import Rank
from runtime.console import printable, say
from runtime.front_table import print_front
from runtime.pipeline import Outcome
from runtime.report.data import CALIBRATION
from runtime.report.writing import REPORT
from runtime.run import Run

_SHOWN = 10


def print_ranking(best: Sequence[Candidate], scored: int, console: Console) -> None:
    """The best of ``scored`` candidates, best first, each with its layers below it. The score is the negative loss."""
    say(console, f"the best {len(best)} of {scored} candidates", "bold")
    say(console, f"{'rank':>4} {'candidate':>9} {'score':>9} {'accuracy':>9} {'parameters':>11}  made by")
    for rank, candidate in enumerate(best, 1):
        origin = "random" if candidate.parent is None else f"{candidate.parent}: {candidate.mutation}"
        line = (
            f"{rank:>4} {candidate.index:>9} {candidate.score:>9.4f} "
            f"{candidate.metrics.get('accuracy', math.nan):>9.4f} "
            f"{candidate.metrics.get('parameters', 0):>11,.0f}  {origin}"
        )
        say(console, line, cut=True)
        for layer in candidate.backbone.equation().splitlines():
            say(console, f"{'':14} {layer}", "dim", cut=True)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """What a finished search found, and where it is."""
    run = outcome.run
    if not outcome.ranked:
        failed = f"none of {outcome.failures} candidates succeeded"
        say(console, f"{failed}; their reasons: opnas inspect {run.folder}")
        return
    print_ranking(outcome.ranked[:_SHOWN], len(outcome.ranked), console)
    print_front(outcome.ranked, run.config, console)
    if outcome.failures:
        say(console, f"{outcome.failures} candidates failed; their reasons are in {run.log_path}")
    winner = outcome.ranked[0]
    say(console, f"\nwinner: candidate {winner.index}", "bold")
    say(console, winner.backbone.equation())
    metrics = outcome.winner_metrics
    say(
        console,
        f"held-out loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.4f} "
        f"(always the commonest token: {outcome.baseline:.4f}) "
        f"after training for {run.config.winner_steps} steps",
    )
    if outcome.comparison:
        print_comparison(outcome.comparison, run.config.comparison_steps, console)
    say_verdict(run, console)
    for what, path in (
        ("drawing", run.best_path / "backbone.svg"),
        ("model", run.best_path),
        ("study", run.study_path),
        ("report", run.folder / REPORT),
    ):
        say(console, f"  {what:8} {path}")


def print_comparison(ranks: Sequence[Rank], steps: int, console: Console) -> None:
    """Winner and rivals, best first, after equal training from fresh weights."""
    say(console, f"\nafter {steps} steps from fresh weights", "bold")
    probes = [n for n in dict.fromkeys(n for rank in ranks for n in rank.metrics) if n.endswith("_accuracy")]
    heads = ["score", "loss", "accuracy", *(name.removesuffix("_accuracy") for name in probes)]
    say(console, f"{'':14}" + "".join(f" {head:>12}" for head in heads))
    for rank in ranks:
        values = [rank.score, *(rank.metrics.get(name) for name in ("loss", "accuracy", *probes))]
        cells = "".join(f" {'diverged' if value is None else f'{value:.4f}':>12}" for value in values)
        say(console, f"{rank.name:14}{cells}")


def say_verdict(run: Run, console: Console) -> None:
    """How well the run's proxy ranks, where `opnas calibrate RUN` has found out; a warning where it hardly does."""
    found = read_verdict(run.folder / CALIBRATION)
    if found is not None:
        say(console, found)


def print_run(run: Run, console: Console) -> None:
    """What the study of a run holds so far."""
    with run.open_study(readonly=True) as study:
        print_study(study, f"{run.folder}: {len(study)} of {run.config.candidates} candidates", console)
    say_verdict(run, console)


def print_study(study: Study, title: str, console: Console) -> None:
    """The best candidates of a study and the first failures. No others are read, however many there are."""
    best, failures = study.best(_SHOWN), study.failures(_SHOWN)
    say(console, title)
    if best:
        print_ranking(best, study.scored(), console)
        say(console, best[0].backbone.summary())
    for candidate in failures:
        say(console, f"candidate {candidate.index} failed: {printable(str(candidate.reason))}")


def print_candidate(candidate: Candidate, console: Console) -> None:
    """All that a study knows of a candidate, and its layers."""
    made = "random" if candidate.parent is None else f"made from {candidate.parent}: {candidate.mutation}"
    mate = None if candidate.mutation is None else candidate.mutation.mate
    if mate is not None:
        made += f" (second parent: {mate})"
    say(console, f"candidate {candidate.index}, {printable(made)}", "bold")
    if candidate.score is None:
        say(console, f"failed: {printable(str(candidate.reason))}")
    else:
        say(console, f"score {candidate.score:.5f}")
    for name, value in sorted(candidate.metrics.items()):
        say(console, f"  {printable(name)}: {value:.6g}")
    say(console, f"evaluated in {candidate.seconds:.1f} s, seed {candidate.seed}")
    say(console, candidate.backbone.summary())
