"""Sequences of token ids as a data set: what a task asks a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

_ENCODED_AT_ONCE = 1_000

Columns = dict[str, list[NDArray[np.int32]]]
"""Inputs of a model (``input_ids`` and, where the tokenizer gives them, ``token_type_ids``): an array a sequence."""


class Features(Dataset[dict[str, Any]]):
    """``N`` sequences, each of its own length, with their labels.

    Args:
        columns: see `Columns`.
        labels: ``[N]`` each, by the name of the model's argument; none where nothing is asked yet.
    """

    def __init__(self, columns: Columns, labels: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        self.columns = columns
        self.labels = dict(labels or {})

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        inputs: dict[str, Any] = {name: rows[index].tolist() for name, rows in self.columns.items()}
        return inputs | {name: values[index].item() for name, values in self.labels.items()}

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, ``[N]``."""
        return np.array([len(row) for row in self.columns["input_ids"]], np.int64)

    def unlabelled(self, order: Sequence[int]) -> Features:
        """The same sequences in another order, without labels."""
        return Features({name: [rows[i] for i in order] for name, rows in self.columns.items()})


Predict = Callable[[Features], tuple[NDArray[np.float32], ...]]
"""A model's outputs for features, in their order: an array for each output, filled up where lengths differ."""


def encode_texts(tokenizer: Any, texts: Sequence[list[str]], max_length: int) -> Columns:
    """Sentences, or pairs of them, as sequences of at most ``max_length`` tokens; the longer sentence is cut.

    The name of a special token in a sentence is text.

    Args:
        tokenizer: one of transformers.
        texts: one list of ``N`` sentences, or two.
        max_length: tokens of a sequence, special ones included.
    """
    columns: Columns = {}
    for start in range(0, len(texts[0]), _ENCODED_AT_ONCE):
        block = [sentences[start : start + _ENCODED_AT_ONCE] for sentences in texts]
        encoded = tokenizer(
            *block,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            split_special_tokens=True,
        )
        for name, rows in encoded.items():
            columns.setdefault(name, []).extend(np.array(row, np.int32) for row in rows)
    return columns
