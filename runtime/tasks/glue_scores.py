"""What GLUE judges by, and the form in which it takes predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.tasks.glue import HIGHEST_SCORE, GlueTask

Array = NDArray[np.generic]


def _matthews(predictions: Array, labels: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _accuracy(predictions: Array, labels: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(predictions: Array, labels: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, pos_label=1, zero_division=0))


def _pearson(predictions: Array, labels: Array) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant(predictions, labels) else float(pearsonr(predictions, labels).statistic)


def _spearman(predictions: Array, labels: Array) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(predictions, labels) else float(spearmanr(predictions, labels).statistic)


def _constant(*values: Array) -> bool:
    """Whether one of them never changes: a correlation has no value there, and is 0 as Matthews' is."""
    return any(len(np.unique(array)) < 2 for array in values)


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "matthews": _matthews,
    "accuracy": _accuracy,
    "f1": _f1,
    "pearson": _pearson,
    "spearman": _spearman,
}
"""Predictions and labels, ``[N]`` both, to a number of at most 1. By scikit-learn and SciPy; F1 is that of class 1."""


def predicted(task: GlueTask, logits: Array) -> Array:
    """Outputs of a model, ``[N, classes]`` or ``[N, 1]``, as classes or as scores within the task's bounds, ``[N]``."""
    if task.labels:
        return np.asarray(logits).argmax(axis=1)
    scores = np.asarray(logits, np.float64)[:, 0]
    return np.clip(scores, 0.0, HIGHEST_SCORE)


def submission(task: GlueTask, indices: Sequence[str], predictions: Array) -> str:
    """Predictions in the benchmark's form: a header, then the number of a row, a tabulator, and the label's name."""
    if task.labels:
        shown = [task.labels[int(number)] for number in predictions]
    else:
        shown = [f"{float(score):.4f}" for score in predictions]
    rows = [f"{index}\t{prediction}" for index, prediction in zip(indices, shown, strict=True)]
    return "\n".join(["index\tprediction", *rows]) + "\n"
