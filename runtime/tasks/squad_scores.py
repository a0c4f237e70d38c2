"""EM and F1 of answers, as the official evaluations of SQuAD 1.1 and 2.0 define them; in percent."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """An answer in small letters, without ASCII punctuation and articles, one space between its words.

    Example:
        >>> normalized("The  U.S.  dollar, a currency")
        'us dollar currency'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    """1 where both are the same when normalized, else 0."""
    return float(normalized(answer) == normalized(gold))


def f1(answer: str, gold: str, empty_counts: bool = False) -> float:
    """The harmonic mean of precision and recall over the words of both, normalized.

    Args:
        answer, gold: what is judged, and by what.
        empty_counts: whether two answers without words are equal (2.0), or have no word in common (1.1).
    """
    ours, theirs = normalized(answer).split(), normalized(gold).split()
    if not ours or not theirs:
        return float(empty_counts and ours == theirs)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs))


@dataclass(frozen=True)
class AnswerScores:
    """EM and F1 of each question, from 0 to 1, by its id."""

    exact: dict[str, float]
    f1: dict[str, float]


def score_answers(
    golds: Mapping[str, Sequence[str]], answers: Mapping[str, str], unanswerable: bool
) -> AnswerScores:
    """The best score of each answer over all golds of its question.

    Args:
        golds: the answers that people gave, by question; none for one without an answer.
        answers: what is judged, by question; "" for no answer. A question that is not answered
            scores 0 by the rules of 1.1 and is left out by those of 2.0.
        unanswerable: whether the rules of 2.0 hold, by which a gold without words, and no gold, ask for no answer.
    """
    exact: dict[str, float] = {}
    overlaps: dict[str, float] = {}
    for question, texts in golds.items():
        if question not in answers:
            if not unanswerable:  # 2.0 leaves it out
                exact[question] = overlaps[question] = 0.0
            continue
        if unanswerable:
            texts = [text for text in texts if normalized(text)] or [""]
        answer = answers[question]
        exact[question] = max(exact_match(answer, text) for text in texts)
        overlaps[question] = max(f1(answer, text, empty_counts=unanswerable) for text in texts)
    return AnswerScores(exact, overlaps)


def squad_1_metrics(golds: Mapping[str, Sequence[str]], answers: Mapping[str, str]) -> dict[str, float]:
    """``exact_match`` and ``f1`` over all questions."""
    scores = score_answers(golds, answers, unanswerable=False)
    return {"exact_match": _percent(scores.exact, golds), "f1": _percent(scores.f1, golds)}


def squad_2_metrics(
    golds: Mapping[str, Sequence[str]],
    answers: Mapping[str, str],
    spans: Mapping[str, str],
    null_odds: Mapping[str, float],
) -> dict[str, float]:
    """EM and F1 over all questions, over those with an answer (``HasAns_``) and those without (``NoAns_``), and the
    best that any threshold would reach (``best_exact``, ``best_f1``, each with its ``_thresh``).

    Args:
        golds: see `score_answers`.
        answers: what was answered, "" for no answer.
        spans: the best answer of each question that is none of "".
        null_odds: by how much no answer scores above it.
    """
    scores = score_answers(golds, answers, unanswerable=True)
    parts = {
        "": list(golds),
        "HasAns_": [q for q in golds if golds[q]],
        "NoAns_": [q for q in golds if not golds[q]],
    }
    metrics: dict[str, float] = {}
    for prefix, questions in parts.items():
        if questions:
            metrics[f"{prefix}exact"] = _percent(scores.exact, questions)
            metrics[f"{prefix}f1"] = _percent(scores.f1, questions)
    spans_scored = score_answers(golds, spans, unanswerable=True)
    answerable = {question for question in golds if golds[question]}
    for name, of_spans in (("exact", spans_scored.exact), ("f1", spans_scored.f1)):
        best, threshold = best_threshold(of_spans, spans, null_odds, answerable)
        metrics[f"best_{name}"], metrics[f"best_{name}_thresh"] = 100 * best, threshold
    return metrics


def best_threshold(
    scores: Mapping[str, float],
    spans: Mapping[str, str],
    null_odds: Mapping[str, float],
    answerable: set[str],
) -> tuple[float, float]:
    """The best mean score that a threshold reaches, and the threshold: a question is answered where its odds of no
    answer are no higher.

    Answering none scores 1 for each question without an answer. Then questions are answered by rising odds: one with
    an answer gains the score of its span, one without loses 1. The threshold is 0 where answering none is best.

    Args:
        scores: of each question's span, from 0 to 1.
        spans: the answers; "" loses nothing where there is no answer.
        null_odds: of each question.
        answerable: the questions with an answer.
    """
    total = best = float(len(scores) - len(answerable))
    threshold = 0.0
    for question in sorted(null_odds, key=null_odds.__getitem__):
        if question in answerable:
            total += scores[question]
        elif spans[question]:
            total -= 1.0
        if total > best:
            best, threshold = total, null_odds[question]
    return best / len(scores), threshold


def _percent(scores: Mapping[str, float], questions: Sequence[str] | Mapping[str, Sequence[str]]) -> float:
    found = [scores[question] for question in questions if question in scores]
    return 100.0 * sum(found) / max(1, len(found))
