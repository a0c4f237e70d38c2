"""The results as a page of Markdown (``templates/results.md.jinja``): every number comes from the results file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.rendering import render
from runtime.results.settings import (
    ABLATIONS,
    AUTOBERT_ZERO,
    BERT,
    COMPARED,
    DESCRIPTIONS,
    LONG,
    PLAIN_BETWEEN,
)

Results = Mapping[str, Any]
Table = dict[str, list[Any]]


def format_page(results: Results) -> str:
    """The page.

    Args:
        results: what `runtime.results.experiment.Experiment.run` returned, or its JSON.
    """
    tables = {
        "comparison": _comparison(results),
        "tuning": _tuning(results),
        "structure": _structure(results) if "ablations" in results else None,
        "shares": _shares(results) if "ablations" in results else None,
        "length": _length(results) if "long" in results else None,
        "masks": _masks(results) if "masks" in results else None,
    }
    return render("results.md.jinja", **{**results, **tables})


def _comparison(results: Results) -> Table:
    all_tasks = results.get("tasks", {model: {} for model in COMPARED})
    names = {task: [name for name in runs[0] if name != "seed"] for task, runs in all_tasks[BERT].items()}
    rows = []
    for model in COMPARED:
        runs, tasks = results["pretraining"][model], all_tasks[model]
        scores = [_spread(tasks[task], metric) for task, metrics in names.items() for metric in metrics]
        rows.append([DESCRIPTIONS[model], f"{runs[0]['parameters']:,}", *_learnt(runs), *scores])
    titles = [f"{task} {metric}" for task, metrics in names.items() for metric in metrics]
    return {
        "titles": ["model", "parameters", "held-out loss", "accuracy of hidden tokens", *titles],
        "rows": rows,
    }


def _tuning(results: Results) -> Table:
    rows = []
    for model in COMPARED:
        for trial in results["tuning"][model]:
            setting = trial["setting"]
            kept = "kept" if setting == results["chosen"][model] else ""
            numbers = [f"{setting['learning_rate']:g}", f"{setting['warm_up']:g}", *_learnt([trial])]
            rows.append([_short(model), *numbers, kept])
    return {"titles": ["model", "learning rate", "warm-up", "held-out loss", "accuracy", ""], "rows": rows}


def _structure(results: Results) -> Table:
    runs = results["pretraining"] | results["ablations"]
    rows = [[DESCRIPTIONS[model], *_learnt(runs[model])] for model in (BERT, AUTOBERT_ZERO, *ABLATIONS)]
    return {"titles": ["model", "held-out loss", "accuracy of hidden tokens"], "rows": rows}


def _shares(results: Results) -> dict[str, float | bool]:
    """What convolutions and what evolved attention take off the loss; positive where they help."""
    runs = results["pretraining"] | results["ablations"]
    losses = {model: [run["loss"] for run in runs[model]] for model in (BERT, PLAIN_BETWEEN, AUTOBERT_ZERO)}
    bert, between, winner = (statistics.mean(values) for values in losses.values())
    return {
        "total": bert - winner,
        "convolutions": bert - between,
        "evolved": between - winner,
        "told_apart": told_apart(losses[PLAIN_BETWEEN], losses[AUTOBERT_ZERO]),
    }


def _length(results: Results) -> Table:
    steps = results["settings"]["steps"]
    longer = steps * results["settings"]["long"]
    titles = [
        "model",
        f"accuracy, {steps:,} steps",
        f"accuracy, {longer:,} steps",
        "loss",
        "accuracy on the way",
    ]
    rows = []
    for model in LONG:
        short, run = results["pretraining"][model], results["long"][model]
        on_the_way = ", ".join(f"{accuracy:.3f}" for _, _, accuracy in run["curve"])
        numbers = [f"{run['accuracy']:.3f}", f"{run['loss']:.3f}", on_the_way]
        rows.append([_short(model), _spread(short, "accuracy"), *numbers])
    return {"titles": titles, "rows": rows}


def _masks(results: Results) -> dict[str, Any]:
    runs = results["masks"]
    metric = [name for name in runs["keys"][0] if name != "seed"][-1]
    ours, theirs = ([run[metric] for run in runs[name]] for name in ("keys", "query_rows"))
    return {
        "metric": metric,
        "masked_keys": _spread(runs["keys"], metric),
        "masked_query_rows": _spread(runs["query_rows"], metric),
        "difference": statistics.mean(ours) - statistics.mean(theirs),
        "told_apart": told_apart(ours, theirs),
    }


def told_apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two means differ by more than twice the standard error of their difference (Welch's).

    Example:
        >>> told_apart([1.0, 1.1, 0.9], [2.0, 2.1, 1.9]), told_apart([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])
        (True, False)
    """
    if min(len(first), len(second)) < 2:
        return False
    error = math.sqrt(statistics.variance(first) / len(first) + statistics.variance(second) / len(second))
    return abs(statistics.mean(first) - statistics.mean(second)) > 2.0 * error


def _learnt(runs: Sequence[Mapping[str, float]]) -> list[str]:
    return [_spread(runs, "loss"), _spread(runs, "accuracy")]


def _spread(runs: Sequence[Mapping[str, float]], name: str) -> str:
    """Mean and standard deviation of a number over several runs; the number itself of a single one."""
    values = [run[name] for run in runs]
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _short(model: str) -> str:
    """What stands before the explanation in the description of a model."""
    return DESCRIPTIONS[model].split(":")[0]
