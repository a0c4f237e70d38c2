"""The one loop of every search: propose, evaluate, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from evolution.candidate import Candidate
from evolution.evaluator import Evaluator
from evolution.executor import Executor, InProcess, Task
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
DUPLICATES = "duplicates_avoided"
"""The metric of a candidate that says how many proposals before it were known already, and so were drawn again."""

Ending = Literal["candidates", "deadline", "exhausted"]


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
    stopped: Ending


def search(
    study: Study,
    space: SearchSpace,
    strategy: Strategy,
    evaluator: Evaluator | Executor,
    *,
    candidates: int,
    seed: int,
    budget: int,
    rungs: Rungs | None = None,
    deadline: float | None = None,
    ordered: bool = True,
    on_candidate: Callable[[Candidate], None] | None = None,
    on_flight: Callable[[int], None] | None = None,
) -> SearchResult:
    """Search ``space``, going on from whatever ``study`` holds.

    Candidates are committed in the order of proposal, and proposal ``n`` is a function of the first
    ``strategy.horizon(n)`` of them, ``seed`` and ``n`` alone; it is made as soon as these are committed and a worker
    is free. So the same seed gives the same study for any number of workers, and a search that was killed and called
    again gives the study of one that was not (given an evaluator that is deterministic; measured seconds aside).

    Where ``ordered`` is False no worker waits: candidates are committed as their results come, and a proposal is made
    from what is committed by then. Such a study depends on how long evaluations take and **cannot be reproduced**.

    An evaluation that raises, or whose score is not finite, is committed as a failed candidate with its
    reason. (A full or read-only disk is no fault of a candidate: it ends the search.) No graph is evaluated
    twice: a backbone whose canonical hash or fingerprint is in the study or in flight is drawn again.

    Args:
        study: open for writing.
        space: what may be proposed.
        strategy: how to propose.
        evaluator: how to score, in this process; or an executor that has others do so.
        candidates: how many the study shall hold in the end, those it holds already included.
        seed: of all draws.
        budget: training steps of one evaluation.
        rungs: where candidates may be stopped before their budget is spent; None for nowhere.
        deadline: a `time.monotonic` time after which no evaluation is begun; None for none. Those in flight are
            waited for.
        ordered: whether the study shall not depend on who finishes first.
        on_candidate: called with each candidate after it was committed.
        on_flight: called with the number of candidates in flight whenever it has changed.

    Returns:
        How it ended; what was found is in the study.

    Raises:
        StudyError: where the study was begun with another space, strategy, seed, budget, order or rungs.
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
    if not ordered:  # older studies, all of them ordered, do not have the field
        settings["asynchronous"] = True
    study.settle("search", settings)
    executor = evaluator if isinstance(evaluator, Executor) else InProcess(evaluator)
    history = study.candidates()
    seen = SeenBackbones(history)
    before = len(history)
    proposed = before
    in_flight = 0
    waiting: dict[int, Candidate] = {}  # results that an earlier proposal's is waited for
    stopped: Ending = "candidates"

    def visible(index: int) -> list[Candidate]:
        """The results that may decide about candidate ``index``."""
        return history[: strategy.horizon(index)]

    def commit(candidate: Candidate) -> None:
        candidate = settled(candidate, visible(candidate.index)) if rungs.steps else candidate
        study.add(candidate)
        history.append(candidate)
        if on_candidate is not None:
            on_candidate(candidate)

    def fly(change: int) -> None:
        nonlocal in_flight
        in_flight += change
        if on_flight is not None:
            on_flight(in_flight)

    while True:
        while stopped == "candidates" and proposed < candidates and in_flight < executor.workers:
            if ordered and strategy.horizon(proposed) > len(history):
                break
            if deadline is not None and time.monotonic() >= deadline:
                stopped = "deadline"
                break
            candidate = propose(history, seen, space, strategy, seed, proposed)
            if candidate is None:
                stopped = "exhausted"
                break
            seen.add(candidate.canonical_hash, candidate.fingerprint)
            stops = rungs.stops(visible(proposed)) if rungs.steps else ()
            executor.submit(Task(candidate, budget, stops))
            proposed += 1
            fly(1)
        if not in_flight:
            return SearchResult(len(history) - before, len(history), stopped)
        for candidate in executor.results():
            fly(-1)
            if not ordered:
                commit(_renumbered(candidate, len(history)))
                continue
            waiting[candidate.index] = candidate
            while len(history) in waiting:
                commit(waiting.pop(len(history)))


def propose(
    history: Sequence[Candidate],
    seen: SeenBackbones,
    space: SearchSpace,
    strategy: Strategy,
    seed: int,
    index: int,
) -> Candidate | None:
    """Candidate ``index``, not evaluated yet; None where nothing new was found.

    Args:
        history: the committed candidates. They are looked at only up to ``strategy.horizon(index)``.
        seen: the identities of all earlier candidates, those in flight included.
        space: what may be proposed.
        strategy: how to propose.
        seed: of all draws.
        index: its number.
    """
    rng = Random(f"{seed}/{index}")
    evaluation_seed = rng.getrandbits(31)
    for attempt in range(STRATEGY_ATTEMPTS + RANDOM_ATTEMPTS):
        if attempt < STRATEGY_ATTEMPTS:
            proposal = strategy.propose(history, index, rng, space)
        else:
            proposal = Proposal(random_backbone(rng, space))
        identity = seen.identify(proposal.backbone)
        if identity is not None:
            backbone = replace(proposal.backbone, name=_name(index))
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


def _renumbered(candidate: Candidate, index: int) -> Candidate:
    """``candidate`` with the number of its commit, where that is not the one of its proposal."""
    return replace(candidate, index=index, backbone=replace(candidate.backbone, name=_name(index)))


def _name(index: int) -> str:
    return f"candidate-{index}"
