"""From the logits of sequences to answers: the best spans of each question, and how likely it has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from runtime.tasks.squad import Question
from runtime.tasks.squad_features import Window

Logits = NDArray[np.float32]

_NO_SPAN = 1e6
"""The odds of no answer where there is no other: JSON has no infinity."""


@dataclass(frozen=True)
class Span:
    """A possible answer, with the logits of its first and its last token."""

    text: str
    start_logit: float
    end_logit: float

    @property
    def score(self) -> float:
        """The sum of both logits."""
        return self.start_logit + self.end_logit


@dataclass(frozen=True)
class Answers:
    """What a model answers to one question.

    Attributes:
        spans: the best ones with distinct texts, best first; none where the paragraph has no text.
        no_answer: the logits that say that there is no answer, in the sequence where they are lowest.
    """

    spans: tuple[Span, ...]
    no_answer: Span

    @property
    def null_odds(self) -> float:
        """By how much no answer scores above the best span."""
        return self.no_answer.score - self.spans[0].score if self.spans else _NO_SPAN

    @property
    def span(self) -> str:
        """The text of the best span."""
        return self.spans[0].text if self.spans else ""

    def listed(self, with_no_answer: bool) -> list[dict[str, float | str]]:
        """The spans with their probabilities among each other, best first; "" is no answer."""
        entries = sorted(
            [*self.spans, *([self.no_answer] if with_no_answer else [])],
            key=lambda span: span.score,
            reverse=True,
        )
        weights = np.exp(
            np.array([span.score for span in entries]) - max((s.score for s in entries), default=0.0)
        )
        return [
            {
                "text": span.text,
                "probability": float(weight / weights.sum()),
                "start_logit": span.start_logit,
                "end_logit": span.end_logit,
            }
            for span, weight in zip(entries, weights, strict=True)
        ]


def answer_questions(
    questions: Sequence[Question],
    windows: Sequence[Window],
    starts: Logits,
    ends: Logits,
    n_best: int,
    max_answer_length: int,
) -> list[Answers]:
    """The best spans of each question over all of its sequences.

    Args:
        questions: what was asked.
        windows: what each of ``N`` sequences holds.
        starts, ends: ``[N, S]``, logits that an answer starts or ends at a token.
        n_best: how many spans to keep.
        max_answer_length: most tokens of a span.
    """
    found: list[list[Span]] = [[] for _ in questions]
    nothing: list[Span] = [Span("", math.inf, math.inf) for _ in questions]
    for window, start, end in zip(windows, starts, ends, strict=True):
        context = questions[window.question].context
        found[window.question] += _spans(window, context, start, end, n_best, max_answer_length)
        here = Span("", float(start[window.no_answer]), float(end[window.no_answer]))
        if here.score < nothing[window.question].score:
            nothing[window.question] = here
    return [Answers(_best(spans, n_best), none) for spans, none in zip(found, nothing, strict=True)]


def _spans(
    window: Window, context: str, start: Logits, end: Logits, n_best: int, max_answer_length: int
) -> list[Span]:
    """The ``n_best`` spans of one sequence, of all that begin in its paragraph and end there no earlier."""
    count = len(window.offsets)
    if not count:
        return []
    within = slice(window.first, window.first + count)
    start, end = start[within].astype(np.float64), end[within].astype(np.float64)
    texts = (context[begin:behind] for begin, behind in window.offsets)
    blank = np.array([not text.strip() for text in texts])  # a span neither begins nor ends with spaces alone
    start[blank] = end[blank] = -math.inf
    width = min(max_answer_length, count)
    # scores[i, k]: of the span from token i to token i + k
    scores = start[:, None] + sliding_window_view(
        np.pad(end, (0, width - 1), constant_values=-math.inf), width
    )
    kept = min(n_best, scores.size)
    chosen = np.argpartition(scores, scores.size - kept, axis=None)[scores.size - kept :]
    spans = []
    for first, further in zip(*np.unravel_index(chosen, scores.shape), strict=True):
        if np.isfinite(scores[first, further]):
            last = first + further
            text = context[window.offsets[first, 0] : window.offsets[last, 1]].strip()
            spans.append(Span(text, float(start[first]), float(end[last])))
    return spans


def _best(spans: list[Span], n_best: int) -> tuple[Span, ...]:
    distinct: dict[str, Span] = {}
    for span in sorted(spans, key=lambda span: span.score, reverse=True):
        distinct.setdefault(span.text, span)
    return tuple(distinct.values())[:n_best]
