"""How alike the tokens of a sequence become from layer to layer: the paper's argument for mixing in convolutions.

Source: Gao et al. 2022 (arXiv 2107.07445), which measures the mean cosine similarity of token representations by
layer: attention alone makes tokens more and more alike, convolution keeps them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphir import InputError
from graphir.checks import check_whole
from runtime.auto_classes import load_model_of, load_tokenizer_of
from runtime.bench_table import aligned

MAX_SEQUENCES = 256
"""So many texts are read by default: means of more differ in the third digit."""

_BATCH = 16


@dataclass(frozen=True)
class TokenSimilarity:
    """Mean cosine similarity of token representations, by layer.

    Attributes:
        name: of the model's folder.
        means: the mean over pairs of different tokens of a sequence, averaged over sequences: of the embeddings first,
            then of what each layer makes of them. From -1 to 1.
        sequences: how many were taken; those with fewer than two tokens that count have no pair.
        tokens: how many of them were counted: no padding, no special ones.
    """

    name: str
    means: tuple[float, ...]
    sequences: int
    tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def token_similarity(
    folder: str | Path,
    texts: Iterable[str],
    max_sequences: int = MAX_SEQUENCES,
    max_tokens: int = 128,
) -> TokenSimilarity:
    """Measure the model in a folder on texts, a sequence each.

    Args:
        folder: a model for transformers that gives hidden states, with its tokenizer: one that `opnas export` or
            `opnas pretrain` wrote, or a BERT. Its own code runs: only give one that you trust.
        texts: read in their order.
        max_sequences: of more texts the first ones.
        max_tokens: texts are cut to so many tokens, special ones included, and to what the model takes.

    Raises:
        InputError: where the folder holds no such model, or no text has two tokens that count.
    """
    check_whole(max_sequences, "max_sequences")
    check_whole(max_tokens, "max_tokens", low=2)
    model, tokenizer = load_model_of(folder), load_tokenizer_of(folder)
    longest = min(max_tokens, getattr(model.config, "max_position_embeddings", max_tokens))
    chosen = list(islice(texts, max_sequences))
    sums: list[Tensor] = []
    sequences = tokens = 0
    for start in range(0, len(chosen), _BATCH):
        batch = tokenizer(
            chosen[start : start + _BATCH],
            truncation=True,
            max_length=longest,
            padding=True,
            return_tensors="pt",
            return_special_tokens_mask=True,
        )
        counted = (batch["attention_mask"] != 0) & (batch["special_tokens_mask"] == 0)
        with torch.no_grad():
            states = model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                output_hidden_states=True,
            ).hidden_states
        enough = counted.sum(1) > 1
        sums.append(torch.stack([mean_similarity(state, counted)[enough].sum() for state in states]))
        sequences += int(enough.sum())
        tokens += int(counted[enough].sum())
    if not sequences:
        raise InputError("no text has two tokens that count: give a longer one")
    means = (torch.stack(sums).sum(0) / sequences).tolist()
    return TokenSimilarity(Path(folder).name, tuple(means), sequences, tokens)


def mean_similarity(hidden: Tensor, counted: Tensor) -> Tensor:
    """The mean cosine similarity of different tokens of each sequence, in float64.

    Args:
        hidden: ``[B, S, E]``.
        counted: bool ``[B, S]``, True where a token takes part; what stands elsewhere does not matter.

    Returns:
        ``[B]``; zero where fewer than two tokens take part. A token of zeros is like no other.

    Example:
        >>> mean_similarity(torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]]), torch.ones(1, 3, dtype=torch.bool))
        tensor([0.3333], dtype=torch.float64)
    """
    kept = torch.where(counted[..., None], hidden.double(), 0.0)
    units = torch.nn.functional.normalize(kept, dim=-1)
    # The sum over all pairs is the square of the sum; pairs of a token with itself are taken away.
    pairs = units.sum(1).square().sum(-1) - units.square().sum((1, 2))
    count = counted.sum(1)
    return pairs / (count * (count - 1)).clamp(min=1)


def similarity_table(measured: Sequence[TokenSimilarity]) -> str:
    """A line a layer, a column a model."""
    deepest = max(len(one.means) for one in measured)
    body = [
        [
            "embeddings" if layer == 0 else str(layer),
            *(f"{one.means[layer]:.3f}" if layer < len(one.means) else "-" for one in measured),
        ]
        for layer in range(deepest)
    ]
    lines = aligned(["layer", *(one.name for one in measured)], body)
    taken = [f"{one.name}: {one.sequences:,} sequences, {one.tokens:,} tokens" for one in measured]
    return "\n".join(["mean cosine similarity of the tokens of a sequence", *lines, *taken])
