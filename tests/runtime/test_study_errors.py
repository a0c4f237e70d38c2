"""What the command line says of a study that cannot be used: one line, exit code 2, and nothing on the disk changes."""

import sqlite3
from contextlib import closing

import pytest

from evolution import Study
from runtime.corpus import load_corpus
from tests.runtime.synthetic_run import synthetic_candidates, synthetic_run


@pytest.fixture
def run(tmp_path, corpus_file):
    digest = load_corpus(corpus_file).digest
    folder = tmp_path / "run"
    return synthetic_run(folder, synthetic_candidates(30), corpus=str(corpus_file), corpus_digest=digest)


def newer(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")


def another_database(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")


def cut_within_a_page(path):
    path.write_bytes(path.read_bytes()[:-1000])


def cut_between_pages(path):
    path.write_bytes(path.read_bytes()[: -2 * 4096])


def cut_to_its_head(path):
    path.write_bytes(path.read_bytes()[:100])


def folder(path):
    path.unlink()
    path.mkdir()


CASES = {
    newer: "version 3: this program reads versions 1 and 2, so a newer opnas made it",
    cut_within_a_page: "bytes: it was cut off, copied while",
    cut_between_pages: "cannot be read as a study",
    cut_to_its_head: "cannot be read as a study",
    another_database: "an SQLite file but not a study: give the study.db of a run",
    (lambda path: path.write_bytes(b"")): "an SQLite file but not a study",
    (lambda path: path.write_text("score,name\n1,2\n" * 100)): "file is not a database",
    folder: "there is no study at",
}


def contents(top):
    return {path: path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


@pytest.mark.parametrize("spoil", CASES)
@pytest.mark.parametrize("command", ["inspect", "report", "resume"])
def test_a_study_that_cannot_be_used_is_refused_on_one_line(run, opnas, spoil, command):
    spoil(run.study_path)
    run.study_path.with_name("study.db-lock").unlink()
    before = contents(run.folder)
    code, out, err = opnas(command, run.folder)
    assert (code, out.count("\n") * (command != "resume")) == (2, 0)  # resume tells of its corpus first
    assert CASES[spoil] in err
    assert len(err.splitlines()) == 1
    assert contents(run.folder) == before


def test_no_study_is_refused_on_one_line(run, opnas):
    run.study_path.unlink()
    before = contents(run.folder)
    code, out, err = opnas("inspect", run.folder)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "there is no study at" in err
    assert contents(run.folder) == before


def test_a_second_writer_is_refused_on_one_line_and_readers_are_not(run, opnas):
    with Study.open(run.study_path):
        before = contents(run.folder)
        code, _, err = opnas("resume", run.folder)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "study.db is being written by another search: wait for it, or open it for reading only" in err
        code, out, _ = opnas("inspect", run.folder)
        assert code == 0
        assert "30 of 40 candidates" in out
        assert contents(run.folder) == before
