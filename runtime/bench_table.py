"""A benchmark as text: one line a graph, geometric means below, and what every number means."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtime.bench import COMPILED, EAGER, GENERATED, Benchmark, BenchmarkRow, Measurement

WHATS = {"forward_backward": "forward + backward", "forward": "forward"}

SLOWEST = 10
"""Of more graphs than these, the slowest ones are listed with their formulas."""


def format_table(result: Benchmark) -> str:
    """The whole benchmark as plain text of at most 110 columns, formulas aside."""
    setting, machine = result.setting, result.machine
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}",
        f"batch {setting.batch}, heads {setting.heads}, tokens {setting.seq_len}, head dimension "
        f"{setting.head_dim}, {setting.dtype}, {'with a key mask' if setting.masked else 'no key mask'}; "
        f"medians of {setting.rounds} interleaved rounds; generated code: {setting.backend}",
    ]
    if setting.judged_heads is not None and setting.judged_heads < setting.heads:
        lines.append(f"judged on the first {setting.judged_heads} of {setting.heads} heads of every sequence")
    for what, title in WHATS.items():
        if what == "forward_backward" or setting.forward:
            lines += ["", f"{title}, milliseconds", *_section(result.rows, what)]
            lines += _slowest(result.rows, what)
    lines += ["", *_errors(result.rows)]
    problems = [
        f"{row.name}: {form}: {problem}" if form else f"{row.name}: {problem}"
        for row in result.rows
        for form, problem in [("", row.problem), *((name, m.problem) for name, m in row.forms.items())]
        if problem
    ]
    if problems:
        lines += ["", "not timed:", *(f"  {problem}" for problem in problems)]
    return "\n".join(lines)


def geometric_mean(ratios: Sequence[float]) -> float:
    """The geometric mean of positive numbers.

    Example:
        >>> round(geometric_mean([1.0, 4.0]), 6)
        2.0
    """
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _section(rows: Sequence[BenchmarkRow], what: str) -> list[str]:
    compiles = any(COMPILED in row.forms for row in rows)
    forms = [EAGER, *([COMPILED] if compiles else []), GENERATED]
    baselines = forms[:-1]
    head = ["graph", "tier", *forms, *(f"vs {form}" for form in baselines)]
    body = []
    spread = 0.0
    for row in rows:
        cells = [row.name, row.tier]
        for form in forms:
            measurement = row.forms.get(form, Measurement())
            timing = getattr(measurement, what)
            cells.append(_milliseconds(timing.median) if timing else _absent(measurement))
            spread = max(spread, timing.spread if timing else 0.0)
        cells += [_times(row.speedup(form, what)) for form in baselines]
        body.append(cells)
    means = []
    for form in baselines:
        ratios = [ratio for row in rows if (ratio := row.speedup(form, what)) is not None]
        means.append(_times(geometric_mean(ratios)) if ratios else "-")
    if len(rows) > 1:
        body.append(["geometric mean", "", *("" for _ in forms), *means])
    return [*aligned(head, body), f"quartiles lie at most {spread:.0%} of a median apart"]


def _slowest(rows: Sequence[BenchmarkRow], what: str) -> list[str]:
    """Of many graphs those whose generated form gains least over eager evaluation, the slowest first."""
    ratios = [(ratio, row) for row in rows if (ratio := row.speedup(EAGER, what)) is not None]
    if len(ratios) <= SLOWEST:
        return []
    ratios.sort(key=lambda pair: pair[0])
    slower = sum(ratio < 1.0 for ratio, _ in ratios)
    return [
        f"minimum {_times(ratios[0][0])}; {slower} of {len(ratios)} slower than {EAGER}; the slowest against it:",
        *(f"  {_times(ratio)}  {row.name}: {row.equation}" for ratio, row in ratios[:SLOWEST]),
    ]


def _errors(rows: Sequence[BenchmarkRow]) -> list[str]:
    forms = [form for form in (EAGER, COMPILED, GENERATED) if any(form in row.forms for row in rows)]
    body = [[row.name, *(_error(row.forms.get(form, Measurement())) for form in forms)] for row in rows]
    lines = [
        "error against float64, result or gradient, relative to its scale (allowed)",
        *aligned(["graph", *forms], body),
    ]
    if any(measurement.inexact for row in rows for measurement in row.forms.values()):
        lines.append("! less exact than allowed, within what rounding explains")
    return lines


def _error(measurement: Measurement) -> str:
    if measurement.error is None:
        return "-"
    mark = "! " if measurement.inexact else ""
    return f"{mark}{measurement.error:.1e} ({measurement.allowed:.1e})"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _absent(measurement: Measurement) -> str:
    return "wrong" if measurement.wrong else "failed" if measurement.problem else "-"


def aligned(head: list[str], body: list[list[str]]) -> list[str]:
    """Columns of equal width, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *body]
    ]
