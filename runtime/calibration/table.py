"""A calibration as text: how well each proxy ranks, and what each backbone learnt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.calibration.calibrate import PARAMETERS

MARGIN = 0.15
"""By how much a proxy should rank better than the number of parameters does."""


def format_agreements(results: Mapping[str, Any]) -> str:
    """Markdown tables of what `calibrate` returned, and a sentence on the default proxy."""
    rows = results["agreement"]
    targets = list(dict.fromkeys(row["long training"] for row in rows))
    proxies = list(dict.fromkeys(row["proxy"] for row in rows))
    tau = {(row["proxy"], row["long training"]): row for row in rows}
    lines = ["| proxy | " + " | ".join(f"tau with long {target}" for target in targets) + " |"]
    lines.append("| --- |" + " --- |" * len(targets))
    for proxy in proxies:
        cells = [tau[proxy, target] for target in targets]
        shown = (f"{cell['tau']:.2f} ({cell['low']:.2f} to {cell['high']:.2f})" for cell in cells)
        lines.append(f"| {proxy} | " + " | ".join(shown) + " |")
    lines += [
        "",
        verdict(results),
        "",
        "| backbone | layers | long loss | long recall | proxy loss | recall |",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in sorted(results["backbones"], key=lambda row: row["long"]["mlm"]["loss"]):
        layers = ", ".join(f"`{layer}`" for layer in row["layers"])
        numbers = (
            f"{row['long']['mlm']['loss']:.3f}",
            f"{row['long']['recall']['accuracy']:.2f}",
            f"{row['inherited']:.3f}",
            f"{row['probes']['recall']:.2f}",
        )
        lines.append(f"| {row['name']} | {layers} | " + " | ".join(numbers) + " |")
    minutes = results["core_minutes"]
    return "\n".join(
        [*lines, "", f"{len(results['backbones'])} backbones, {minutes:.0f} minutes of one core."]
    )


def read_verdict(path: Path) -> str | None:
    """What the calibration in a run's folder says of its proxy; None where there is none that can be read."""
    try:
        return verdict(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def verdict(results: Mapping[str, Any]) -> str:
    """Whether the first proxy ranks better than the number of parameters does, judged by the first target."""
    first = results["agreement"][0]
    target = first["long training"]
    (parameters,) = (
        row["tau"]
        for row in results["agreement"]
        if row["proxy"] == PARAMETERS and row["long training"] == target
    )
    better = first["tau"] - parameters
    taus = f"tau {first['tau']:.2f}, the number of parameters with {parameters:.2f}"
    head = f"The proxy {first['proxy']} ranks with {taus}"
    if better < MARGIN:
        return (
            f"{head}: it is hardly better than counting. Choose another --proxy, or give candidates more steps "
            "(--candidate-steps, --probe-steps)."
        )
    return f"{head}."
