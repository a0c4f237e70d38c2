"""SIGKILL of a search with workers: nothing committed is lost, nothing is half-committed, no worker is left."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from random import Random

import psutil
import pytest

from evolution import SearchSpace, Study, StudyError, make_strategy, search
from tests.runtime.executor_evaluators import Scrambled

COMMAND = [sys.executable, "-m", "tests.runtime.killed_search"]


def archive(path):
    """The candidates, measured seconds aside."""
    with Study.open(path, readonly=True) as study:
        return [replace(c, seconds=0.0) for c in study.candidates()]


def uninterrupted(path, candidates):
    """The archive of a search in this process."""
    space = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16)
    strategy = make_strategy("opnas", population=20, parents=3, children=4)
    with Study.create(path) as study:
        search(study, space, strategy, Scrambled(0.0), candidates=candidates, seed=0, budget=1)
    return archive(path)


def gone(processes, seconds=5.0):
    """Whether all of these end within a time."""
    until = time.monotonic() + seconds
    while any(map(runs, processes)):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def runs(process):
    """Whether it does, rather than wait for init to take note of its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("kills", "candidates"), [(5, 40), pytest.param(100, 250, marks=pytest.mark.long)], ids=["5", "100"]
)
def test_a_search_with_workers_that_is_killed_loses_nothing_and_leaves_nobody(tmp_path, kills, candidates):
    seed = int.from_bytes(os.urandom(4))
    rng = Random(seed)
    whole = uninterrupted(tmp_path / "whole.db", candidates)
    path = tmp_path / "killed.db"
    kept = 0
    for kill in range(kills):
        process = subprocess.Popen([*COMMAND, path, str(candidates)], stdout=subprocess.PIPE, text=True)
        # Somewhere in the next commits; one in four while it starts.
        wanted = rng.randrange(1, 2 * candidates // kills) if rng.random() < 0.75 else 0
        printed = [int(line) for _, line in zip(range(wanted), process.stdout, strict=False)]
        time.sleep(rng.random() * (0.02 if wanted else 1.0))
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        printed += [int(line) for line in process.stdout.read().split()]
        process.wait()
        assert gone(workers), f"seed {seed}, kill {kill}: a worker outlives the search"
        found = archive(path) if path.exists() else []
        assert len(found) >= max([kept, *(index + 1 for index in printed)]), f"seed {seed}, kill {kill}"
        assert found == whole[: len(found)], f"seed {seed}, kill {kill}"
        kept = len(found)
    assert subprocess.run([*COMMAND, path, str(candidates)], stdout=subprocess.DEVNULL).returncode == 0
    assert archive(path) == whole, f"seed {seed}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_search_ends_its_workers_and_a_second_writer_is_told(tmp_path, number):
    path = tmp_path / "study.db"
    process = subprocess.Popen(
        [*COMMAND, path, "5000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline() == "0\n"
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    with pytest.raises(StudyError, match="being written by another search"):
        Study.open(path)
    process.send_signal(number)
    process.stdout.read()
    assert process.wait() != 0
    assert gone(workers)
    Study.open(path).close()
