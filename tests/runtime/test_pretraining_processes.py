"""Several processes learn together what one would learn."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch.optim import AdamW

from graphir import Backbone, ConvLayer, presets
from runtime.pretraining.batches import Batches, make_masking
from runtime.pretraining.settings import Pretraining
from runtime.pretraining.starting_point import StartingPoint, make_model
from runtime.pretraining.text_source import open_text
from runtime.pretraining.token_file import Blocks
from runtime.pretraining.tokenised_text import tokenise_text
from runtime.training import MaskedLoss, decayed_matrices

BACKBONE = Backbone((ConvLayer(3), presets.get("bert").layers[0]), 16, 2, 32, name="tiny")


def launch(processes, *arguments):
    """On CPUs ``accelerate launch`` starts one process alone; torch's own launcher sets up several in the same way."""
    return subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                str(processes),
            ),
            *("-m", "opnas", "pretrain", *map(str, arguments)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def by_hand(settings, text, folder):
    """Two processes, one after the other: the mean of their losses, AdamW."""
    tokenised = tokenise_text(open_text(text), folder, settings.vocab_size)
    blocks = Blocks(tokenised.file, settings.seq_len, "text")
    masking = make_masking(settings.masking, tokenised.tokenizer)
    shares = [Batches(blocks, masking, settings, process, 2) for process in range(2)]
    model = make_model(StartingPoint(BACKBONE), settings, tokenised.tokenizer.get_vocab_size())
    objective, weights = MaskedLoss(model), list(model.parameters())
    optimizer = AdamW(decayed_matrices(weights, settings.weight_decay), betas=(0.9, settings.beta2))
    losses = []
    for step in range(settings.steps):
        loss = sum(objective(share.of_step(step)[0]) for share in shares) / 2
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.long
def test_two_processes_learn_together(tmp_path, corpus_file):
    BACKBONE.save(tmp_path / "tiny.json")
    settings = Pretraining(
        steps=6, seq_len=32, batch_size=8, vocab_size=300, learning_rate=1e-2, dropout=0.0, device="cpu"
    )
    command = [tmp_path / "tiny.json", "--text", corpus_file, "--out", tmp_path / "out", "--device", "cpu"]
    for name in ("steps", "seq_len", "batch_size", "vocab_size", "learning_rate", "dropout"):
        command += [f"--{name.replace('_', '-')}", getattr(settings, name)]
    done = launch(2, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pretrained in") == 1
    report = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    # float32 gradients summed in another order, through six steps of Adam.
    assert report["plan"]["processes"] == 2
    assert report["losses"] == pytest.approx(by_hand(settings, corpus_file, tmp_path / "tokens"), rel=1e-3)
    alone = launch(1, *command, "--resume")
    assert alone.returncode != 0
    assert "another number of processes" in alone.stderr
