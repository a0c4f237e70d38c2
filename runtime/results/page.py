"""The results as a page of Markdown: every number in it comes from the results file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.results.settings import ABLATIONS, BERT, COMPARED, DESCRIPTIONS


def format_page(results: Mapping[str, Any]) -> str:
    """The page.

    Args:
        results: what `runtime.results.experiment.run_experiment` returned, or its JSON.
    """
    return "\n\n".join(
        [
            _head(results),
            _comparison(results),
            _tuning(results),
            _structure(results),
            _length(results),
            _masks(results),
            _foot(results),
        ]
    )


def _head(results: Mapping[str, Any]) -> str:
    settings, data = results["settings"], results["data"]
    return f"""# Results, scaled down

**These are scaled-down results**: models of hidden size {settings["hidden_size"]} with 12 layers, {settings["steps"]:,} steps of
{settings["batch_size"]} sequences of {settings["seq_len"]} tokens, on {data["train_bytes"] / 1e6:.1f} MB of text. The paper trains models of hidden size 768 for
days. What holds here need not hold there.

All models have equal hidden size, heads ({settings["heads"]}), feed-forward size ({settings["ffn_size"]}), layers, tokenizer ({data["vocab_size"]:,} tokens), text, steps and
batches, and the same {len(settings["learning_rates"])} learning rates were tried for each. Pretraining text: `{data["train"]}`; held out: `{data["held_out"]}`.

Made by `make results DATA=<folder>` ({results["core_minutes"]:.0f} minutes of work, {results["workers"]} processes at a time; {results["machine"]})."""


def _comparison(results: Mapping[str, Any]) -> str:
    tasks = [task for task, _ in results["settings"]["epochs"]]
    metrics = {task: _main_metrics(results, task) for task in tasks}
    titles = [f"{task} {metric}" for task in tasks for metric in metrics[task]]
    rows = []
    for model in COMPARED:
        runs = results["pretraining"][model]
        cells = [
            DESCRIPTIONS[model],
            f"{runs[0]['parameters']:,}",
            _spread([run["loss"] for run in runs]),
            _spread([run["accuracy"] for run in runs]),
        ]
        for task in tasks:
            for metric in metrics[task]:
                cells.append(_spread([run[metric] for run in results["tasks"][model][task]]))
        rows.append(cells)
    searched = results["searched"]
    return (
        f"""## The comparison

Mean and standard deviation over {len(results["settings"]["seeds"])} seeds of pretraining, each fine-tuned once on each task and judged on its dev set. Loss in
nats a hidden token, of held-out text. Always answering the majority gives {_majority(results, tasks)}.

"""
        + _table(["model", "parameters", "held-out loss", "accuracy of hidden tokens", *titles], rows)
        + f"""

The searched backbone is the best of {searched["candidates"]} candidates: {searched["summary"]}."""
    )


def _tuning(results: Mapping[str, Any]) -> str:
    settings = results["settings"]
    rows = []
    for model in COMPARED:
        for trial in results["tuning"][model]:
            chosen = trial["setting"] == results["chosen"][model]
            mark = "kept" if chosen else ""
            rows.append(
                [
                    DESCRIPTIONS[model].split(":")[0],
                    f"{trial['setting']['learning_rate']:g}",
                    f"{trial['setting']['warm_up']:g}",
                    f"{trial['loss']:.3f}",
                    f"{trial['accuracy']:.3f}",
                    mark,
                ]
            )
    return f"""## Tuning

One seed each. BERT was also given other warm-ups at its best learning rate; the others had {settings["warm_up"]:g} of the steps alone.

""" + _table(["model", "learning rate", "warm-up", "held-out loss", "accuracy", ""], rows)


def _structure(results: Mapping[str, Any]) -> str:
    rows = []
    for model in (BERT, COMPARED[1], *ABLATIONS):
        runs = results["pretraining"][model]
        rows.append(
            [
                DESCRIPTIONS[model],
                _spread([run["loss"] for run in runs]),
                _spread([run["accuracy"] for run in runs]),
            ]
        )
    return (
        """## How much is structure

The ablations have AutoBERT-Zero's settings.

"""
        + _table(["model", "held-out loss", "accuracy of hidden tokens"], rows)
        + "\n\n"
        + _structure_sentence(results)
    )


def _structure_sentence(results: Mapping[str, Any]) -> str:
    losses = {
        model: [run["loss"] for run in results["pretraining"][model]]
        for model in (BERT, COMPARED[1], *ABLATIONS)
    }
    mean = {model: statistics.mean(values) for model, values in losses.items()}
    total = mean[BERT] - mean[COMPARED[1]]
    mixed = mean[BERT] - mean[ABLATIONS[0]]
    evolved = mean[ABLATIONS[0]] - mean[COMPARED[1]]
    verdict = (
        "apart" if _apart(losses[ABLATIONS[0]], losses[COMPARED[1]]) else "not told apart by their spread"
    )
    return (
        f"AutoBERT-Zero's loss is {total:.3f} below BERT's. Convolutions between layers of plain attention give {mixed:.3f} of it; "
        f"the evolved attention instead of plain attention gives {evolved:+.3f} (the two are {verdict})."
    )


def _length(results: Mapping[str, Any]) -> str:
    rows = []
    for model in COMPARED:
        short = statistics.mean(run["accuracy"] for run in results["pretraining"][model])
        run = results["long"][model]
        curve = ", ".join(f"{accuracy:.2f}" for _, _, accuracy in _thinned(run["curve"]))
        rows.append(
            [
                DESCRIPTIONS[model].split(":")[0],
                f"{short:.3f}",
                f"{run['accuracy']:.3f}",
                f"{run['loss']:.3f}",
                curve,
            ]
        )
    settings = results["settings"]
    return f"""## How much is length of training

One run each of {settings["long"]} times the steps, at the learning rate of above (one seed: no spread is known).

""" + _table(
        [
            "model",
            f"accuracy, {settings['steps']:,} steps",
            f"accuracy, {settings['steps'] * settings['long']:,} steps",
            "loss",
            "accuracy on the way",
        ],
        rows,
    )


def _masks(results: Mapping[str, Any]) -> str:
    keys, rows = (results["masks"][name] for name in ("keys", "query_rows"))
    metric = _main_metrics(results, "MRPC")[-1]
    ours, theirs = [run[metric] for run in keys], [run[metric] for run in rows]
    difference = statistics.mean(ours) - statistics.mean(theirs)
    says = (
        "so the mask explains a loss on this task here"
        if difference > 0 and _apart(ours, theirs)
        else "which the spread over seeds does not tell from zero: the mask alone does not explain here what the reproduction loses on the small tasks"
        if not _apart(ours, theirs)
        else "in the other direction: the mask does not explain here what the reproduction loses"
    )
    return f"""## The mask of the public reproduction

It masks padded query rows instead of padded keys. One checkpoint (AutoBERT-Zero, seed {results["settings"]["seeds"][0]}), fine-tuned on MRPC with {len(ours)} seeds: {metric}
{_spread(ours)} with keys masked, {_spread(theirs)} with query rows masked; the difference is {difference:+.3f}, {says}."""


def _foot(results: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"Versions: {versions}. Everything that was measured: [results.json](results.json).\n"


def _apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether means differ by more than twice the standard error of their difference (Welch)."""
    if min(len(first), len(second)) < 2:
        return False
    error = math.sqrt(statistics.variance(first) / len(first) + statistics.variance(second) / len(second))
    return abs(statistics.mean(first) - statistics.mean(second)) > 2.0 * error


def _main_metrics(results: Mapping[str, Any], task: str) -> list[str]:
    """Names of the metrics of a task, in their order."""
    return [name for name in results["tasks"][BERT][task][0] if name not in ("seconds", "seed")]


def _majority(results: Mapping[str, Any], tasks: Sequence[str]) -> str:
    return ", ".join(f"{results['data']['majority'][task]:.3f} on {task}" for task in tasks)


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation; the mean alone of a single value."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _thinned(curve: Sequence[Sequence[float]], most: int = 8) -> list[Sequence[float]]:
    """At most ``most`` points of a curve, the last among them."""
    stride = max(1, math.ceil(len(curve) / most))
    return list(curve[::-1][::stride][::-1])


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
