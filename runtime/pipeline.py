"""The main job from text to a trained winner, each stage skipped where an earlier run finished it."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from evolution import Candidate, SearchResult, Study, search
from evolution.candidate import ranking
from graphir.files import write_json
from runtime.comparison import Rank, compare, finished_comparison
from runtime.console import printable
from runtime.corpus import Corpus
from runtime.executors.choice import make_executor
from runtime.masking import training_batches
from runtime.mixed_proxy import make_evaluator
from runtime.model_folder import TrainedModel, save_model
from runtime.proxy import MaskedLanguageModelEvaluator, ProxyData, prepare
from runtime.report import report
from runtime.run import Run, RunError, new_folder
from runtime.sessions import record_session
from runtime.supernet import Supernet, SupernetError, warm_up
from runtime.training import Recipe, evaluate_mlm

WARM_UP_SEED_OFFSET = 1
"""The supernet's training order is drawn from the seed plus this, its initial values from the seed."""

ANOTHER_TEXT = (
    "the corpus {name} is not the text that this search began with: "
    "put the old text back, or begin a new search"
)

NOT_REPRODUCIBLE = "asynchronous: the study depends on how long evaluations take and cannot be reproduced"

logger = logging.getLogger("opnas")


class Reporter(Protocol):
    """Who is told of progress. Nothing that a reporter does changes a search."""

    def stage(self, title: str) -> None:
        """A new stage begins."""
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """A training step of the supernet or the winner is done."""
        ...

    def candidate(self, history: Sequence[Candidate]) -> None:
        """A candidate was committed, the last of ``history``."""
        ...

    def in_flight(self, count: int) -> None:
        """So many candidates are being evaluated now."""
        ...


class Silence:
    """A reporter that tells nobody."""

    def stage(self, title: str) -> None:
        """Nothing."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """Nothing."""

    def candidate(self, history: Sequence[Candidate]) -> None:
        """Nothing."""

    def in_flight(self, count: int) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        run: the folder that holds everything, and what was asked for.
        result: how the search ended.
        ranked: candidates with a score, best first.
        failures: number of candidates that failed.
        baseline: held-out accuracy of always predicting the commonest token.
        winner_metrics: of the trained winner on held-out text; empty where no candidate succeeded.
        comparison: the winner and its rivals after equal training, best first; empty where none was asked for.
    """

    run: Run
    result: SearchResult
    ranked: tuple[Candidate, ...]
    failures: int
    baseline: float
    winner_metrics: dict[str, float]
    comparison: tuple[Rank, ...] = ()


def run_search(run: Run, corpus: Corpus, reporter: Reporter | None = None) -> Outcome:
    """Carry a run to its end, going on from whatever its folder holds.

    Args:
        run: the folder and what was asked for.
        corpus: the text that ``run.config`` names.
        reporter: told of progress; by default nobody.

    Returns:
        What was found; the winner stands in ``run.best_path``.

    Raises:
        RunError: where the corpus is not the one that the run began with.
        StudyError: where the study cannot be read or another process is writing it.
        OSError: where nothing can be written. What was committed is kept, and the run can be continued.
    """
    config = run.config
    reporter = reporter or Silence()
    if corpus.digest != config.corpus_digest:
        raise RunError(ANOTHER_TEXT.format(name=corpus.name))
    with run.open_study() as study, _log_file(run.log_path), _one_thread():
        run.remove_leftovers()
        reporter.stage("tokenizer")
        data = prepare(corpus, config.proxy)
        record_session(run.folder, str(data.train.ids.device))
        logger.info("%d training sequences, %d tokens in the vocabulary", len(data.train), data.vocab_size)
        device = data.train.ids.device
        with make_executor(config, device, run.folder / "logs" / "workers.log") as executor:
            history = study.candidates()
            executor.start(config.candidates - len(history))
            supernet = _warm_supernet(run, data, reporter)
            language = MaskedLanguageModelEvaluator(supernet, data, config.proxy)
            executor.serve(make_evaluator(language))

            reporter.stage("search")
            if config.asynchronous:
                logger.warning(NOT_REPRODUCIBLE)

            def committed(candidate: Candidate) -> None:
                history.append(candidate)
                _log_candidate(candidate)
                reporter.candidate(history)

            if history:
                reporter.candidate(history)
            result = search(
                study,
                config.space,
                config.make_strategy(),
                executor,
                candidates=config.candidates,
                seed=config.seed,
                budget=config.proxy.candidate_steps,
                rungs=config.make_rungs(),
                deadline=None if config.minutes is None else time.monotonic() + 60 * config.minutes,
                ordered=not config.asynchronous,
                on_candidate=committed,
                on_flight=reporter.in_flight,
            )
        metrics = _train_winner(run, study, language, reporter)
        comparison = _compare(run, study, reporter)
        _write_report(run)
        ranked = tuple(sorted((c for c in history if c.ok), key=ranking))
        return Outcome(run, result, ranked, len(history) - len(ranked), data.baseline, metrics, comparison)


def _warm_supernet(run: Run, data: ProxyData, reporter: Reporter) -> Supernet:
    config = run.config
    proxy, device = config.proxy, data.train.ids.device
    if run.supernet_path.exists():
        try:
            return Supernet.load(run.supernet_path).placed(device, proxy.backend)
        except SupernetError as error:
            raise RunError(f"{error}; remove {run.supernet_path} to have it warmed up again") from None
    reporter.stage("supernet")
    drawn = Supernet.create(config.space, data.vocab_size, proxy.seq_len, config.seed)
    supernet = drawn.placed(device, proxy.backend)
    seed = config.seed + WARM_UP_SEED_OFFSET
    losses = warm_up(
        supernet,
        config.space,
        training_batches(data.train, proxy.batch_size, data.vocab_size, seed),
        proxy.warm_up_steps,
        seed,
        recipe=Recipe(learning_rate=proxy.warm_up_rate),
        on_step=lambda step, loss: reporter.step(step, proxy.warm_up_steps, loss),
    )
    supernet.save(run.supernet_path)
    logger.info("supernet warmed up, last loss %.3f", losses[-1] if losses else float("nan"))
    return supernet


def _train_winner(
    run: Run, study: Study, evaluator: MaskedLanguageModelEvaluator, reporter: Reporter
) -> dict[str, float]:
    """Train the best candidate for longer and save it, unless that was done. Returns its metrics."""
    best = study.best(1)
    if not best:
        logger.warning("no candidate succeeded")
        return {}
    winner, config = best[0], run.config
    saved = _saved_metrics(run, winner)
    if saved is not None:
        return saved
    reporter.stage("winner")
    model, _ = evaluator.train_candidate(winner.backbone, winner.seed, config.winner_steps)
    metrics = evaluate_mlm(model, evaluator.data.held_out)
    logger.info("winner candidate %d: %s", winner.index, metrics)
    trained = TrainedModel(
        winner.backbone,
        model.state_dict(),
        evaluator.data.vocab_size,
        config.proxy.seq_len,
        {"held-out accuracy": metrics["accuracy"], "held-out loss": metrics["loss"]},
        f"Candidate {winner.index} of a search: weights from the supernet, then "
        f"{config.winner_steps} steps of masked language modelling.",
    )
    with new_folder(run.best_path, replace_old=True) as folder:
        save_model(trained, folder, evaluator.data.tokenizer)
        write_json(folder / "candidate.json", {"index": winner.index, "metrics": metrics})
    return metrics


def _compare(run: Run, study: Study, reporter: Reporter) -> tuple[Rank, ...]:
    """Winner and rivals after equal training, in as many processes as the search has."""
    config, best = run.config, study.best(1)
    if not best or not config.comparison_steps:
        return ()
    finished = finished_comparison(run, best[0].backbone)
    if finished is not None:
        return finished
    reporter.stage("comparison")
    workers = 0 if config.executor == "local" else config.workers or os.cpu_count() or 1
    return compare(run, best[0].backbone, config.comparison_steps, workers, logger.info)


def _write_report(run: Run) -> None:
    """The report of what was found: last, when everything else is saved."""
    try:
        report(run.folder)
    except Exception as error:  # as with drawings: no picture is worth a search
        warnings.warn(f"the report could not be written: {error}", stacklevel=3)


def _saved_metrics(run: Run, winner: Candidate) -> dict[str, float] | None:
    """The metrics of the model in ``best/``; None where it is not the winner's, or cannot be read."""
    try:
        saved = json.loads((run.best_path / "candidate.json").read_bytes())
        if saved["index"] != winner.index:
            return None
        return {name: float(saved["metrics"][name]) for name in ("accuracy", "loss")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_candidate(candidate: Candidate) -> None:
    origin = f"from {candidate.parent}, {candidate.mutation}" if candidate.mutation else "random"
    outcome = (
        f"score {candidate.score:.4f}" if candidate.ok else f"failed: {printable(str(candidate.reason))}"
    )
    logger.info("candidate %d (%s): %s in %.1f s", candidate.index, origin, outcome, candidate.seconds)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: the order of sums, and so every score, then is the same on any number of cores. At these
    sizes more threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _LogFile(logging.FileHandler):
    """A file that cannot be written ends the search with the system's error, as any other file of a run does."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    path.parent.mkdir(exist_ok=True)
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
