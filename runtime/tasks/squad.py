"""SQuAD: questions about paragraphs, read from the official JSON of versions 1.1 and 2.0.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", and 2018, "Know What You
Don't Know: Unanswerable Questions for SQuAD".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphir import InputError
from graphir.checks import excerpt

MAX_BYTES = 80_000_000
"""Largest file that is read; the largest of the official ones has 42 MB, in one line."""


@dataclass(frozen=True)
class SquadVersion:
    """What sets the two versions apart.

    Attributes:
        title: what it is called.
        train, dev: file names.
        unanswerable: whether a question may have no answer.
    """

    title: str
    train: str
    dev: str
    unanswerable: bool


SQUAD = {
    "squad": SquadVersion("SQuAD 1.1", "train-v1.1.json", "dev-v1.1.json", unanswerable=False),
    "squad2": SquadVersion("SQuAD 2.0", "train-v2.0.json", "dev-v2.0.json", unanswerable=True),
}
"""The versions by the names that the command line takes."""


@dataclass(frozen=True)
class Answer:
    """A part of a paragraph: its text, and the place of its first character."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question, the paragraph that it is about, and the answers that people gave; none where it has no answer."""

    id: str
    text: str
    context: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class SquadData:
    """What is learnt from and what is judged on."""

    train: list[Question]
    dev: list[Question]


def read_squad(version: SquadVersion, folder: Path) -> SquadData:
    """Read both files of a version.

    Raises:
        InputError: see `read_questions`; and where a file is missing.
        OSError: where a file cannot be read.
    """
    for name in (version.train, version.dev):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has no {name}: the folder of {version.title} is expected, "
                f"with {version.train} and {version.dev}"
            )
    return SquadData(
        read_questions(version, folder / version.train), read_questions(version, folder / version.dev)
    )


def read_questions(version: SquadVersion, path: Path) -> list[Question]:
    """Read a file.

    Raises:
        InputError: not JSON, not UTF-8, too large, of another form, with an answer that does not stand in its
            paragraph, with one id twice, or without questions; it names the file and the place within.
        OSError: where the file cannot be read.
    """
    data = _Value(_read_json(path), str(path), "")
    questions: list[Question] = []
    places: dict[str, str] = {}
    for article in data.items("data"):
        for paragraph in article.items("paragraphs"):
            context = paragraph.text("context")
            for entry in paragraph.items("qas"):
                question = _question(entry, context, version)
                if question.id in places:
                    raise entry.error(f"the id {excerpt(question.id)} is that of {places[question.id]} too")
                places[question.id] = entry.place
                questions.append(question)
    if not questions:
        raise InputError(f"{path}: it holds no questions; expected are data[].paragraphs[].qas[]")
    return questions


def _question(entry: _Value, context: str, version: SquadVersion) -> Question:
    identity = entry.text("id")
    entry = _Value(entry.value, entry.file, f"{entry.place} (question {excerpt(identity, 40)})")
    impossible = entry.value.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise entry.error(f"is_impossible is {excerpt(impossible)}; true or false is expected")
    if impossible and not version.unanswerable:
        raise entry.error(
            f"is_impossible is true; {version.title} has an answer to every question (squad2 may not)"
        )
    answers = tuple(_answer(answer, context) for answer in entry.items("answers"))
    if impossible and answers:
        raise entry.error("it has answers, and is_impossible is true; one of them is expected")
    if not impossible and not answers:
        raise entry.error(
            "it has no answers; at least one is expected" + " or is_impossible" * version.unanswerable
        )
    return Question(identity, entry.text("question"), context, answers)


def _answer(entry: _Value, context: str) -> Answer:
    text, start = entry.text("text"), entry.value.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool):
        raise entry.error(f"answer_start is {excerpt(start)}; a whole number is expected")
    if not 0 <= start <= len(context) - len(text):
        raise entry.error(
            f"the answer has {len(text):,} characters from {excerpt(start)} on and does not lie within its context, "
            f"which has {len(context):,}"
        )
    found = context[start : start + len(text)]
    if found != text:
        raise entry.error(
            f"text {excerpt(text)} is expected in the context at answer_start {start:,}, where {excerpt(found)} stands"
        )
    return Answer(text, start)


def _read_json(path: Path) -> Any:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: it is larger than {MAX_BYTES:,} bytes, which no file of SQuAD is")
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start + 1:,} is not UTF-8 text; convert the file to UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno:,}, column {error.colno:,}: JSON is expected ({error.msg})"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, or too many brackets
        raise InputError(f"{path}: it cannot be read as JSON: {str(error)[:120]}") from None


@dataclass(frozen=True)
class _Value:
    """A value in a JSON file that knows its place."""

    value: Any
    file: str
    place: str

    def error(self, problem: str) -> InputError:
        return InputError(f"{self.file}, {self.place or 'at the top'}: {problem}")

    def items(self, key: str) -> Iterator[_Value]:
        """The objects of a list."""
        found = self._get(key)
        if not isinstance(found, list):
            raise self.error(f"{key} is {excerpt(found)}; a list is expected")
        for number, value in enumerate(found):
            item = _Value(value, self.file, f"{self.place}{'.' if self.place else ''}{key}[{number}]")
            if not isinstance(value, dict):
                raise item.error(f"it is {excerpt(value)}; an object is expected")
            yield item

    def text(self, key: str) -> str:
        found = self._get(key)
        if not isinstance(found, str) or not found.strip():
            raise self.error(f"{key} is {excerpt(found)}; text is expected")
        if not found.isascii() and any("\ud800" <= character <= "\udfff" for character in found):
            raise self.error(f"{key} holds half of a surrogate pair; text is expected")
        return found

    def _get(self, key: str) -> Any:
        if not isinstance(self.value, dict):
            raise self.error(f"it is {excerpt(self.value)}; an object is expected")
        if key not in self.value:
            raise self.error(f"{key} is missing")
        return self.value[key]
