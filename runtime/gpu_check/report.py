"""What a check found: everything for JSON, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from codegen import compile_attention
from graphir import AttentionGraph
from runtime.bench import DTYPES, GENERATED, Measurement
from runtime.gpu_check.forms import BASELINES, Place
from runtime.gpu_check.measure import NOT_REACHED
from runtime.gpu_check.work import Cell, Job, Work
from runtime.timing import Timing

FORMAT = "opnas.gpu-check/1"


@dataclass(frozen=True)
class Comparison:
    """The generated form against another one, timed in the same rounds.

    Attributes:
        job: where.
        baseline: the other form.
        speedup: how many times faster forward and backward of the generated form are.
    """

    job: Job
    baseline: str
    speedup: float


@dataclass(frozen=True)
class Report:
    """The outcome of a whole check.

    Attributes:
        machine: device and versions.
        place: device and backend.
        seconds: how long it took, and how long it might.
        cells: one for each form of each job, in the order of the work.
    """

    machine: dict[str, str | int]
    place: Place
    seconds: tuple[float, float]
    cells: tuple[Cell, ...]

    @property
    def broken(self) -> tuple[Cell, ...]:
        """Generated forms that are wrong, or that fail where they are checked; none in a check that passes."""
        return tuple(
            cell
            for cell in self.cells
            if cell.form == GENERATED
            and (cell.measurement.wrong or (cell.job.kind == "correct" and status(cell) == "failed"))
        )

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every baseline that was timed beside the generated form."""
        generated = {cell.job: time for cell in self.cells if cell.form == GENERATED and (time := both(cell))}
        return tuple(
            Comparison(cell.job, cell.form, time / generated[cell.job])
            for cell in self.cells
            if cell.form != GENERATED and cell.job in generated and (time := both(cell))
        )

    def slower(self, baseline: str) -> tuple[tuple[Comparison, ...], int]:
        """Where the generated form is slower than ``baseline``, slowest first, and of how many comparisons."""
        found = [comparison for comparison in self.comparisons if comparison.baseline == baseline]
        slower = sorted((c for c in found if c.speedup < 1.0), key=lambda c: c.speedup)
        return tuple(slower), len(found)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; times in seconds, an error that is not a number as None."""
        graphs = {cell.job.graph.name: cell.job.graph for cell in self.cells}
        return {
            "format": FORMAT,
            "machine": self.machine,
            "backend": self.place.backend,
            "device": self.place.device,
            "seconds": {"taken": self.seconds[0], "allowed": self.seconds[1]},
            "graphs": {
                name: {
                    "equation": graph.equation(),
                    "tier": _tier(graph, self.place),
                }
                for name, graph in graphs.items()
            },
            "cells": [_cell_dict(cell) for cell in self.cells],
            "verdict": {
                "broken": len(self.broken),
                "not_reached": sum(status(cell) == NOT_REACHED for cell in self.cells),
                "slower": {name: [len(found), of] for name in BASELINES for found, of in [self.slower(name)]},
            },
        }


def status(cell: Cell) -> str:
    """``right`` or ``timed``; otherwise ``wrong``, or the beginning of the problem, such as ``not reached``."""
    measurement = cell.measurement
    if measurement.wrong:
        return "wrong"
    if measurement.problem:
        return measurement.problem.partition(":")[0]
    return (
        "timed"
        if measurement.forward_backward
        else "right"
        if measurement.error is not None
        else "not judged"
    )


def forward(cell: Cell) -> float | None:
    """Seconds of forward."""
    return _median(cell.measurement.forward)


def both(cell: Cell) -> float | None:
    """Seconds of forward and backward."""
    return _median(cell.measurement.forward_backward)


def backward(cell: Cell) -> float | None:
    """Seconds of backward: the difference of the two."""
    whole, part = both(cell), forward(cell)
    return None if whole is None or part is None else whole - part


def input_bytes(job: Job) -> int:
    """Bytes of the inputs that the graph of a job uses."""
    return len(job.graph.inputs) * math.prod(job.setting.shape) * DTYPES[job.setting.dtype].itemsize


def in_order(work: Work, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Cells in the order of the work, and of the forms in a job, however they came."""
    numbers = {job: number for number, job in enumerate(work.jobs)}
    return tuple(sorted(cells, key=lambda cell: (numbers[cell.job], cell.job.forms.index(cell.form))))


def _tier(graph: AttentionGraph, place: Place) -> str:
    """Of the generated form; empty where it does not compile, which its cells say already."""
    try:
        return compile_attention(graph, place.backend).plan.tier
    except Exception:
        return ""


def _median(timing: Timing | None) -> float | None:
    return None if timing is None else timing.median


def _cell_dict(cell: Cell) -> dict[str, Any]:
    setting, measurement = cell.job.setting, cell.measurement
    return {
        "kind": cell.job.kind,
        "graph": cell.job.graph.name,
        "seq_len": setting.seq_len,
        "head_dim": setting.head_dim,
        "heads": setting.heads,
        "batch": setting.batch,
        "dtype": setting.dtype,
        "masked": setting.masked,
        "form": cell.form,
        "status": status(cell),
        "problem": measurement.problem,
        "error": _finite(measurement),
        "allowed": measurement.allowed,
        "inexact": measurement.inexact,
        "forward": _seconds(measurement.forward),
        "forward_backward": _seconds(measurement.forward_backward),
        "backward_median": backward(cell),
        "peak_bytes": cell.peak_bytes,
        "input_bytes": input_bytes(cell.job),
    }


def _finite(measurement: Measurement) -> float | None:
    error = measurement.error
    return error if error is not None and math.isfinite(error) else None


def _seconds(timing: Timing | None) -> dict[str, Any] | None:
    return None if timing is None else {"median": timing.median, "rounds": list(timing.seconds)}
