"""What fine-tuning knows of a task, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from graphir import InputError
from graphir.checks import excerpt
from graphir.validation import nearest
from runtime.finetuning_config import FineTuning
from runtime.tasks.features import Features, Predict
from runtime.tasks.glue import GLUE, read_glue
from runtime.tasks.squad import SQUAD, read_squad


@dataclass(frozen=True)
class Evaluation:
    """What became of a model on the development data.

    Attributes:
        metrics: by name.
        predictions: makes the files that tell its answers: their text by file name.
    """

    metrics: dict[str, float]
    predictions: Callable[[], dict[str, str]]


@dataclass(frozen=True)
class EncodedTask:
    """A task as token ids.

    Attributes:
        train: what is learnt from.
        evaluate: judges a model by its outputs.
    """

    train: Features
    evaluate: Callable[[Predict], Evaluation]


class Task(Protocol):
    """The data of a task, and how a model is asked.

    Attributes:
        title: what people call it.
        auto_class: the Auto class of transformers whose models do it.
        max_length: most tokens of a sequence where nothing else is said.
        model_settings: what the model's configuration has to know.
        sizes: how many examples are learnt from, and how many judged on.
        ranked_by: the metrics whose mean ranks the seeds.
        example: what a model may be asked: a text, or two.
    """

    @property
    def title(self) -> str: ...
    @property
    def auto_class(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def model_settings(self) -> dict[str, Any]: ...
    @property
    def sizes(self) -> tuple[int, int]: ...
    @property
    def ranked_by(self) -> tuple[str, ...]: ...
    @property
    def example(self) -> tuple[str, ...]: ...

    def encode(self, tokenizer: Any, max_length: int, settings: FineTuning) -> EncodedTask:
        """The task in tokens of a tokenizer of transformers."""


def open_task(name: str, folder: str | Path) -> Task:
    """Read the data of a task.

    Args:
        name: a name of `GLUE` or `SQUAD`; capitals, hyphens and dots in it do not count.
        folder: where its files are.

    Raises:
        InputError: for an unknown name, and what `read_glue` and `read_squad` refuse.
        OSError: where a file cannot be read.
    """
    from runtime.tasks.questions import QuestionTask
    from runtime.tasks.sentences import SentenceTask

    key, folder = "".join(filter(str.isalnum, str(name).lower())), Path(folder)
    if key not in GLUE and key not in SQUAD:
        raise InputError(f"unknown task {excerpt(name)}; {nearest(key, [*GLUE, *SQUAD])}")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: the folder with the files of the task is expected")
    if key in GLUE:
        return SentenceTask(GLUE[key], read_glue(GLUE[key], folder))
    return QuestionTask(SQUAD[key], read_squad(SQUAD[key], folder))
