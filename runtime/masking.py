"""Masked language modelling: which tokens are hidden, and what stands in their place.

Source: Devlin et al. 2019, section 3.1: 15 percent of the tokens are predicted; of these 80 percent are
replaced by [MASK], 10 percent by a random token, and 10 percent stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from graphir import InputError
from runtime.special_tokens import MASK, SPECIAL_TOKENS
from runtime.tokenizer import Sequences

MASKED_FRACTION = 0.15
_TO_MASK, _TO_RANDOM = 0.8, 0.1

IGNORED = -100
"""The label of a position that is not predicted (as in `torch.nn.functional.cross_entropy`)."""


@dataclass(frozen=True)
class MaskedBatch:
    """Sequences with hidden tokens.

    Attributes:
        input_ids: int64 ``[B, S]``, the tokens after masking.
        key_mask: bool ``[B, S]``, True = real token; None where there is no padding.
        labels: int64 ``[B, S]``, the token that is to be predicted, or -100.
    """

    input_ids: Tensor
    key_mask: Tensor | None
    labels: Tensor

    @property
    def tokens(self) -> int:
        """How many real tokens there are."""
        return self.input_ids.numel() if self.key_mask is None else int(self.key_mask.sum())

    def to(self, device: torch.device | str) -> MaskedBatch:
        """The same on a device."""
        key_mask = None if self.key_mask is None else self.key_mask.to(device)
        return MaskedBatch(self.input_ids.to(device), key_mask, self.labels.to(device))


def mask_tokens(ids: Tensor, key_mask: Tensor | None, vocab_size: int, generator: Generator) -> MaskedBatch:
    """Hide 15 percent of each sequence, and at least one token; special and padded tokens never.

    Args:
        ids: int64 ``[B, S]``.
        key_mask: bool ``[B, S]``, True = real token; None where there is no padding.
        vocab_size: number of tokens; random replacements are drawn from those that are not special.
        generator: the only source of randomness; it may be of another device than ``ids``.

    Returns:
        A batch on the device of ``ids``.
    """
    ordinary = _ordinary(ids, key_mask)
    wanted = (ordinary.sum(dim=1, keepdim=True) * MASKED_FRACTION).round().clamp(min=1)
    draws = _uniform(ids, generator).masked_fill(~ordinary, 2.0)
    rank = draws.argsort(dim=1, stable=True).argsort(dim=1)
    return _hidden_batch(ids, key_mask, ordinary & (rank < wanted), vocab_size, generator)


def mask_words(
    ids: Tensor, key_mask: Tensor | None, begins_word: Tensor, vocab_size: int, generator: Generator
) -> MaskedBatch:
    """Hide about 15 percent of each sequence by hiding all pieces of some words (whole-word masking).

    Words are taken in random order for as long as that brings their tokens nearer to 15 percent; of each sequence at
    least one. A word of more than 15 percent of its sequence is hidden only where there is no shorter one. What stands
    in place of a hidden token is drawn for each by itself, as in `mask_tokens`. Source: Devlin et al., the second
    release of their code ("Whole Word Masking").

    Args:
        ids, key_mask, vocab_size, generator: as of `mask_tokens`.
        begins_word: bool ``[vocabulary]`` on the device of ``ids``, the tokens that a word begins with.

    Returns:
        A batch on the device of ``ids``.
    """
    ordinary = _ordinary(ids, key_mask)
    wanted = (ordinary.sum(dim=1, keepdim=True) * MASKED_FRACTION).round().clamp(min=1)
    begins = begins_word[ids] | ~ordinary
    begins[:, 1:] |= ~ordinary[:, :-1]
    begins[:, 0] = True
    word = begins.cumsum(dim=1) - 1  # [B, S], the number of its word in the sequence
    size = torch.zeros_like(ids).scatter_add(1, word, ordinary.long())  # [B, words]
    draws = _uniform(ids, generator)  # [B, words]
    draws = torch.where(size > wanted, draws + 1.0, draws).gather(1, word).masked_fill(~ordinary, 3.0)
    rank = draws.argsort(dim=1, stable=True).argsort(dim=1)
    before = torch.full_like(ids, ids.shape[1]).scatter_reduce(1, word, rank, "amin")  # [B, words]
    chosen = (before == 0) | ((before + size / 2 <= wanted) & (size <= wanted))
    return _hidden_batch(ids, key_mask, ordinary & chosen.gather(1, word), vocab_size, generator)


def _ordinary(ids: Tensor, key_mask: Tensor | None) -> Tensor:
    """The tokens that may be hidden, bool ``[B, S]``."""
    ordinary = ids >= len(SPECIAL_TOKENS)
    return ordinary if key_mask is None else key_mask & ordinary


def _hidden_batch(
    ids: Tensor, key_mask: Tensor | None, hidden: Tensor, vocab_size: int, generator: Generator
) -> MaskedBatch:
    """The batch in which the tokens at ``hidden``, bool ``[B, S]``, are to be predicted."""
    kind = _uniform(ids, generator)
    random_ids = torch.randint(
        len(SPECIAL_TOKENS), vocab_size, ids.shape, generator=generator, device=generator.device
    ).to(ids.device)
    replacement = torch.where(
        kind < _TO_MASK, MASK, torch.where(kind < _TO_MASK + _TO_RANDOM, random_ids, ids)
    )
    return MaskedBatch(
        input_ids=torch.where(hidden, replacement, ids),
        key_mask=key_mask,
        labels=ids.masked_fill(~hidden, IGNORED),
    )


def _uniform(like: Tensor, generator: Generator) -> Tensor:
    """Numbers from [0, 1) of the shape and on the device of ``like``, drawn where the generator is."""
    drawn = torch.rand(like.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(like.device)


def training_batches(
    sequences: Sequences, batch_size: int, vocab_size: int, seed: int
) -> Iterator[MaskedBatch]:
    """Batches without end, on the device of ``sequences``: epochs in random order, masked anew each time.

    The same for the same seed, on every device.

    The sequences that do not fill a batch at the end of an epoch begin the next one.
    """
    generator = Generator("cpu").manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64, device="cpu")
    while True:
        while len(order) < batch_size:
            epoch = torch.randperm(len(sequences), generator=generator, device="cpu")
            order = torch.cat([order, epoch])
        rows, order = order[:batch_size].to(sequences.ids.device), order[batch_size:]
        yield mask_tokens(sequences.ids[rows], sequences.key_mask[rows], vocab_size, generator)


def held_out_batches(
    sequences: Sequences, batch_size: int, vocab_size: int, seed: int
) -> tuple[MaskedBatch, ...]:
    """All sequences, masked once: every candidate is judged on the same hidden tokens."""
    generator = Generator("cpu").manual_seed(seed)
    whole = mask_tokens(sequences.ids, sequences.key_mask, vocab_size, generator)
    parts = (part.split(batch_size) for part in (whole.input_ids, sequences.key_mask, whole.labels))
    return tuple(MaskedBatch(*batch) for batch in zip(*parts, strict=True))


def commonest_token_accuracy(sequences: Sequences, batches: Iterable[MaskedBatch]) -> float:
    """What knowing nothing yields: the accuracy, on the hidden tokens of ``batches``, of one fixed answer.

    Args:
        sequences: the training text; its commonest token that is not special is the answer.
        batches: what to be judged on.

    Raises:
        InputError: where ``batches`` hide no token.
    """
    counts = torch.bincount(sequences.ids[sequences.key_mask])
    counts[: len(SPECIAL_TOKENS)] = 0
    targets = torch.cat([batch.labels[batch.labels != IGNORED] for batch in batches])
    if not len(targets):
        raise InputError("there is no hidden token to judge an answer on")
    return float((targets == counts.argmax()).double().mean())
