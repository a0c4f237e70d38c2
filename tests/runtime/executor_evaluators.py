"""Evaluators without torch that do what candidates do to workers. Workers import this file."""

import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from evolution import Evaluation


@dataclass(frozen=True)
class Scrambled:
    """The share of softmax among the nodes, after a time that says nothing about it."""

    longest: float = 0.02

    def evaluate(self, backbone, seed, budget):
        time.sleep(self.longest * Random(f"time {seed}").random())
        operations = [node.op for graph in backbone.graphs for node in graph.nodes]
        if seed % 5 == 0:
            raise RuntimeError(f"seed {seed}")
        return Evaluation(
            operations.count("softmax") / (1 + len(operations)), {"n": len(operations)}, seconds=1.0
        )


@dataclass(frozen=True)
class Misbehaves(Scrambled):
    """Candidates of chosen numbers do something else; each call appends a line to ``log``."""

    deeds: tuple[tuple[int, str], ...] = ()
    log: str = ""

    def evaluate(self, backbone, seed, budget):
        number = int(backbone.name.partition("-")[2])
        with Path(self.log).open("a") as file:
            file.write(f"{number} {os.getpid()}\n")
        deed = dict(self.deeds).get(number)
        if deed is not None:
            times = Path(self.log).read_text().split("\n")
            outcome = DEEDS[deed](sum(line.startswith(f"{number} ") for line in times))
            if outcome is not None:
                return outcome
        return super().evaluate(backbone, seed, budget)


def hang(time_of_call):
    while True:
        pass


def allocate_slowly(time_of_call):
    kept = []
    while True:
        kept.append(b"x" * 2_000_000)
        time.sleep(0.004)


def allocate_fast(time_of_call):
    kept = []
    while True:
        kept.append(b"x" * 200_000_000)


def share_fast(time_of_call):
    """Memory that is not the process's own data, which the system's limit does not see."""
    import mmap

    kept = []
    while True:
        shared = mmap.mmap(-1, 50_000_000)
        shared.write(b"x" * 50_000_000)
        kept.append(shared)


def ask_for_everything(time_of_call):
    return Evaluation(float(len(bytearray(1 << 40))))


def raise_error(time_of_call):
    raise ValueError("no such thing")


def be_killed_once(time_of_call):
    if time_of_call == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def be_killed(time_of_call):
    os.kill(os.getpid(), signal.SIGKILL)


def crash(time_of_call):
    os.kill(os.getpid(), signal.SIGSEGV)


DEEDS = {
    "hang": hang,
    "allocate slowly": allocate_slowly,
    "allocate fast": allocate_fast,
    "share fast": share_fast,
    "ask for everything": ask_for_everything,
    "raise": raise_error,
    "not a number": lambda time_of_call: Evaluation(math.nan),
    "be killed once": be_killed_once,
    "be killed": be_killed,
    "crash": crash,
}
