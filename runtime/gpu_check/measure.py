"""One job: every form is judged on the device, and those that are right are timed against each other.

Whatever happens to a form stands in its cell, and the next one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from runtime.accuracy import Attention, IncomparableError, Inputs
from runtime.bench import COMPILED, EAGER, GENERATED, Measurement, first_line
from runtime.gpu_check.clock import peak_bytes, release_memory, time_forms
from runtime.gpu_check.forms import AUTOTUNED, COMPILED_FORMS, FLEX, SDPA, Place, make_form
from runtime.gpu_check.judge import Judge, hard_inputs, make_judge, setting_inputs
from runtime.gpu_check.work import Cell, Job

NOT_REACHED = "not reached"
OUT_OF_MEMORY = "out of memory"

LEAST_SECONDS = {GENERATED: 4.0, EAGER: 2.0, SDPA: 2.0, COMPILED: 20.0, FLEX: 20.0, AUTOTUNED: 90.0}
"""A form is begun only while this much time is left: about what it may take, compiling included."""


def measure(job: Job, place: Place, seconds_left: Callable[[], float] = lambda: float("inf")) -> list[Cell]:
    """A cell for every form of ``job``.

    Args:
        job: what to measure.
        place: where.
        seconds_left: how much time is left; forms that do not fit are not reached.
    """
    left = seconds_left()
    # Ours alone beside baselines that do not fit would tell nothing.
    compared = [form for form in job.forms if form != GENERATED] or [GENERATED]
    if left < LEAST_SECONDS[GENERATED] or all(left < LEAST_SECONDS[form] for form in compared):
        return without(job, NOT_REACHED)
    if COMPILED_FORMS.intersection(job.forms):
        # All graphs share the code of a few functions: without a reset, torch.compile takes them for recompilations
        # of one and gives up after a few. Where it is not needed, importing the compiler would take seconds.
        torch.compiler.reset()
    release_memory(place.device)
    draw = hard_inputs if job.kind == "correct" and job.setting.masked else setting_inputs
    judge: Judge | None = None
    try:
        inputs = draw(job.graph, job.setting, place.device)
        judge = make_judge(job.graph, inputs)
    except IncomparableError as error:
        if job.kind != "memory":  # memory may be told of a result that nothing can judge, time may not
            return without(job, f"not judged: {error}")
    except Exception as error:
        return without(job, f"not judged: {_problem(error)}")

    cells: list[Cell] = []
    right: dict[str, Attention] = {}
    for name in job.forms:
        if seconds_left() < LEAST_SECONDS[name]:
            cells.append(Cell(job, name, Measurement(problem=NOT_REACHED)))
            continue
        try:
            form = make_form(name, job.graph, inputs, place)
            cells.append(_judged(job, name, form, inputs, judge, place))
            right[name] = form
        except Exception as error:  # compilers fail in as many ways as there are compilers
            cells.append(Cell(job, name, Measurement(problem=_problem(error))))
        if cells[-1].measurement.problem:
            right.pop(name, None)
            release_memory(place.device)
    return _timed(job, cells, right, inputs, place) if job.kind == "time" else cells


def without(job: Job, problem: str) -> list[Cell]:
    """The cells of a job that did not run."""
    return [Cell(job, form, Measurement(problem=problem)) for form in job.forms]


def _judged(job: Job, name: str, form: Attention, inputs: Inputs, judge: Judge | None, place: Place) -> Cell:
    """Run a form, compare its result and gradients with the truth, and if they are right see what memory they take."""
    found = inputs.forward_backward(form)
    measurement = judge.measure(found) if judge else Measurement()
    del found
    peak = None
    if job.kind != "correct" and not measurement.problem:
        peak = peak_bytes(lambda: inputs.forward_backward(form), place.device)
    return Cell(job, name, measurement, peak)


def _timed(
    job: Job, cells: list[Cell], right: dict[str, Attention], inputs: Inputs, place: Place
) -> list[Cell]:
    """The cells with the times of the forms that are ``right``.

    Forward is timed as in training, with what it keeps for the backward: a backward is then the difference.
    """
    forward = {name: partial(form, *inputs.operands, inputs.key_mask) for name, form in right.items()}
    both = {name: partial(inputs.forward_backward, form) for name, form in right.items()}
    try:
        forward_times = time_forms(forward, job.setting.rounds, place.device)
        both_times = time_forms(both, job.setting.rounds, place.device)
    except Exception as error:
        problem = f"failed: while it was timed, {_problem(error)}"
        return [
            replace(cell, measurement=replace(cell.measurement, problem=problem))
            if cell.form in right
            else cell
            for cell in cells
        ]
    return [
        replace(
            cell,
            measurement=replace(
                cell.measurement,
                forward=forward_times.get(cell.form),
                forward_backward=both_times.get(cell.form),
            ),
        )
        for cell in cells
    ]


def _problem(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower():
        return OUT_OF_MEMORY
    return f"failed: {first_line(error)}"
