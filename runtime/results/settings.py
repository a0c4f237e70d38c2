"""What `make results` does: sizes, steps, seeds, and the models that are compared."""

from __future__ import annotations

from dataclasses import dataclass

from graphir import AttentionGraph, AttentionLayer, Backbone, InputError, presets


@dataclass(frozen=True)
class ResultsSettings:
    """Sizes and times of the comparison, equal for all models. The defaults take under two hours on two cores.

    Attributes:
        hidden_size, heads, ffn_size: of every model; layers are the paper's twelve.
        vocab_size: tokens of the tokenizer that all models share.
        seq_len: tokens of a sequence in pretraining, and at most in fine-tuning.
        batch_size: sequences of a step.
        steps: of a pretraining.
        learning_rates: tried with seed 0 for each compared model; the one with the lowest held-out loss is kept.
        warm_up: part of the steps in which the learning rate rises.
        other_warm_ups: tried for BERT alone, at its best learning rate.
        seeds: of pretraining, each fine-tuned once on each task.
        long: how many times longer the one long training of BERT and AutoBERT-Zero is.
        candidates, warm_up_steps, candidate_steps: of the search.
        epochs: passes over the data of a task in fine-tuning, by task.
        task_learning_rate, task_batch_size: of fine-tuning.
        mask_seeds: of the comparison of masks on MRPC.
    """

    hidden_size: int = 64
    heads: int = 4
    ffn_size: int = 256
    vocab_size: int = 4000
    seq_len: int = 128
    batch_size: int = 8
    steps: int = 2000
    learning_rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    warm_up: float = 0.3
    other_warm_ups: tuple[float, ...] = (0.6,)
    seeds: tuple[int, ...] = (0, 1, 2)
    long: int = 2
    candidates: int = 24
    warm_up_steps: int = 200
    candidate_steps: int = 60
    epochs: tuple[tuple[str, float], ...] = (("SST-2", 0.1), ("MRPC", 2.0))
    task_learning_rate: float = 5e-4
    task_batch_size: int = 32
    mask_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        if not self.seeds or not self.learning_rates:
            raise InputError("seeds and learning_rates must name at least one value each")

    def sized(self, backbone: Backbone) -> Backbone:
        """``backbone`` in the size of the comparison; its name says nothing of a size."""
        return Backbone(backbone.layers, self.hidden_size, self.heads, self.ffn_size, name=backbone.name)


QUICK = ResultsSettings(
    hidden_size=16,
    heads=2,
    ffn_size=32,
    vocab_size=300,
    seq_len=16,
    batch_size=4,
    steps=4,
    learning_rates=(1e-3, 2e-3),
    other_warm_ups=(0.6,),
    seeds=(0, 1),
    long=2,
    candidates=3,
    warm_up_steps=2,
    candidate_steps=2,
    epochs=(("SST-2", 1.0), ("MRPC", 1.0)),
    mask_seeds=(0, 1),
)
"""Runs through everything in a minute; its numbers mean nothing."""

BERT, AUTOBERT_ZERO, SEARCHED = "bert", "autobert-zero", "searched"
PLAIN_BETWEEN = "plain-between-convolutions"

COMPARED = (BERT, AUTOBERT_ZERO, SEARCHED)
LONG = (BERT, AUTOBERT_ZERO)
ABLATIONS = (PLAIN_BETWEEN,)

DESCRIPTIONS = {
    BERT: "BERT: twelve layers of plain attention",
    AUTOBERT_ZERO: "AutoBERT-Zero: convolutions and evolved attention in turn (the paper's winner)",
    SEARCHED: "the best of a search",
    PLAIN_BETWEEN: "AutoBERT-Zero with plain attention instead of the evolved one",
}


def known_backbones(settings: ResultsSettings) -> dict[str, Backbone]:
    """The backbones that need no search, in the size of the comparison, by name.

    Example:
        >>> [layer.kind for layer in known_backbones(QUICK)["autobert-zero"].layers[:3]]
        ['conv', 'attention', 'conv']
    """
    winner = presets.get("autobert-zero")
    plain = presets.get("bert/1")
    assert isinstance(winner, Backbone)
    assert isinstance(plain, AttentionGraph)
    between = [layer if layer.kind == "conv" else AttentionLayer(plain) for layer in winner.layers]
    found = {
        BERT: presets.get("bert"),
        AUTOBERT_ZERO: winner,
        PLAIN_BETWEEN: Backbone(tuple(between), name=PLAIN_BETWEEN),
    }
    return {name: settings.sized(backbone) for name, backbone in found.items()}  # type: ignore[arg-type]
