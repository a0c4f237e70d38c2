"""Isolated processes: limits hold, a death costs one candidate, and the order of results does not matter."""

import os
import signal
import time
from dataclasses import replace

import psutil
import pytest

from evolution import SearchSpace, Study, make_strategy, search
from runtime.executors.limits import Limits
from runtime.executors.processes import ExecutorError, ProcessPool
from tests.runtime.executor_evaluators import Misbehaves, Scrambled

SPACE = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16)
STRATEGY = make_strategy("opnas", population=8, parents=3, children=2)
RECORDED_WITHIN = 5.0
"""Seconds after its limit by which a candidate must be recorded."""


def searched(path, evaluator, *, candidates=30, strategy=STRATEGY, **options):
    """The candidates of a search, measured seconds aside."""
    with Study.open(path) if path.exists() else Study.create(path) as study:
        result = search(study, SPACE, strategy, evaluator, candidates=candidates, seed=4, budget=1, **options)
        assert result.total == candidates
        return [replace(c, seconds=0.0) for c in study.candidates()]


def pooled(path, evaluator, workers=2, limits=None, **options):
    with ProcessPool(workers, limits, log=path.with_suffix(".log")) as pool:
        pool.serve(evaluator)
        return searched(path, pool, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("whole") / "study.db", Scrambled(0.0))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_any_number_of_workers_gives_the_archive_of_one_process(tmp_path, whole, workers):
    assert pooled(tmp_path / "study.db", Scrambled(), workers) == whole


@pytest.fixture(scope="module")
def pool():
    """Three workers that evaluate as they should."""
    with ProcessPool(3) as pool:
        pool.serve(Scrambled())
        yield pool


@pytest.mark.parametrize("name", ["random", "evolution", "crossover", "nsga2"])
def test_so_does_every_strategy(tmp_path, pool, name):
    settings = {} if name == "random" else {"population": 8}
    strategy = make_strategy(name, **settings)
    here = searched(tmp_path / "here.db", Scrambled(0.0), strategy=strategy)
    assert searched(tmp_path / "pool.db", pool, strategy=strategy) == here


def test_several_candidates_are_in_flight_as_far_as_the_horizon_allows(tmp_path, pool):
    flights = []
    searched(tmp_path / "study.db", pool, candidates=14, on_flight=flights.append)
    assert max(flights) == 3
    assert flights[-1] == 0


def test_an_asynchronous_search_commits_as_results_come_and_never_twice_the_same(tmp_path, whole):
    candidates = pooled(tmp_path / "study.db", Scrambled(0.4), 3, candidates=12, ordered=False)
    assert [c.index for c in candidates] == list(range(12))
    assert [c.backbone.name for c in candidates] == [f"candidate-{n}" for n in range(12)]
    assert len({c.canonical_hash for c in candidates}) == 12
    # Of the random ones at the start, the first takes 0.4 s and the second less than a millisecond.
    assert [c.seed for c in candidates[:8]] != [c.seed for c in whole[:8]]
    assert {c.seed for c in candidates} == {c.seed for c in whole[:12]}
    assert all(c.parent is None or c.parent < c.index for c in candidates)


def misbehaving(tmp_path, *deeds):
    return Misbehaves(0.0, tuple(deeds), str(tmp_path / "calls"))


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        (Limits(seconds=0.5), {"hang": "stopped after 0.5 s"}),
        (
            Limits(memory_gb=0.5),
            dict.fromkeys(
                ("allocate slowly", "allocate fast", "share fast", "ask for everything"),
                "needed more than 0.5 GB",
            ),
        ),
        (
            Limits(),
            {
                "raise": "ValueError: no such thing",
                "not a number": "the score is nan",
                "be killed": "its worker died 2 times: killed by SIGKILL",
                "crash": "its worker died 2 times: killed by SIGSEGV",
            },
        ),
    ],
    ids=["time", "memory", "deaths"],
)
def test_what_a_candidate_does_costs_that_candidate_and_nothing_else(tmp_path, limits, reasons):
    wanted = searched(tmp_path / "good.db", Scrambled(0.0), candidates=12)
    # Every second one misbehaves, among them some that a later generation looks at.
    numbers = range(1, 2 * len(reasons), 2)
    evaluator = misbehaving(tmp_path, *zip(numbers, reasons, strict=True))
    path = tmp_path / "study.db"
    pooled(path, evaluator, 2, limits, candidates=12)
    with Study.open(path, readonly=True) as study:
        found = study.candidates()
    assert {c.index: c.reason for c in found if c.index in numbers} == dict(
        zip(numbers, reasons.values(), strict=True)
    )
    assert [replace(found[n], seconds=0.0) for n in (0, 2, 4, 6)] == [wanted[n] for n in (0, 2, 4, 6)]
    assert all(c.ok or c.seed % 5 == 0 for c in found if c.index not in numbers)
    # When a candidate reaches its limit of memory is for the machine to say, so that only time can be checked here.
    if limits.seconds is not None:
        assert all(c.seconds < limits.seconds + RECORDED_WITHIN for c in found)


def test_a_worker_that_is_killed_once_costs_nothing(tmp_path):
    evaluator = misbehaving(tmp_path, (1, "be killed once"), (4, "be killed once"))
    assert pooled(tmp_path / "a.db", evaluator, 2, candidates=8) == searched(
        tmp_path / "b.db", Scrambled(0.0), candidates=8
    )
    calls = [int(line.split()[0]) for line in (tmp_path / "calls").read_text().splitlines()]
    assert sorted(calls) == [0, 1, 1, 2, 3, 4, 4, 5, 6, 7]


def test_a_worker_is_used_again_and_again_and_none_is_left(tmp_path):
    evaluator = misbehaving(tmp_path)
    with ProcessPool(2) as pool:
        pool.serve(evaluator)
        searched(tmp_path / "study.db", pool, candidates=10)
        children = psutil.Process().children()
    calls = [int(line.split()[1]) for line in (tmp_path / "calls").read_text().splitlines()]
    assert len(set(calls)) == 2
    assert len(calls) == 10
    assert set(calls) <= {child.pid for child in children}
    assert not any(child.is_running() for child in children if child.pid in calls)


def test_workers_that_stay_above_what_is_half_way_to_the_limit_are_replaced(tmp_path):
    evaluator = Hoards(0.0, (), str(tmp_path / "calls"))
    found = pooled(tmp_path / "study.db", evaluator, 1, Limits(memory_gb=0.5), candidates=8)
    assert all(c.ok or c.seed % 5 == 0 for c in found)
    calls = [int(line.split()[1]) for line in (tmp_path / "calls").read_text().splitlines()]
    assert len(set(calls)) > 1, "eight times 0.1 GB would not fit into one worker"


HOARD = []


class Hoards(Misbehaves):
    """Each candidate leaves 0.1 GB behind."""

    def evaluate(self, backbone, seed, budget):
        HOARD.append(b"x" * 100_000_000)
        return super().evaluate(backbone, seed, budget)


class CannotBeMade(Scrambled):
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("no weights")


def test_an_evaluator_that_cannot_be_made_ends_the_search(tmp_path):
    with pytest.raises(ExecutorError, match="cannot start: ValueError: no weights"):
        pooled(tmp_path / "study.db", CannotBeMade(), 1, candidates=3)


def test_a_limit_below_what_a_worker_needs_by_itself_ends_the_search(tmp_path):
    with pytest.raises(ExecutorError, match=r"cannot start|do not start"):
        pooled(tmp_path / "study.db", Scrambled(), 1, Limits(memory_gb=0.01), candidates=3)


class FillsDisk(Scrambled):
    def evaluate(self, backbone, seed, budget):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_no_fault_of_a_candidate(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        pooled(tmp_path / "study.db", FillsDisk(), 1, candidates=3)
    with Study.open(tmp_path / "study.db", readonly=True) as study:
        assert len(study) == 0


def test_an_exception_in_the_search_ends_the_workers_and_keeps_what_was_committed(tmp_path, pool, whole):
    def interrupt(candidate):
        if candidate.index == 11:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(KeyboardInterrupt):
        pooled(tmp_path / "study.db", Scrambled(), on_candidate=interrupt)
    assert {child.pid for child in psutil.Process().children()} <= before
    with Study.open(tmp_path / "study.db", readonly=True) as study:
        assert len(study) == 12
    assert searched(tmp_path / "study.db", pool) == whole
