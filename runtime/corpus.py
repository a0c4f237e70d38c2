"""Text to learn from: paragraphs for training and held-out ones that the training text never contains."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from graphir import OpnasError

MAX_CORPUS_BYTES = 100_000_000
"""Largest corpus file that is read."""

MIN_CORPUS_CHARS = 10_000
"""Smallest amount of distinct text from which something can be held out."""

HELD_OUT_FRACTION = 0.06
MIN_HELD_OUT_CHARS = 1_000
MAX_HELD_OUT_CHARS = 200_000
"""More than this makes an evaluation no better, only the search for repetitions longer."""

SHORTEST_HELD_OUT_PARAGRAPH = 40
"""A shorter one ("Return the name.") is a phrase that other paragraphs use as well."""

LONGEST_PARAGRAPH = 1_000
"""A longer one is cut at a space, so that text without blank lines can be held out in part."""

_SKIPPED_FOLDERS = {
    "__pycache__",
    "dist-packages",
    "encodings",  # tables of characters
    "idlelib",
    "lib2to3",
    "pydoc_data",  # its text is read as data, below
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}


class CorpusError(OpnasError, ValueError):
    """A corpus that cannot be used. The message says what is wrong and what would be right."""


@dataclass(frozen=True)
class Corpus:
    """Distinct paragraphs, white space collapsed, in two parts that share none.

    Attributes:
        name: where the text came from.
        train: paragraphs to learn from, in the order of the source.
        held_out: paragraphs to be judged on, in the order of the source. None of them stands in a training
            paragraph, not even as a part or in other capitals.
        size: bytes of the source, repetitions included.
        stream: the text itself where it came through a pipe, so that it cannot be read again; else None.
    """

    name: str
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    size: int
    stream: str | None = field(default=None, repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """A hex digest of both parts: equal for equal text."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.held_out):
            digest.update(b"\x00part\x00")
            for paragraph in part:
                digest.update(paragraph.encode() + b"\x00")
        return digest.hexdigest()


def load_corpus(path: str | Path | None = None) -> Corpus:
    """The corpus in ``path``, or Python's own documentation.

    Args:
        path: a UTF-8 text file, or a pipe, whose paragraphs are set apart by blank lines; None for the text of
            ``pydoc_data.topics`` and the docstrings of the standard library's modules, about 2 MB of English,
            which are read and never imported.

    Raises:
        CorpusError: missing, empty, a folder, not text, too large, or too small to hold something out.
    """
    if path is None:
        return _python_documentation()
    path = Path(path)
    text, size = _read_text(path)
    corpus = split_corpus(path.name, [text], size)
    return corpus if Path(os.path.realpath(path)).is_file() else replace(corpus, stream=text)


def read_paragraphs(path: str | Path) -> list[str]:
    """The paragraphs of a UTF-8 text file, white space collapsed, in their order; none is held out.

    Raises:
        CorpusError: missing, empty, a folder, not text, or too large.
    """
    text, _ = _read_text(Path(path))
    return list(_paragraphs([text]))


def split_corpus(name: str, texts: Iterable[str], size: int) -> Corpus:
    """Hold out about six percent of the distinct paragraphs of ``texts``, chosen by their hash.

    Args:
        name: name of the corpus, for messages.
        texts: pieces of text; blank lines in them end a paragraph.
        size: bytes of the source.

    Raises:
        CorpusError: with too little distinct text.
    """
    distinct: dict[str, str] = {}
    for paragraph in _paragraphs(texts):
        distinct.setdefault(paragraph.casefold(), paragraph)
    chars = sum(map(len, distinct.values()))
    if chars < MIN_CORPUS_CHARS:
        raise CorpusError(
            f"the corpus {name!r} has {chars:,} characters of distinct text: at least {MIN_CORPUS_CHARS:,} "
            "are needed to train on one part and judge on another"
        )
    target = min(max(HELD_OUT_FRACTION * chars, MIN_HELD_OUT_CHARS), MAX_HELD_OUT_CHARS)
    held_out = _choose_held_out(list(distinct), target)
    if not held_out or len(held_out) == len(distinct):
        raise CorpusError(
            f"nothing can be held out of the corpus {name!r}: it needs at least two paragraphs of "
            f"{SHORTEST_HELD_OUT_PARAGRAPH} characters or more that differ"
        )
    return Corpus(
        name,
        train=tuple(paragraph for key, paragraph in distinct.items() if key not in held_out),
        held_out=tuple(paragraph for key, paragraph in distinct.items() if key in held_out),
        size=size,
    )


def _choose_held_out(keys: list[str], target: float) -> set[str]:
    """Paragraphs in the order of their hashes, until ``target`` characters are held out."""
    whole = "\n".join(keys)
    chosen: set[str] = set()
    chars = 0
    eligible = (key for key in keys if len(key) >= SHORTEST_HELD_OUT_PARAGRAPH)
    for key in sorted(eligible, key=lambda key: hashlib.blake2b(key.encode(), digest_size=8).digest()):
        if chars >= target:
            break
        first = whole.find(key)
        if whole.find(key, first + 1) < 0:
            chosen.add(key)
            chars += len(key)
    return chosen


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        words: list[str] = []
        for line in [*text.splitlines(), ""]:
            if line.strip():
                words += line.split()
            elif words:
                yield from _cut(" ".join(words))
                words = []


def _cut(paragraph: str) -> Iterator[str]:
    while len(paragraph) > LONGEST_PARAGRAPH:
        end = paragraph.rfind(" ", 1, LONGEST_PARAGRAPH + 1)
        end = end if end > 0 else LONGEST_PARAGRAPH
        yield paragraph[:end]
        paragraph = paragraph[end:].lstrip()
    yield paragraph


def _read_text(path: Path) -> tuple[str, int]:
    """The text, and its size in bytes."""
    if path.is_dir():
        raise CorpusError(f"the corpus {path} is a folder: give one text file")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CORPUS_BYTES + 1)
    except FileNotFoundError:
        raise CorpusError(f"the corpus {path} does not exist") from None
    except OSError as error:
        raise CorpusError(f"the corpus {path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_CORPUS_BYTES:
        raise CorpusError(f"the corpus {path} is larger than {MAX_CORPUS_BYTES:,} bytes: give a part of it")
    if b"\x00" in raw:
        raise CorpusError(f"the corpus {path} is not text (it holds NUL bytes): give a UTF-8 text file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"the corpus {path} is not UTF-8 text (byte {error.start:,} cannot be read): convert it to UTF-8"
        ) from None
    if not text.strip():
        raise CorpusError(f"the corpus {path} is empty: at least {MIN_CORPUS_CHARS:,} characters are needed")
    return text, len(raw)


@cache
def _python_documentation() -> Corpus:
    texts = [*_topics(), *_docstrings(Path(sysconfig.get_paths()["stdlib"]))]
    if not texts:
        raise CorpusError("this Python comes without its documentation: give a text file (--corpus FILE)")
    return split_corpus("python-documentation", texts, sum(len(text.encode()) for text in texts))


def _topics() -> list[str]:
    # Some distributions ship Python without pydoc_data; the docstrings alone are enough.
    if importlib.util.find_spec("pydoc_data") is None:
        return []
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def _docstrings(folder: Path) -> Iterator[str]:
    """The docstrings of every module below ``folder``, in the order of paths and lines."""
    for path in sorted(folder.rglob("*.py")):
        if _SKIPPED_FOLDERS.intersection(path.relative_to(folder).parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # a file of another Python version, or one that we may not read, is no loss
        yield from _docstrings_below(tree)


def _docstrings_below(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[str]:
    docstring = ast.get_docstring(node)
    if docstring:
        yield docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings_below(child)
