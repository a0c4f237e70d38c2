"""From text to a tokenizer and a token file, both made once and found again by what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from graphir import InputError
from runtime.pretraining.text_source import PARAGRAPH_END, TextSource
from runtime.pretraining.token_file import TokenFile, find_token_file, write_token_file
from runtime.special_tokens import SEP
from runtime.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

SAMPLE_BYTES = 50_000_000
"""The tokenizer is trained on about so much of the text: more changes few tokens, and takes memory and time."""

_PORTION_CHARS = 500_000
"""Text that is tokenised at once."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class TokenisedText:
    """A text ready to be learnt from."""

    source: TextSource
    tokenizer: Tokenizer
    file: TokenFile


def tokenise_text(
    source: TextSource, folder: Path, tokenizer: Tokenizer | int, say: Say = lambda text: None
) -> TokenisedText:
    """The text in ``source`` as tokens; memory does not grow with it.

    Args:
        source: the text.
        folder: where token files and tokenizers are kept, those of other texts beside them. What is there already is
            not made again.
        tokenizer: or the size of the vocabulary of one that is trained on the text.
        say: told what is being done.

    Raises:
        InputError: where the text cannot be read, or there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, int):
        tokenizer = _trained_tokenizer(source, folder, tokenizer, say)
    origin = {"text": source.identity, "tokenizer": tokenizer_digest(tokenizer)}
    path = folder / f"{_key(origin)}.tokens"
    found = find_token_file(path, origin)
    if found is None:
        say(f"tokenising {source.name} ...")
        portions = _token_portions(source, tokenizer)
        found = write_token_file(path, portions, tokenizer.get_vocab_size(), origin)
    return TokenisedText(source, tokenizer, found)


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Equal for equal tokenizers."""
    return hashlib.blake2b(tokenizer.to_str().encode(), digest_size=16).hexdigest()


def _trained_tokenizer(source: TextSource, folder: Path, vocab_size: int, say: Say) -> Tokenizer:
    path = folder / f"tokenizer-{_key({'text': source.identity, 'vocab_size': vocab_size})}.json"
    if not path.exists():
        say(f"training a tokenizer on {source.name} ...")
        save_tokenizer(train_tokenizer(_sample(source), vocab_size), path)
    return load_tokenizer(path)


def _sample(source: TextSource) -> Iterator[str]:
    """Lines of about `SAMPLE_BYTES` bytes: spread over all of the text where its size is known, else its beginning."""
    part = 1.0 if source.size is None else min(1.0, SAMPLE_BYTES / max(1, source.size))
    taken = 0
    for number, line in enumerate(source.lines()):
        # The multiples of an odd number spread over all remainders, so no rhythm of the text is met.
        if line and (number * 2_654_435_761) % 2**32 < part * 2**32:
            taken += len(line)
            yield line
        if taken > SAMPLE_BYTES:
            return


def _token_portions(source: TextSource, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Ids of some lines at a time; a paragraph ends with [SEP].

    Raises:
        InputError: where there is not one word.
    """
    # Without this, a text that says "[MASK]" would be read as the token.
    tokenizer.encode_special_tokens = True
    any_text = False
    for lines in _portions(source.lines()):
        texts = [line for line in lines if line != PARAGRAPH_END]
        encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        ids: list[int] = []
        for line in lines:
            ids += [SEP] if line == PARAGRAPH_END else next(encoded).ids
        any_text = any_text or bool(texts)
        yield ids
    if not any_text:
        raise InputError(f"{source.name} holds white space alone: UTF-8 text was expected")


def _portions(lines: Iterator[str]) -> Iterator[list[str]]:
    """Lines, about `_PORTION_CHARS` characters of them at a time; of paragraph ends in a row only the first."""
    portion: list[str] = []
    chars = 0
    last = PARAGRAPH_END
    for line in lines:
        if line == last == PARAGRAPH_END:
            continue
        portion.append(line)
        last = line
        chars += len(line) + 1
        if chars >= _PORTION_CHARS:
            yield portion
            portion, chars = [], 0
    if portion:
        yield portion


def _key(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
