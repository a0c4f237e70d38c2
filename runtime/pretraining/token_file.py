"""A text as one flat file of token ids, made once and read where a block stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphir import InputError
from graphir.files import read_json, temporary_beside, write_json
from runtime.special_tokens import CLS, SEP

TOKEN_FILE_FORMAT = "opnas.tokens/1"


@dataclass(frozen=True)
class TokenFile:
    """Ids in little-endian order, without a header; what they are stands in a JSON file beside it.

    Attributes:
        path: the file.
        tokens: how many.
        bytes_per_token: 2, or 4 where the vocabulary needs it.
    """

    path: Path
    tokens: int
    bytes_per_token: int


def write_token_file(path: Path, portions: Iterable[list[int]], vocab_size: int, origin: Any) -> TokenFile:
    """Write the ids of ``portions`` one after the other; the file is whole or not there.

    Args:
        path: the file to make.
        portions: ids, some at a time.
        vocab_size: all ids are below it.
        origin: what the ids were made from; `find_token_file` compares it.
    """
    kind = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    temporary = temporary_beside(path)
    tokens = 0
    try:
        with temporary.open("wb") as file:
            for ids in portions:
                file.write(np.array(ids, dtype=kind).tobytes())
                tokens += len(ids)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    record = {
        "format": TOKEN_FILE_FORMAT,
        "tokens": tokens,
        "bytes_per_token": kind.itemsize,
        "vocab_size": vocab_size,
        "origin": origin,
    }
    write_json(path.with_suffix(".json"), record)
    return TokenFile(path, tokens, kind.itemsize)


def find_token_file(path: Path, origin: Any) -> TokenFile | None:
    """The file that `write_token_file` made from ``origin``; None where there is none, or not a whole one."""
    record_path = path.with_suffix(".json")
    if not path.is_file() or not record_path.is_file():
        return None
    try:
        record = read_json(record_path)
        found = TokenFile(path, int(record["tokens"]), int(record["bytes_per_token"]))
        same = record["format"] == TOKEN_FILE_FORMAT and record["origin"] == origin
    except (ValueError, KeyError, TypeError):
        return None
    whole = found.bytes_per_token in (2, 4) and path.stat().st_size == found.tokens * found.bytes_per_token
    return found if same and whole else None


class Blocks:
    """A token file as sequences of equal length: [CLS], as many tokens as fit, [SEP]. The rest at its end is left out.

    Args:
        file: the tokens. They are mapped into memory, so only what is read takes any.
        seq_len: tokens of a sequence.
        name: of the text, for messages.

    Raises:
        InputError: where there are too few tokens for one sequence.
    """

    def __init__(self, file: TokenFile, seq_len: int, name: str) -> None:
        self.seq_len = seq_len
        self.width = seq_len - 2
        self.count = file.tokens // self.width
        if not self.count:
            raise InputError(
                f"{name} has {file.tokens:,} tokens: one sequence of seq_len {seq_len} needs {self.width:,}; "
                "give more text, or a smaller seq_len"
            )
        kind = np.dtype(f"<u{file.bytes_per_token}")
        self.tokens = np.memmap(file.path, dtype=kind, mode="r", shape=(self.count, self.width))

    def __len__(self) -> int:
        return self.count

    def rows(self, numbers: NDArray[np.int64]) -> Tensor:
        """The sequences with these numbers, int64 ``[B, S]`` on the CPU."""
        ids = np.empty((len(numbers), self.seq_len), dtype=np.int64)
        ids[:, 0], ids[:, -1] = CLS, SEP
        ids[:, 1:-1] = self.tokens[numbers]
        return torch.from_numpy(ids)
