"""The nine tasks of GLUE as a table, and the reading of their files.

Source: Wang et al. 2019, "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding",
table 1; the columns are those of the benchmark's TSV files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphir import InputError
from graphir.checks import excerpt
from runtime.tasks.table_files import Row, read_rows

HIGHEST_SCORE = 5.0
"""STS-B scores the similarity of two sentences from 0 to this."""


@dataclass(frozen=True)
class GlueTask:
    """A task: its files, their columns, its labels and metrics.

    Attributes:
        title: what the benchmark calls it.
        texts: columns of its sentences, one or two.
        label: column of the label.
        labels: names of the classes, in the order of the model's outputs; empty for a score from 0 to 5.
        metrics: names in `runtime.tasks.glue_scores.METRICS`.
        tests: files to predict, by the names under which the benchmark takes the predictions. May be missing.
        dev: files to be judged on, with what the names of their metrics end in.
        columns: all columns of the files with labels, where these begin without a header.
        index: column of the number of a row in files to predict; without it rows are counted from 0.
        torn_rows: whether the benchmark's own files have a few rows that line breaks have torn.
    """

    title: str
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    tests: Mapping[str, str]
    dev: Mapping[str, str] = field(default_factory=lambda: {"dev.tsv": ""})
    columns: tuple[str, ...] | None = None
    index: str = "index"
    torn_rows: bool = False


_YES_NO = ("0", "1")
_SENTENCES = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

GLUE = {
    "cola": GlueTask(
        "CoLA",
        ("sentence",),
        "label",
        _YES_NO,
        ("matthews",),
        {"test.tsv": "CoLA.tsv"},
        columns=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask("SST-2", ("sentence",), "label", _YES_NO, ("accuracy",), {"test.tsv": "SST-2.tsv"}),
    "mrpc": GlueTask(
        "MRPC",
        ("#1 String", "#2 String"),
        "Quality",
        _YES_NO,
        ("accuracy", "f1"),
        {"test.tsv": "MRPC.tsv"},
    ),
    "stsb": GlueTask("STS-B", _SENTENCES, "score", (), ("pearson", "spearman"), {"test.tsv": "STS-B.tsv"}),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        _YES_NO,
        ("accuracy", "f1"),
        {"test.tsv": "QQP.tsv"},
        index="id",
        torn_rows=True,
    ),
    "mnli": GlueTask(
        "MNLI",
        _SENTENCES,
        "gold_label",
        ("contradiction", "entailment", "neutral"),
        ("accuracy",),
        {
            "test_matched.tsv": "MNLI-m.tsv",
            "test_mismatched.tsv": "MNLI-mm.tsv",
            "diagnostic.tsv": "AX.tsv",
        },
        dev={"dev_matched.tsv": "_matched", "dev_mismatched.tsv": "_mismatched"},
    ),
    "qnli": GlueTask(
        "QNLI", ("question", "sentence"), "label", _ENTAILMENT, ("accuracy",), {"test.tsv": "QNLI.tsv"}
    ),
    "rte": GlueTask("RTE", _SENTENCES, "label", _ENTAILMENT, ("accuracy",), {"test.tsv": "RTE.tsv"}),
    "wnli": GlueTask("WNLI", _SENTENCES, "label", _YES_NO, ("accuracy",), {"test.tsv": "WNLI.tsv"}),
}
"""The tasks by the names that the command line takes."""


@dataclass(frozen=True)
class Examples:
    """The rows of a file.

    Attributes:
        texts: a list of ``N`` sentences for each column of them.
        labels: ``[N]``, int64 classes or float32 scores; empty in files to predict.
        indices: the number of each row, as the file has it.
    """

    texts: tuple[list[str], ...]
    labels: NDArray[np.generic]
    indices: list[str]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class GlueData:
    """All files of a task.

    Attributes:
        train: what is learnt from.
        dev: what is judged on, by the end of the names of the metrics.
        tests: what is predicted, by the file name of the predictions.
    """

    train: Examples
    dev: Mapping[str, Examples]
    tests: Mapping[str, Examples]


def read_glue(task: GlueTask, folder: Path) -> GlueData:
    """Read the files of a task from the benchmark's folder.

    Raises:
        InputError: for a missing file or column, a wrong label, a file without rows, text that is not UTF-8 and lines
            that are too long; it names the file, the line and what is expected.
        OSError: where a file cannot be read.
    """
    needed = ("train.tsv", *task.dev)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} has no {missing[0]}: the folder of {task.title} is expected, with {', '.join(needed)}"
        )
    tests = {written: folder / name for name, written in task.tests.items() if (folder / name).is_file()}
    return GlueData(
        _read_labelled(task, folder / "train.tsv"),
        {suffix: _read_labelled(task, folder / name) for name, suffix in task.dev.items()},
        {written: _read_unlabelled(task, path) for written, path in tests.items()},
    )


def _read_labelled(task: GlueTask, path: Path) -> Examples:
    rows = list(read_rows(path, (*task.texts, task.label), task.columns, task.torn_rows))
    if task.labels:
        classes = {name: number for number, name in enumerate(task.labels)}
        labels = np.array([_class_of(row, task, classes) for row in rows], np.int64)
    else:
        labels = np.array([_score_of(row, task) for row in rows], np.float32)
    return Examples(_texts(task, rows), labels, [str(number) for number in range(len(rows))])


def _read_unlabelled(task: GlueTask, path: Path) -> Examples:
    rows = list(read_rows(path, task.texts))
    indices = [row.values.get(task.index, str(number)) for number, row in enumerate(rows)]
    for row, index in zip(rows, indices, strict=True):
        if not (index.isascii() and index.isdigit()):
            raise InputError(f"{row.place}: the {task.index} is {excerpt(index)}; a whole number is expected")
    return Examples(_texts(task, rows), np.zeros(0), indices)


def _texts(task: GlueTask, rows: list[Row]) -> tuple[list[str], ...]:
    return tuple([row.values[column] for row in rows] for column in task.texts)


def _class_of(row: Row, task: GlueTask, classes: Mapping[str, int]) -> int:
    label = row.values[task.label].strip()
    if label not in classes:
        raise InputError(
            f"{row.place}: the {task.label} is {excerpt(label)}; one of {', '.join(classes)} is expected"
        )
    return classes[label]


def _score_of(row: Row, task: GlueTask) -> float:
    text = row.values[task.label]
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= HIGHEST_SCORE:
        raise InputError(
            f"{row.place}: the {task.label} is {excerpt(text)}; a number from 0 to {HIGHEST_SCORE:g} is expected"
        )
    return score
