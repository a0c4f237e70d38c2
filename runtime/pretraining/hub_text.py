"""Text of a data set, read by the package ``datasets`` row by row; only who names one needs the package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from graphir import InputError
from graphir.checks import excerpt

HUB_PREFIX = "hf:"
_OPTIONS = ("name", "split", "column", "revision", "data_files")
_FORM = "hf:NAME?name=CONFIGURATION&split=train&column=text"


@dataclass(frozen=True)
class HubText:
    """A column of text of a data set; a row is one or several paragraphs.

    Attributes:
        path: of the hub (``Salesforce/wikitext``), or a builder of the package (``text``, ``json``).
        configuration: which of its data sets, where it has several.
        split: which part of it.
        column: where its text stands.
        revision: which version of it; None for the newest.
        data_files: what a builder reads.
    """

    path: str
    configuration: str | None = None
    split: str = "train"
    column: str = "text"
    revision: str | None = None
    data_files: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> HubText:
        """Read ``hf:NAME?option=value&...`` with the options name, split, column, revision and data_files.

        Raises:
            InputError: for an unknown option, or no name.

        Example:
            >>> HubText.parse("hf:Salesforce/wikitext?name=wikitext-2-raw-v1").configuration
            'wikitext-2-raw-v1'
        """
        path, _, query = text.removeprefix(HUB_PREFIX).partition("?")
        given = parse_qsl(query, keep_blank_values=True)
        unknown = [name for name, _ in given if name not in _OPTIONS]
        if not path or unknown:
            what = f"has the unknown option {excerpt(unknown[0])}" if unknown else "has no name"
            raise InputError(f"{excerpt(text, 100)} {what}: a data set is written {_FORM}")
        single = {name: value for name, value in given if name != "data_files"}
        return cls(
            path,
            single.get("name"),
            single.get("split", "train"),
            single.get("column", "text"),
            single.get("revision"),
            tuple(value for name, value in given if name == "data_files"),
        )

    @property
    def name(self) -> str:
        """For messages."""
        return f"the data set {self.path}"

    @property
    def identity(self) -> dict[str, Any]:
        """What was asked for, with hashes of files that are here. A data set of the hub is taken for the same until
        another ``revision`` is asked for."""
        files = [[name, _hash(Path(name))] for name in self.data_files]
        return {"data set": {**vars(self), "data_files": files}}

    @property
    def size(self) -> None:
        """Not known beforehand."""
        return None

    def lines(self) -> Iterator[str]:
        """See `runtime.pretraining.text_source.TextSource.lines`; the end of a row ends a paragraph.

        Raises:
            InputError: without the package, without the data set, or for a row that is no text, naming it.
        """
        from runtime.pretraining.text_source import MAX_LINE_BYTES, PARAGRAPH_END

        for number, row in enumerate(self._rows(), 1):
            text = row.get(self.column)
            if not isinstance(text, str):
                columns = ", ".join(map(str, row))
                raise InputError(
                    f"{self.name}, row {number}: the column {excerpt(self.column)} holds {excerpt(text)}, "
                    f"not text; its columns are {columns[:200]}"
                )
            for line in text.split("\n"):
                if len(line) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{self.name}, row {number}: a line is longer than {MAX_LINE_BYTES:,} characters"
                    )
                yield " ".join(line.split())
            yield PARAGRAPH_END

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise InputError(
                f"{self.name} needs the package datasets: pip install 'opnas[hub]', or give text files"
            ) from None
        try:
            rows = iter(
                load_dataset(
                    self.path,
                    self.configuration,
                    split=self.split,
                    revision=self.revision,
                    data_files=list(self.data_files) or None,
                    streaming=True,
                )
            )
            first = next(rows, None)
        except Exception as error:  # the package raises many kinds, from many other packages
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{self.name} cannot be read: {reason[:200]}") from None
        if first is None:
            raise InputError(f"{self.name} has no row in its split {excerpt(self.split)}")
        yield from chain([first], rows)


def _hash(path: Path) -> str | None:
    """Of the content of a file; None for what is no file here, as an address."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
