"""Searching, as functions: begin a search in a new folder, or go on with one."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from codegen.attention import choose_backend
from graphir import InputError
from graphir.validation import nearest
from runtime.candidate_costs import check_costs_wanted
from runtime.corpus import Corpus, CorpusError, load_corpus
from runtime.pipeline import ANOTHER_TEXT, Outcome, Reporter, run_search
from runtime.proxy import find_device
from runtime.run import Run, RunError, refuse_existing
from runtime.run_config import RunConfig

RUNS = Path("runs")
"""Where searches are put that are given no folder."""


def search(
    out: str | Path | None = None,
    *,
    corpus: str | Path | None = None,
    config: RunConfig | None = None,
    reporter: Reporter | None = None,
    **changes: Any,
) -> Outcome:
    """Evolve a backbone on real text and train the winner: what `opnas search` does.

    Args:
        out: folder to make; by default ``runs/<time>``.
        corpus: UTF-8 text to learn from; by default what ``config`` names, else Python's own documentation.
        config: what is asked for; `RunConfig` by default.
        reporter: told of progress; by default nobody.
        changes: fields of `RunConfig` that shall differ from ``config``, such as ``candidates=10``.

    Returns:
        What was found; the winner stands in ``outcome.run.best_path``.

    Raises:
        OpnasError: where an argument is out of bounds, the corpus cannot be used, or ``out`` exists.
        OSError: where nothing can be written.
    """
    return run_search(*begin(out, corpus=corpus, config=config, **changes), reporter)


def resume(
    folder: str | Path,
    *,
    corpus: str | Path | None = None,
    executor: str | None = None,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Outcome:
    """Go on with a search that was stopped or killed; nothing that was committed is done again.

    Args:
        folder: that of the search.
        corpus: where its text is now, if it was moved.
        executor: who evaluates this time; by default as asked for at first. It does not change what is found.
        workers: how many do so; likewise, or as many as suit another executor.
        reporter: told of progress; by default nobody.

    Raises:
        OpnasError: where the folder is not that of a search, its text is not found, or another process is
            writing it.
        OSError: where nothing can be written.
    """
    return run_search(*reopen(folder, corpus=corpus, executor=executor, workers=workers), reporter)


def begin(
    out: str | Path | None = None,
    *,
    corpus: str | Path | None = None,
    config: RunConfig | None = None,
    **changes: Any,
) -> tuple[Run, Corpus]:
    """Check what is asked for, read the text and make the folder, in this order. Arguments as of `search`."""
    known = [field.name for field in fields(RunConfig)]
    for name in changes:
        if name not in known:
            raise InputError(f"a search has no setting {name!r}; {nearest(name, known)}")
    wanted = replace(config or RunConfig(), **changes)
    find_device(wanted.proxy.device)
    choose_backend(wanted.proxy.backend)
    check_costs_wanted(wanted)
    if out is not None:
        refuse_existing(Path(out))
    text = load_corpus(wanted.corpus if corpus is None else corpus)
    if wanted.corpus_digest not in ("", text.digest):
        raise RunError(ANOTHER_TEXT.format(name=text.name))
    path = wanted.corpus if corpus is None else str(corpus)
    wanted = replace(
        wanted, corpus=None if path is None else str(Path(path).resolve()), corpus_digest=text.digest
    )
    if out is None:
        return Run.create_in(RUNS, wanted, text.stream), text
    return Run.create(out, wanted, text.stream), text


def reopen(
    folder: str | Path,
    *,
    corpus: str | Path | None = None,
    executor: str | None = None,
    workers: int | None = None,
) -> tuple[Run, Corpus]:
    """The run in ``folder`` and its text. Arguments as of `resume`."""
    run = Run.open(folder)
    if corpus is None:
        return run.with_executor(executor, workers), _text_of(run)
    text = load_corpus(corpus)
    if text.digest != run.config.corpus_digest:
        raise RunError(ANOTHER_TEXT.format(name=text.name))
    moved = run.moved_corpus(str(Path(corpus).resolve()), text.stream)
    return moved.with_executor(executor, workers), text


def _text_of(run: Run) -> Corpus:
    """The text that a run names. Where it is not there any more, the error says how to name another place."""
    try:
        text = load_corpus(run.corpus_path)
        if text.digest == run.config.corpus_digest:
            return text
        message = ANOTHER_TEXT.format(name=text.name)
    except CorpusError as error:
        message = str(error)
    if run.corpus_path is not None:
        message += f"; if it was moved, say where it is: opnas resume {run.folder} --corpus FILE"
    raise RunError(message)
