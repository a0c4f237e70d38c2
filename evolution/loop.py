"""The one loop of every search: propose, evaluate, commit."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from evolution.candidate import Candidate
from evolution.evaluator import Evaluator, Stop
from evolution.generation import random_backbone
from evolution.identity import SeenBackbones
from evolution.rungs import Rungs, settled
from evolution.space import SearchSpace
from evolution.strategy import Proposal, Strategy, describe_strategy
from evolution.study import Study

STRATEGY_ATTEMPTS = 50
"""How often a strategy may propose what was seen already before random backbones are tried."""
RANDOM_ATTEMPTS = 500
"""How many random backbones are tried then; where all were seen, the space counts as exhausted."""
MAX_REASON_CHARS = 500
"""Longest reason of a failure that is kept."""
DUPLICATES = "duplicates_avoided"
"""The metric of a candidate that says how many proposals before it were known already, and so were drawn again."""
_FAULTS_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A full or read-only disk says nothing about a candidate."""


@dataclass(frozen=True)
class SearchResult:
    """How a call of `search` ended.

    Attributes:
        evaluated: candidates that this call evaluated.
        total: candidates that the study now holds.
        stopped: "candidates" where it holds as many as asked for, "deadline", or "exhausted" where nothing
            new could be found in the space.
    """

    evaluated: int
    total: int
    stopped: Literal["candidates", "deadline", "exhausted"]


def search(
    study: Study,
    space: SearchSpace,
    strategy: Strategy,
    evaluator: Evaluator,
    *,
    candidates: int,
    seed: int,
    budget: int,
    rungs: Rungs | None = None,
    deadline: float | None = None,
    on_candidate: Callable[[Candidate], None] | None = None,
) -> SearchResult:
    """Search ``space``, going on from whatever ``study`` holds.

    Proposal ``n`` is a function of the committed candidates, ``seed`` and ``n`` alone. So the same seed gives
    the same study, and a search that was killed and called again gives the study of one that was not (given
    an evaluator that is deterministic; measured seconds aside).

    An evaluation that raises, or whose score is not finite, is committed as a failed candidate with its
    reason. (A full or read-only disk is no fault of a candidate: it ends the search.) No graph is evaluated
    twice: a backbone whose canonical hash or fingerprint is in the study is drawn again.

    Args:
        study: open for writing.
        space: what may be proposed.
        strategy: how to propose.
        evaluator: how to score.
        candidates: how many the study shall hold in the end, those it holds already included.
        seed: of all draws.
        budget: training steps of one evaluation.
        rungs: where candidates may be stopped before their budget is spent; None for nowhere.
        deadline: a `time.monotonic` time after which no evaluation is begun; None for none.
        on_candidate: called with each candidate after it was committed.

    Returns:
        How it ended; what was found is in the study.

    Raises:
        StudyError: where the study was begun with another space, strategy, seed, budget or rungs.
        InputError: where a rung is not below the budget.
        OSError: where the disk is full or read-only. What was committed is kept.
    """
    settings = {
        "space": space.to_dict(),
        "strategy": describe_strategy(strategy),
        "seed": seed,
        "budget": budget,
    }
    rungs = rungs or Rungs()
    rungs.check_budget(budget)
    if rungs.steps:  # older studies, all of them without rungs, do not have the field
        settings["rungs"] = rungs.to_dict()
    study.settle("search", settings)
    history = study.candidates()
    seen = SeenBackbones(history)
    before = len(history)
    while len(history) < candidates:
        if deadline is not None and time.monotonic() >= deadline:
            return SearchResult(len(history) - before, len(history), "deadline")
        proposed = propose(history, seen, space, strategy, seed)
        if proposed is None:
            return SearchResult(len(history) - before, len(history), "exhausted")
        visible = history[: strategy.horizon(len(history))] if rungs.steps else []
        candidate = settled(evaluated(proposed, evaluator, budget, rungs.stops(visible)), visible)
        study.add(candidate)
        history.append(candidate)
        seen.add(candidate.canonical_hash, candidate.fingerprint)
        if on_candidate is not None:
            on_candidate(candidate)
    return SearchResult(len(history) - before, len(history), "candidates")


def propose(
    history: Sequence[Candidate], seen: SeenBackbones, space: SearchSpace, strategy: Strategy, seed: int
) -> Candidate | None:
    """The candidate that follows ``history``, not evaluated yet; None where nothing new was found.

    Args:
        history: all earlier candidates. Results are looked at only up to ``strategy.horizon(len(history))``.
        seen: the identities of all earlier candidates.
        space: what may be proposed.
        strategy: how to propose.
        seed: of all draws.
    """
    index = len(history)
    rng = Random(f"{seed}/{index}")
    evaluation_seed = rng.getrandbits(31)
    for attempt in range(STRATEGY_ATTEMPTS + RANDOM_ATTEMPTS):
        if attempt < STRATEGY_ATTEMPTS:
            proposal = strategy.propose(history, index, rng, space)
        else:
            proposal = Proposal(random_backbone(rng, space))
        identity = seen.identify(proposal.backbone)
        if identity is not None:
            backbone = replace(proposal.backbone, name=f"candidate-{index}")
            return Candidate(
                index,
                backbone,
                *identity,
                evaluation_seed,
                proposal.parent,
                proposal.mutation,
                metrics={DUPLICATES: float(attempt)},
            )
    return None


def evaluated(
    candidate: Candidate, evaluator: Evaluator, budget: int, stops: tuple[Stop, ...] = ()
) -> Candidate:
    """``candidate`` with the result of its evaluation, or with the reason why there is none."""
    begun = time.monotonic()
    metrics = dict(candidate.metrics)
    seconds = math.nan
    try:
        arguments = (stops,) if stops else ()  # an evaluator that knows of no stops is as good without rungs
        evaluation = evaluator.evaluate(candidate.backbone, candidate.seed, budget, *arguments)
        score, seconds = float(evaluation.score), float(evaluation.seconds)
        metrics |= {str(name): float(value) for name, value in evaluation.metrics.items()}
        reason = None if math.isfinite(score) else f"the score is {score}"
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FAULTS_OF_THE_MACHINE:
            raise
        # An evaluator may raise anything, or return it, and the search goes on
        score, reason = math.nan, f"{type(error).__name__}: {error}".rstrip(": ")
    if not math.isfinite(seconds):
        seconds = time.monotonic() - begun
    if reason is None:
        return replace(candidate, status="ok", score=score, metrics=metrics, seconds=seconds)
    # A message may hold what UTF-8 cannot, which the study could not store.
    reason = reason[:MAX_REASON_CHARS].encode("utf-8", "replace").decode()
    return replace(candidate, status="failed", reason=reason, metrics=metrics, seconds=seconds)
