"""A byte-level BPE tokenizer, trained on the training text alone, and text as sequences of token ids.

Source: Sennrich et al. 2016 (BPE), Radford et al. 2019 (on bytes, so that no text is out of vocabulary).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from graphir import InputError, OpnasError
from graphir.files import write_whole
from runtime.special_tokens import CLS, MASK, MIN_VOCAB_SIZE, PAD, SEP, SPECIAL_TOKENS, UNK

__all__ = [
    "CLS",
    "MASK",
    "MIN_VOCAB_SIZE",
    "PAD",
    "SEP",
    "SPECIAL_TOKENS",
    "UNK",
    "Sequences",
    "TokenizerError",
    "encode_sequences",
    "load_tokenizer",
    "save_tokenizer",
    "train_tokenizer",
]

MAX_TOKENIZER_BYTES = 50_000_000
"""Largest tokenizer file that is read."""

_ENCODED_AT_ONCE = 4_096


class TokenizerError(OpnasError, ValueError):
    """A tokenizer that cannot be made or read."""


@dataclass(frozen=True)
class Sequences:
    """Text as token ids.

    Attributes:
        ids: int64 ``[N, S]``; every row begins with [CLS].
        key_mask: bool ``[N, S]``, True = real token.
    """

    ids: Tensor
    key_mask: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device | str) -> Sequences:
        """The same on a device."""
        return Sequences(self.ids.to(device), self.key_mask.to(device))

    def first(self, count: int) -> Sequences:
        """At most ``count`` rows."""
        return Sequences(self.ids[:count], self.key_mask[:count])


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most ``vocab_size`` tokens; the same for the same text.

    Args:
        texts: the training text; never give it held-out text.
        vocab_size: largest number of tokens, special ones included. Short texts yield fewer.

    Raises:
        TokenizerError: where ``vocab_size`` has no room for the special tokens and the 256 bytes.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise TokenizerError(
            f"vocab_size {vocab_size} is too small: {MIN_VOCAB_SIZE} hold the special tokens and every byte"
        )
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_special_token(token) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _special_token(token: str) -> AddedToken:
    """[MASK] swallows the space before it: in training it hides whole tokens, which begin with theirs."""
    return AddedToken(token, special=True, normalized=False, lstrip=token == "[MASK]")


def save_tokenizer(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write the tokenizer as one JSON file."""
    write_whole(path, tokenizer.to_str(pretty=False).encode())


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote.

    Raises:
        TokenizerError: where the file is too large, is no tokenizer, or lacks the special tokens.
        OSError: where it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        raw = file.read(MAX_TOKENIZER_BYTES + 1)
    if len(raw) > MAX_TOKENIZER_BYTES:
        raise TokenizerError(f"{path.name} is larger than {MAX_TOKENIZER_BYTES:,} bytes")
    try:
        tokenizer = Tokenizer.from_buffer(raw)
    except Exception as error:  # the library raises nothing more specific
        raise TokenizerError(f"{path.name} is not a tokenizer: {str(error)[:120]}") from None
    for token_id, token in enumerate(SPECIAL_TOKENS):
        if tokenizer.token_to_id(token) != token_id:
            raise TokenizerError(f"{path.name} must hold the token {token} under the id {token_id}")
    return tokenizer


def encode_sequences(tokenizer: Tokenizer, paragraphs: Iterable[str], seq_len: int) -> Sequences:
    """Paragraphs, each ended by [SEP], cut into rows of ``seq_len`` tokens of which the first is [CLS].

    Rows are full, but for the last one, which is padded. The name of a special token in the text is text. The
    tensors stand on the CPU, whatever torch's default device is.

    Raises:
        InputError: where ``seq_len`` is below 3, or there is no text.
    """
    if seq_len < 3:
        raise InputError(f"seq_len {seq_len} is too short: a row needs [CLS] and at least two tokens")
    # Without this, a text that says "[MASK]" would be read as the token.
    tokenizer.encode_special_tokens = True
    stream = list(chain.from_iterable(_paragraph_ids(tokenizer, paragraphs)))
    if not stream:
        raise InputError("there is no text to encode")
    width = seq_len - 1
    rows = -(-len(stream) // width)
    ids = torch.full((rows * width,), PAD, dtype=torch.int64, device="cpu")
    ids[: len(stream)] = torch.tensor(stream, dtype=torch.int64, device="cpu")
    first = torch.full((rows, 1), CLS, dtype=torch.int64, device="cpu")
    ids = torch.cat([first, ids.view(rows, width)], dim=1)
    return Sequences(ids, ids != PAD)


def _paragraph_ids(tokenizer: Tokenizer, paragraphs: Iterable[str]) -> Iterable[list[int]]:
    remaining = iter(paragraphs)
    while block := list(islice(remaining, _ENCODED_AT_ONCE)):
        for encoding in tokenizer.encode_batch(block, add_special_tokens=False):
            yield [*encoding.ids, SEP]
