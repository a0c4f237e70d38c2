"""Studies: what they keep, who may write, and what they refuse."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import zlib
from random import Random

import pytest

from evolution import Candidate, Mutation, SearchSpace, Study, StudyError, random_backbone

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16)


def candidate(index: int, score: float | None = None, **fields) -> Candidate:
    backbone = random_backbone(Random(index), SPACE, name=f"candidate-{index}")
    status = "failed" if score is None else "ok"
    reason = "MemoryError: test" if score is None else None
    return Candidate(
        index,
        backbone,
        f"hash{index}",
        f"print{index}",
        index,
        status=status,
        score=score,
        reason=reason,
        **fields,
    )


@pytest.fixture
def study(tmp_path):
    with Study.create(tmp_path / "study.db", {"corpus": "text", "seed": 3}) as opened:
        yield opened


def test_what_was_added_is_read_back_by_another_opening(study, tmp_path):
    added = [
        candidate(0, 0.25, metrics={"loss": 2.5}, seconds=1.5),
        candidate(1),
        candidate(2, -1.0, parent=0, mutation=Mutation("insert", "neg inserted", "neg", 2)),
    ]
    for entry in added:
        study.add(entry)
    study.close()
    with Study.open(tmp_path / "study.db") as again:
        assert again.candidates() == added
        assert again.candidates(start=2) == added[2:]
        assert len(again) == 3
        assert again.config == {"corpus": "text", "seed": 3}
        assert again.draws() == {"neg": 1}
        assert [c.index for c in again.failures()] == [1]
        assert [c.backbone.name for c in again.candidates()] == ["candidate-0", "candidate-1", "candidate-2"]


def test_ranking_is_by_score_then_age_and_leaves_failures_out(study):
    for index, score in enumerate([0.5, None, 0.9, 0.5, 0.1]):
        study.add(candidate(index, score))
    assert [c.index for c in study.ranked()] == [2, 0, 3, 4]
    assert [c.index for c in study.best(2)] == [2, 0]


def test_a_metric_that_is_not_finite_does_not_harm(study):
    study.add(candidate(0, 0.5, metrics={"loss": math.inf, "accuracy": 0.5}))
    metrics = study.candidates()[0].metrics
    assert math.isnan(metrics["loss"])
    assert metrics["accuracy"] == 0.5


def test_candidates_are_added_in_order_and_evaluated(study):
    with pytest.raises(StudyError, match="out of order: the next is 0"):
        study.add(candidate(1, 0.5))
    with pytest.raises(StudyError, match="not evaluated"):
        study.add(Candidate(0, random_backbone(Random(0), SPACE), "h", "f", 0))
    assert len(study) == 0


def test_a_study_can_be_read_while_it_is_written(study, tmp_path):
    study.add(candidate(0, 0.5))
    with Study.open(tmp_path / "study.db", readonly=True) as reader:
        assert len(reader) == 1
        study.add(candidate(1, 0.6))
        assert [c.score for c in reader.ranked()] == [0.6, 0.5]
        with pytest.raises(StudyError, match="open for reading only"):
            reader.add(candidate(2, 0.7))


def test_a_study_that_is_copied_alone_between_commits_is_whole(study, tmp_path):
    for index in range(4):
        study.add(candidate(index, 0.1 * index, mutation=Mutation("insert", "neg inserted", "neg", 1)))
        copy = tmp_path / f"copy{index}.db"
        shutil.copyfile(tmp_path / "study.db", copy)  # while the writer is there, and the one file only
        with Study.open(copy, readonly=True) as reader:
            assert reader.candidates() == study.candidates()
            assert reader.draws() == {"neg": index + 1}


def test_a_copy_that_a_commit_got_between_is_whole_or_refused(study, tmp_path):
    path, copy = tmp_path / "study.db", tmp_path / "copy.db"
    seed = int.from_bytes(os.urandom(4))
    rng = Random(seed)
    refusals = unclear = 0
    for index in range(30):
        before = path.read_bytes()
        study.add(candidate(index, rng.random(), mutation=Mutation("insert", "neg inserted", "neg", 1)))
        after = path.read_bytes()
        # Every page is of before or of after, as where a copy and a commit meet.
        old = before.ljust(len(after), b"\0")
        pages = [(old[at : at + 4096], after[at : at + 4096]) for at in range(0, len(after), 4096)]
        copy.write_bytes(
            b"".join(rng.choice(page) for page in pages)[: rng.choice([len(before), len(after)])]
        )
        whole = study.candidates()
        try:
            with Study.open(copy, readonly=True) as reader:
                found, drawn = reader.candidates(), reader.draws()
        except StudyError as error:
            refusals += 1
            unclear += "copy it again" not in str(error)
        else:
            assert found in (whole, whole[:-1]), f"seed {seed}, {index}"
            assert drawn == ({"neg": len(found)} if found else {}), f"seed {seed}, {index}"
    assert refusals > 5, f"seed {seed}"
    assert not unclear, f"seed {seed}"


def test_a_writer_killed_within_a_commit_leaves_a_study_that_can_be_read(study, tmp_path):
    study.add(candidate(0, 0.5))
    study.close()
    # The journal holds the old pages; the process is gone before the file is whole again.
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE'); "
        "[c.execute('INSERT INTO settings VALUES (?, ?)', (str(i), 'x' * 3000)) for i in range(200)]; "
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "study.db")], check=True)
    assert (tmp_path / "study.db-journal").exists()
    with Study.open(tmp_path / "study.db", readonly=True) as reader:
        assert [c.score for c in reader.candidates()] == [0.5]
    with Study.open(tmp_path / "study.db") as again:
        again.add(candidate(1, 0.6))
        assert len(again) == 2


def test_a_study_on_a_full_disk_keeps_what_was_committed_and_goes_on_later(study, tmp_path):
    study.add(candidate(0, 0.5))
    pages = study._connection.execute("PRAGMA page_count").fetchone()[0]
    study._connection.execute(
        f"PRAGMA max_page_count = {pages}"
    )  # SQLite says of this what it says of a full disk
    index = 0

    def add_until_it_is_full():
        nonlocal index
        while index < 50:
            index += 1
            study.add(candidate(index, 0.5))

    with pytest.raises(StudyError, match="full"):
        add_until_it_is_full()
    kept = len(study)
    assert kept == index
    study._connection.execute("PRAGMA max_page_count = 1000000")
    study.add(candidate(kept, 0.7))
    with Study.open(tmp_path / "study.db", readonly=True) as reader:
        assert reader.best()[0].index == kept


def test_a_study_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    def full(connection):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("evolution.study.create_tables", full)
    with pytest.raises(StudyError, match="disk is full"):
        Study.create(tmp_path / "study.db")
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".db-lock"]


def test_a_finished_study_can_be_read(study, tmp_path):
    study.add(candidate(0, 0.5))
    study.close()
    before = {path.name for path in tmp_path.iterdir()}
    with Study.open(tmp_path / "study.db", readonly=True) as reader:
        assert reader.best()[0].score == 0.5
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_second_writer_is_refused_until_the_first_is_done(study, tmp_path):
    with pytest.raises(StudyError, match="being written by another search"):
        Study.open(tmp_path / "study.db")
    study.close()
    Study.open(tmp_path / "study.db").close()


def test_a_setting_may_not_change(study):
    study.settle("search", {"seed": 1, "space": {"layers": 2}})
    study.settle("search", {"space": {"layers": 2}, "seed": 1})
    with pytest.raises(StudyError, match=r"another search \(seed: 1, now 2\)"):
        study.settle("search", {"seed": 2, "space": {"layers": 2}})


def test_creating_refuses_what_exists_and_what_does_not_fit(tmp_path):
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(StudyError, match="exists already"):
        Study.create(tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"
    with pytest.raises(StudyError, match=r"folder .* does not exist"):
        Study.create(tmp_path / "nowhere" / "study.db")
    with pytest.raises(StudyError, match="does not fit JSON"):
        Study.create(tmp_path / "study.db", {"value": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["there.db"]


def changed(path, *statements):
    """Write to a closed study as a stranger would."""
    connection = sqlite3.connect(path)
    connection.create_function("packed", 1, lambda text: zlib.compress(text.encode()))
    connection.create_function("unpacked", 1, lambda data: zlib.decompress(data).decode())
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a study"),
        (b"score,name\n1,2\n" * 100, "cannot be read as a study: file is not a database"),
        (None, "there is no study at"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, content, message, readonly):
    path = tmp_path / "study.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=message):
        Study.open(path, readonly=readonly)
    assert not path.exists() or path.read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "PRAGMA user_version = 9",
            "version 9: this program reads versions 1 and 2, so a newer opnas made it",
        ),
        ("PRAGMA application_id = 1", "an SQLite file but not a study"),
        ("CREATE VIEW more AS SELECT 1", "other tables than a study"),
        (
            "CREATE TRIGGER t AFTER INSERT ON candidates BEGIN DELETE FROM candidates; END",
            "other tables than a study",
        ),
        ("DROP TABLE draws", "other tables than a study"),
        ("DROP INDEX ranking", "other tables than a study"),
        ("DELETE FROM settings WHERE name = 'seal'", "has no seal"),
    ],
)
def test_a_database_that_is_no_study_of_this_version_is_refused(study, tmp_path, statement, message):
    study.close()
    changed(tmp_path / "study.db", statement)
    with pytest.raises(StudyError, match=message):
        Study.open(tmp_path / "study.db")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE candidates SET backbone = packed('{}')", "candidate 0 .* unknown format"),
        ("UPDATE candidates SET backbone = packed('[')", "candidate 0 of the study cannot be read"),
        (
            "UPDATE candidates SET backbone = packed(replace(unpacked(backbone), 'graph/1', 'x')), metrics = '[]'",
            "candidate 0 .* metrics are not an object",
        ),
        ('UPDATE candidates SET metrics = \'{"a": "b"}\'', "candidate 0 .* could not convert"),
        ("UPDATE candidates SET score = NULL", "candidate 0 .* status 'ok' with score None"),
        ("UPDATE candidates SET score = 9e999", "candidate 0 .* status 'ok' with score inf"),
        ("UPDATE candidates SET parent = 0", "candidate 0 .* the parent 0 does not come before it"),
        ("UPDATE candidates SET mutation = '{\"kind\": 1}'", "candidate 0 .* a mutation is an object"),
        ("UPDATE candidates SET number = 5", "holds 6 of 1 candidates"),
        ("UPDATE candidates SET score = 0.75", "study.db is not whole"),
        ("UPDATE candidates SET reason = replace(hex(zeroblob(1000000)), '0', 'x')", "too big"),
        (
            "UPDATE candidates SET backbone = packed(replace(hex(zeroblob(200000)), '0', '['))",
            "candidate 0 of the study cannot be read",
        ),
        (
            "UPDATE candidates SET backbone = substr(backbone, 1, length(backbone) - 4)",
            "candidate 0 .* backbone is cut off",
        ),
        (
            # A thousand bytes that would become megabytes.
            "UPDATE candidates SET backbone = packed(replace(hex(zeroblob(490000)), '0', 'a') || 'more than fits')",
            "candidate 0 of the study cannot be read",
        ),
        ("UPDATE candidates SET backbone = x'00'", "candidate 0 of the study cannot be read"),
    ],
)
def test_a_candidate_that_was_tampered_with_is_refused_by_number(study, tmp_path, statement, message):
    study.add(candidate(0, 0.5))
    study.close()
    changed(tmp_path / "study.db", statement)
    with pytest.raises(StudyError, match=message), Study.open(tmp_path / "study.db") as opened:
        opened.candidates()
