"""`python -m runtime.probe_table`: which layers solve which probe, in the time that a search gives."""

from __future__ import annotations

import statistics
from random import Random
from typing import Annotated

import torch
import typer

from evolution import random_backbone
from runtime.calibration.backbones import known_backbones
from runtime.console import make_console, prepare_output, say
from runtime.ending import end_well
from runtime.probe_training import ProbeTraining, train_on_probe
from runtime.probes import PROBES
from runtime.proxy_config import PROXY_SPACE

SHOWN = ("plain-behind-convolution", "convolutions", "bert", "linear-behind-convolution")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def probe_table(
    steps: Annotated[int, typer.Option(help="Of a training.")] = ProbeTraining.steps,
    seeds: Annotated[int, typer.Option(help="Trainings of each backbone.")] = 3,
) -> None:
    """Accuracy of hidden tokens on each probe: mean over seeds and standard deviation. One thread, some minutes."""
    torch.set_num_threads(1)
    console = make_console()
    known = known_backbones(PROXY_SPACE)
    backbones = {name: known[name] for name in SHOWN} | {"random": random_backbone(Random(0), PROXY_SPACE)}
    say(console, f"| {steps} steps | " + " | ".join(PROBES) + " |")
    say(console, "| --- |" + " --- |" * len(PROBES))
    chances = " | ".join(f"{1 / probe.answers:.2f}" for probe in PROBES.values())
    say(console, f"| guessing | {chances} |")
    for name, backbone in backbones.items():
        cells = []
        for probe in PROBES.values():
            training = ProbeTraining(steps=steps)
            found = [train_on_probe(backbone, probe, s, training)[0]["accuracy"] for s in range(seeds)]
            spread = f" ± {statistics.stdev(found):.2f}" if seeds > 1 else ""
            cells.append(f"{statistics.mean(found):.2f}{spread}")
        say(console, f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    prepare_output()
    end_well(app)
