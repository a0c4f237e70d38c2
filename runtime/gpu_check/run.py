"""A whole check: the work in its order, within its time."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from graphir import AttentionGraph
from runtime.bench import GENERATED, machine_facts
from runtime.gpu_check.clock import is_lost
from runtime.gpu_check.forms import Place
from runtime.gpu_check.measure import NOT_REACHED, measure, without
from runtime.gpu_check.report import Report, in_order, status
from runtime.gpu_check.table import cell_line
from runtime.gpu_check.work import Cell, Work
from runtime.gpu_check.workers import run_groups

CHECKS_SHARE = 0.45
"""The part of the time after which checks end and timings begin."""


@dataclass(frozen=True)
class Budget:
    """Time that may be spent.

    Attributes:
        seconds: how much.
        start: when it began, on the monotonic clock.
    """

    seconds: float
    start: float

    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.seconds - self.spent()


def run(
    work: Work, place: Place, seconds: float, workers: int, tell: Callable[[str], None] | None = None
) -> Report:
    """Check, then time.

    Args:
        work: what to do.
        place: where.
        seconds: how long it may take. What does not fit is in the report as not reached.
        workers: processes that check at a time; 0 for none but this one.
        tell: is told of every cell that is done, a line each.
    """
    tell = tell or (lambda line: None)
    budget = Budget(seconds, time.monotonic())
    cells: list[Cell] = []
    checks = Budget(seconds * CHECKS_SHARE, budget.start)
    for found in run_groups(work.checks, place, workers, checks.left):
        cells += found
        _tell(tell, budget, found)
    unsafe = _unsafe(cells, work)
    lost = False
    for job in work.timings:
        if lost:
            found = without(job, f"{NOT_REACHED}: the device answers no more after an earlier job")
        elif job.graph in unsafe:
            found = without(job, f"not timed: {unsafe[job.graph]}")
        else:
            found = measure(job, place, budget.left)
            lost = is_lost(place.device)
        cells += found
        _tell(tell, budget, found)
    facts = machine_facts() | device_facts(place.device)
    return Report(facts, place, (budget.spent(), seconds), in_order(work, cells))


def device_facts(device: str) -> dict[str, str | int]:
    """Name, memory and versions of a device."""
    facts: dict[str, str | int] = {"device": device, "triton": _triton_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "device": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": ".".join(map(str, torch.cuda.get_device_capability(0))),
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda or torch.version.hip or "",
        }
    return facts


def _unsafe(checks: list[Cell], work: Work) -> dict[AttentionGraph, str]:
    """Graphs whose generated form was wrong or failed when it was checked in a type that is timed, and why."""
    timed = {job.setting.dtype for job in work.timings}
    return {
        cell.job.graph: f"{GENERATED} is {status(cell)} in {cell.job.setting.dtype} when it is checked"
        for cell in checks
        if cell.job.kind == "correct"
        and cell.job.setting.dtype in timed
        and status(cell) in ("wrong", "failed")
    }


def _triton_version() -> str:
    if importlib.util.find_spec("triton") is None:
        return ""
    import triton

    return str(triton.__version__)


def _tell(tell: Callable[[str], None], budget: Budget, cells: list[Cell]) -> None:
    for cell in cells:
        tell(f"{budget.spent():6.1f} s  {cell_line(cell)}")
