"""A report as text: what is right, what memory is held, how long everything takes, what is missing, and the verdict."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from runtime.bench_table import aligned, geometric_mean
from runtime.gpu_check.forms import BASELINES
from runtime.gpu_check.measure import NOT_REACHED
from runtime.gpu_check.report import Report, backward, both, forward, input_bytes, status
from runtime.gpu_check.work import Cell, Job

MOST_NAMED = 8
"""How many slower cells the verdict names for each baseline; the table shows all."""

LINE = 110
"""Columns of a line of running text."""

SPARED = ("not reached", "not timed")
"""Outcomes that are listed after the tables instead of in them."""


def format_report(report: Report) -> str:
    """The whole report; the verdict stands last."""
    machine = report.machine
    taken, allowed = report.seconds
    lines = [
        f"{machine['device']}, torch {machine['torch']}, triton {machine['triton']}, "
        f"backend {report.place.backend}; {taken:.0f} s of {allowed:.0f} s",
        *_section(
            "is it right: errors against float64 relative to the scale of a result (allowed)", _checks(report)
        ),
        *_section("peak memory of forward and backward above the inputs", _memory(report)),
        *_section(
            "milliseconds; 'speed' is how many times faster generated is, forward and backward, in the same rounds",
            _times(report),
        ),
        *_section("what went wrong", _problems(report)),
        *_section("not reached", _not_reached(report)),
        *_section("verdict", _verdict(report)),
    ]
    return "\n".join(lines)


def cell_line(cell: Cell) -> str:
    """A cell with its numbers in one line, for a log that may be cut off."""
    times = "".join(
        f", {name} {_milliseconds(seconds)} ms"
        for name, seconds in (("forward", forward(cell)), ("both", both(cell)))
        if seconds is not None
    )
    peak = "" if cell.peak_bytes is None else f", peak {_mebibytes(cell.peak_bytes)} MiB"
    outcome = cell.measurement.problem or f"{status(cell)}, error {_error(cell)}{times}{peak}"
    return f"{cell.job.kind} {cell.job.graph.name} {_size(cell.job)}: {cell.form}: {outcome}"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _checks(report: Report) -> list[str]:
    cells = [cell for cell in report.cells if cell.job.kind == "correct" and status(cell) not in SPARED]
    body = []
    for cell in cells:
        setting = cell.job.setting
        padding = "NaN padding" if setting.masked else "no mask"
        body.append(
            [
                cell.job.graph.name,
                setting.dtype,
                str(setting.seq_len),
                str(setting.head_dim),
                padding,
                _error(cell),
            ]
        )
    return aligned(["graph", "type", "S", "D", "padding", "error"], body) if body else []


def _memory(report: Report) -> list[str]:
    body = []
    for cell in report.cells:
        if cell.job.kind == "memory" and status(cell) not in SPARED:
            inputs = input_bytes(cell.job)
            peak = cell.peak_bytes
            times = "-" if peak is None else f"{peak / inputs:.2f}x"
            body.append(
                [
                    cell.job.graph.name,
                    str(cell.job.setting.seq_len),
                    _mebibytes(inputs),
                    _mebibytes(peak),
                    times,
                    _error(cell),
                ]
            )
    return aligned(["graph", "S", "inputs MiB", "peak MiB", "of inputs", "error"], body) if body else []


def _times(report: Report) -> list[str]:
    speeds = {(c.job, c.baseline): f"{c.speedup:.2f}x" for c in report.comparisons}
    body = []
    for cell in report.cells:
        if cell.job.kind != "time" or status(cell) in SPARED:
            continue
        setting = cell.job.setting
        body.append(
            [
                cell.job.graph.name,
                str(setting.seq_len),
                str(setting.head_dim),
                f"{setting.batch}x{setting.heads}",
                "mask" if setting.masked else "",
                cell.form,
                *(_milliseconds(time(cell)) for time in (forward, backward, both)),
                speeds.get((cell.job, cell.form), ""),
                _mebibytes(cell.peak_bytes),
                _error(cell),
            ]
        )
    head = ["graph", "S", "D", "BxH", "", "form", "forward", "backward", "both", "speed", "peak MiB", "error"]
    return aligned(head, body) if body else []


def _problems(report: Report) -> list[str]:
    return [
        cell_line(cell) for cell in report.cells if cell.measurement.problem and status(cell) != NOT_REACHED
    ]


def _not_reached(report: Report) -> list[str]:
    """What was not reached, by size and forms: the graphs."""
    missing: dict[Job, list[str]] = {}
    reasons: dict[Job, str] = {}
    for cell in report.cells:
        if status(cell) == NOT_REACHED:
            missing.setdefault(cell.job, []).append(cell.form)
            reasons[cell.job] = cell.measurement.problem.partition(": ")[2]
    graphs: dict[str, list[str]] = {}
    for job, forms in missing.items():
        because = f" ({reasons[job]})" if reasons[job] else ""
        graphs.setdefault(f"{job.kind} {_size(job)}: {', '.join(forms)}{because}", []).append(job.graph.name)
    return [
        line
        for what, names in graphs.items()
        for line in textwrap.wrap(f"{what}: {', '.join(names)}", LINE, subsequent_indent="    ")
    ]


def _verdict(report: Report) -> list[str]:
    checked = [status(cell) for cell in report.cells if cell.job.kind == "correct"]
    reached = [outcome for outcome in checked if outcome not in SPARED]
    lines = [
        f"right: {reached.count('right')} of {len(reached)} checks that were run, "
        f"{reached.count('not judged')} of them on inputs that nothing can judge"
    ]
    lines += [f"BROKEN: {cell_line(cell)}" for cell in report.broken]
    for baseline in BASELINES:
        slower, number = report.slower(baseline)
        if not number:
            lines.append(f"against {baseline}: nothing was timed")
            continue
        mean = geometric_mean([c.speedup for c in report.comparisons if c.baseline == baseline])
        lines.append(
            f"against {baseline}: generated is slower in {len(slower)} of {number} cells, "
            f"{mean:.2f} times as fast in the geometric mean"
        )
        for found in slower[:MOST_NAMED]:
            lines.append(f"    {found.speedup:.2f}x  {found.job.graph.name} {_size(found.job)}")
        if len(slower) > MOST_NAMED:
            lines.append(f"    and {len(slower) - MOST_NAMED} more, see the table")
    left_out = sum(status(cell) == NOT_REACHED for cell in report.cells)
    lines.append(f"not reached: {left_out} of {len(report.cells)} cells")
    return lines


def _size(job: Job) -> str:
    setting = job.setting
    return f"S={setting.seq_len} D={setting.head_dim} {setting.dtype}{' masked' if setting.masked else ''}"


def _error(cell: Cell) -> str:
    measurement = cell.measurement
    if measurement.error is None:
        return status(cell)
    mark = "WRONG " if measurement.wrong else "! " if measurement.inexact else ""
    return f"{mark}{measurement.error:.1e} ({measurement.allowed:.1e})"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:,.1f}"
