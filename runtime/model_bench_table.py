"""The benchmark of a model as text: tokens a second, and where the time of a training step goes."""

from __future__ import annotations

from runtime.bench_table import aligned
from runtime.model_bench import BERT, GENERATED, ModelBenchmark, PartRow
from runtime.model_parts import ORDER


def format_model_table(result: ModelBenchmark) -> str:
    """The whole benchmark as plain text."""
    setting, machine = result.setting, result.machine
    head = "masked language models" if setting.head else "base models"
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}",
        f"{result.name} as exported ({result.parameters[GENERATED]:,} parameters) against BERT of transformers "
        f"with SDPA ({result.parameters[BERT]:,})",
        f"{head}, batch {setting.batch}, float32; medians of {setting.rounds} interleaved rounds",
        "",
        "tokens a second",
        *_speeds(result),
    ]
    for row in result.parts:
        lines += ["", f"milliseconds of a training step, {row.seq_len} tokens, full mask", *_parts(row)]
    return "\n".join(lines)


def _speeds(result: ModelBenchmark) -> list[str]:
    body = [
        [
            f"{row.what}, {row.seq_len} tokens, {row.mask} mask",
            *(f"{row.tokens_per_second(model):,.0f}" for model in (BERT, GENERATED)),
            f"{row.ratio:.2f}x",
            f"{max(timing.spread for timing in row.times.values()):.0%}",
        ]
        for row in result.rows
    ]
    return aligned(["", BERT, GENERATED, "ratio", "quartiles apart"], body)


def _parts(row: PartRow) -> list[str]:
    models = (BERT, GENERATED)
    shown = [part for part in ORDER if any(row.times[model].of(part) > 0.0 for model in models)]
    body = []
    for part in shown:
        cells = [part]
        for model in models:
            times = row.times[model]
            cells += [_cell(times.forward.get(part)), _cell(times.backward.get(part))]
            cells.append(f"{times.of(part) / times.total:.0%}" if times.of(part) else "-")
        body.append(cells)
    totals = ["all"]
    for model in models:
        times = row.times[model]
        totals += [_cell(sum(times.forward.values())), _cell(sum(times.backward.values())), ""]
    head = ["", *(cell for model in models for cell in (f"{model}: forward", "backward", "of all"))]
    return aligned(head, [*body, totals])


def _cell(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:,.1f}"
