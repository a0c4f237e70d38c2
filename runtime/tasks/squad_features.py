"""Questions as sequences of tokens: a long paragraph is cut into several that overlap.

Source: Devlin et al. 2019 (BERT), sections 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphir.checks import check_whole
from runtime.tasks.features import Columns, Features
from runtime.tasks.squad import Question

LONGEST_QUESTION = 64
"""Most tokens of a question, of which there are seldom more than 40; the rest of it is cut off."""

SHORTEST_SEQUENCE = 32
"""Fewest tokens of a sequence."""

_ENCODED_AT_ONCE = 500
_SPARE = 8
"""Room for special tokens, and for a question whose last word is cut: its beginning may take a token more."""


@dataclass(frozen=True)
class Window:
    """A part of a question's paragraph in one sequence.

    Attributes:
        question: the number of the question.
        no_answer: position of the token whose logits say that the answer is not here, [CLS].
        first: position of the first token of the paragraph.
        offsets: int32 ``[T, 2]``, of the paragraph's ``T`` tokens: first character, and the one behind the last.
    """

    question: int
    no_answer: int
    first: int
    offsets: NDArray[np.int32]


@dataclass(frozen=True)
class QuestionFeatures:
    """Sequences, and which part of which paragraph each of them holds."""

    features: Features
    windows: list[Window]


def encode_questions(
    tokenizer: Any, questions: Sequence[Question], max_length: int, stride: int, labelled: bool
) -> QuestionFeatures:
    """Each question with its paragraph, in as many sequences as it takes.

    Args:
        tokenizer: one of transformers that knows offsets (a fast one).
        questions: at least one.
        max_length: tokens of a sequence.
        stride: how many tokens of the paragraph two neighbouring sequences share.
        labelled: with ``start_positions`` and ``end_positions`` of the first answer; [CLS] where it is not within.

    Raises:
        InputError: where a sequence has no room for a question and ``stride`` tokens of a paragraph.
    """
    check_whole(max_length, "max_length", SHORTEST_SEQUENCE)
    longest = min(LONGEST_QUESTION, max_length // 3)
    check_whole(stride, f"stride, in sequences of {max_length} tokens,", 0, max_length - longest - _SPARE)
    columns: Columns = {}
    windows: list[Window] = []
    positions: list[tuple[int, int]] = []
    for begin in range(0, len(questions), _ENCODED_AT_ONCE):
        block = questions[begin : begin + _ENCODED_AT_ONCE]
        encoded = tokenizer(
            _cut(tokenizer, [question.text.strip() for question in block], longest),
            [question.context for question in block],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            split_special_tokens=True,
        )
        offsets, samples = encoded.pop("offset_mapping"), encoded.pop("overflow_to_sample_mapping")
        for name, rows in encoded.items():
            columns.setdefault(name, []).extend(np.array(row, np.int32) for row in rows)
        for row, sample in enumerate(samples):
            of_context = [i for i, part in enumerate(encoded.sequence_ids(row)) if part == 1]
            first = of_context[0] if of_context else 0
            window = Window(
                begin + sample,
                _position_of_no_answer(tokenizer, encoded["input_ids"][row]),
                first,
                np.array(offsets[row][first : first + len(of_context)], np.int32).reshape(-1, 2),
            )
            windows.append(window)
            if labelled:
                positions.append(_answer_positions(window, block[sample]))
    labels = {}
    if labelled:
        starts, ends = np.array(positions, np.int64).T
        labels = {"start_positions": starts, "end_positions": ends}
    return QuestionFeatures(Features(columns, labels), windows)


def _position_of_no_answer(tokenizer: Any, ids: list[int]) -> int:
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def _cut(tokenizer: Any, texts: list[str], longest: int) -> list[str]:
    """Questions without what lies behind their first ``longest`` tokens."""
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=True,
        max_length=longest,
        return_offsets_mapping=True,
        split_special_tokens=True,
    )
    ends = [max((end for _, end in offsets), default=0) for offsets in encoded["offset_mapping"]]
    return [text[:end] for text, end in zip(texts, ends, strict=True)]


def _answer_positions(window: Window, question: Question) -> tuple[int, int]:
    """Where the first answer starts and ends; at [CLS] where there is none, or not all of it lies in the window.

    Tokens may begin with the space before a word, and several of them may stand for one character.
    """
    nowhere = window.no_answer, window.no_answer
    if not question.answers or not len(window.offsets):
        return nowhere
    answer = question.answers[0]
    start = answer.start + len(answer.text) - len(answer.text.lstrip())
    end = answer.start + len(answer.text.rstrip())
    begins, behinds = window.offsets.T
    if begins[0] > start or behinds[-1] < end:
        return nowhere
    first = int(np.argmax(behinds > start))
    last = len(begins) - 1 - int(np.argmax(begins[::-1] < end))
    return (window.first + first, window.first + last) if first <= last else nowhere
