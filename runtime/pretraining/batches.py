"""The batch of each step, a function of the seed and the number of the step alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Generator, Tensor

from graphir import InputError
from runtime.masking import MaskedBatch, mask_tokens, mask_words
from runtime.pretraining.block_order import permuted
from runtime.pretraining.seeds import derived_seed
from runtime.pretraining.settings import MaskingKind, Pretraining
from runtime.pretraining.token_file import Blocks
from runtime.special_tokens import SPECIAL_TOKENS

Masking = Callable[[Tensor, Generator], MaskedBatch]
"""Hides tokens of sequences without padding, int64 ``[B, S]``."""

_LEAST_ROWS = 16
"""Sequences that are judged at once, even where fewer fit into a part of a step: judging keeps nothing for a backward
pass, and so needs a small part of the memory."""

WORD_MARKER = "\u0120"
"""What stands for a space in byte-level BPE; a token that begins with it begins a word."""


def make_masking(kind: MaskingKind, tokenizer: Tokenizer) -> Masking:
    """How tokens are hidden: each by itself, or all pieces of a word together."""
    vocab_size = tokenizer.get_vocab_size()
    if kind == "token":
        return lambda ids, generator: mask_tokens(ids, None, vocab_size, generator)
    begins = word_beginnings(tokenizer)
    return lambda ids, generator: mask_words(ids, None, begins, vocab_size, generator)


def word_beginnings(tokenizer: Tokenizer) -> Tensor:
    """The tokens that a word begins with, bool ``[vocabulary]``; special ones are none.

    Raises:
        InputError: where no token says that a word begins.
    """
    ordinary = range(len(SPECIAL_TOKENS), tokenizer.get_vocab_size())
    found = [False] * len(SPECIAL_TOKENS)
    found += [(tokenizer.id_to_token(number) or "").startswith(WORD_MARKER) for number in ordinary]
    if not any(found):
        raise InputError(
            "masking of words needs a byte-level BPE tokenizer, whose tokens hold the spaces between words"
        )
    return torch.tensor(found, device="cpu")


class Batches:
    """What one of several processes learns from at each step.

    Epoch after epoch takes all sequences in an order of its own; a batch may reach over the end of one. The processes
    together take the same sequences of a step however many they are.

    Args:
        blocks: the sequences.
        masking: how tokens of them are hidden.
        settings: sizes and seed.
        process: number of this process.
        processes: how many there are.

    Raises:
        InputError: where a step cannot be divided among the processes and their parts.
    """

    def __init__(
        self, blocks: Blocks, masking: Masking, settings: Pretraining, process: int = 0, processes: int = 1
    ) -> None:
        parts = processes * settings.accumulate
        if settings.batch_size % parts:
            raise InputError(
                f"batch_size {settings.batch_size} cannot be divided among {processes} processes with "
                f"{settings.accumulate} parts each: make it a multiple of {parts}"
            )
        self.blocks = blocks
        self.masking = masking
        self.settings = settings
        self.process = process
        self.share = settings.batch_size // processes
        self.part = settings.batch_size // parts

    def of_step(self, step: int) -> list[MaskedBatch]:
        """The parts of this process' share of a step, on the CPU."""
        seed = self.settings.seed
        first = step * self.settings.batch_size + self.process * self.share
        samples = np.arange(first, first + self.share)
        epochs, positions = np.divmod(samples, len(self.blocks))
        numbers = np.empty_like(samples)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            within = epochs == epoch
            order_seed = derived_seed("epoch", seed, epoch)
            numbers[within] = permuted(positions[within], len(self.blocks), order_seed)
        generator = Generator("cpu").manual_seed(derived_seed("mask", seed, step, self.process))
        return split_batch(self.masking(self.blocks.rows(numbers), generator), self.part)


def held_out_batches(blocks: Blocks, masking: Masking, settings: Pretraining) -> list[MaskedBatch]:
    """Sequences spread evenly over held-out text, masked once and the same for all seeds, on the CPU."""
    count = min(settings.held_out_sequences, len(blocks))
    numbers = np.arange(count) * len(blocks) // count
    generator = Generator("cpu").manual_seed(derived_seed("held out"))
    whole = masking(blocks.rows(numbers), generator)
    return split_batch(whole, max(_LEAST_ROWS, settings.batch_size // settings.accumulate))


def split_batch(batch: MaskedBatch, rows: int) -> list[MaskedBatch]:
    """Parts of at most ``rows`` sequences without padding."""
    parts = zip(batch.input_ids.split(rows), batch.labels.split(rows), strict=True)
    return [MaskedBatch(input_ids, None, labels) for input_ids, labels in parts]
