"""Reading some candidates of a study: what is found without reading all, and what that still checks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from evolution import Candidate, Evaluation, SearchSpace, Study, StudyError, make_strategy, search
from evolution.candidate import ranking
from evolution.schema import VERSION
from tests.evolution.test_study import candidate, changed

SCORES = [0.5, None, 0.9, 0.5, -0.0, None, 0.9, 2]


@pytest.fixture
def path(tmp_path):
    with Study.create(tmp_path / "study.db") as study:
        for index, score in enumerate(SCORES):
            study.add(candidate(index, score, metrics={"loss": 1.0}, seconds=1))
    return tmp_path / "study.db"


def test_the_best_are_the_first_of_the_ranking_and_equal_scores_stand_by_age(path):
    with Study.open(path, readonly=True) as study:
        for n in range(9):
            assert study.best(n) == study.ranked()[:n]
        assert [c.index for c in study.best(6)] == [7, 2, 6, 0, 3, 4]
        assert study.best(6) == sorted((c for c in study.candidates() if c.ok), key=ranking)


def test_failures_single_candidates_and_their_number_are_found_without_the_others(path):
    with Study.open(path, readonly=True) as study:
        assert [c.index for c in study.failures()] == [1, 5]
        assert [c.index for c in study.failures(1)] == [1]
        assert study.candidate(3) == study.candidates()[3]
        assert study.scored() == 6
        for wrong in (8, -1):
            with pytest.raises(StudyError, match=f"no candidate {wrong}: it has 0 to 7"):
                study.candidate(wrong)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE candidates SET score = 3.0 WHERE number = 3",
        "UPDATE candidates SET metrics = '{}' WHERE number = 2",
        "UPDATE candidates SET backbone = (SELECT backbone FROM candidates WHERE number = 0) WHERE number = 2",
        "UPDATE candidates SET digest = (SELECT digest FROM candidates WHERE number = 0) WHERE number = 2",
    ],
)
def test_the_best_are_refused_where_one_of_them_is_not_what_was_committed(path, statement):
    changed(path, statement)
    with (
        Study.open(path, readonly=True) as study,
        pytest.raises(StudyError, match="was committed: it was cut off"),
    ):
        study.best(3)


def test_a_change_of_the_newest_candidate_is_seen_when_the_study_is_opened(path):
    changed(path, "UPDATE candidates SET digest = 'x' WHERE number = 7")
    with pytest.raises(StudyError, match=r"the newest candidate of study\.db is not the one"):
        Study.open(path, readonly=True)


def test_what_reading_the_best_cannot_see_reading_all_does(path):
    changed(path, "UPDATE candidates SET score = -9.0 WHERE number = 2")
    with Study.open(path, readonly=True) as study:
        assert [c.index for c in study.best(2)] == [7, 6]  # as evolution.seal says
        with pytest.raises(StudyError, match="not whole"):
            study.candidates()


def test_a_writer_reads_its_study_once_and_sees_what_it_adds(path):
    with Study.open(path) as study:
        first, again = study.candidates(), study.candidates()
        assert again == first
        assert again is not first
        assert all(one is other for one, other in zip(first, again, strict=True))
        again.clear()
        study.add(candidate(8, 3.0))
        assert [c.index for c in study.candidates(7)] == [7, 8]
        assert study.best()[0].index == 8


# -- studies of version 1


class ByNodes:
    """The evaluator that the study of version 1 was made with."""

    def evaluate(self, backbone, seed, budget):
        nodes = sum(len(graph) for graph in backbone.graphs)
        if nodes == 5:
            raise MemoryError("out of memory")
        return Evaluation(-2.0 - 1 / (1 + nodes), {"loss": 2.0 + 1 / (1 + nodes), "accuracy": 0.25}, 1.5)


SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16, max_nodes=5)


def carried_on(path, candidates) -> list[Candidate]:
    with Study.open(path) if path.exists() else Study.create(path) as study:
        strategy = make_strategy("opnas", population=3, parents=2)
        search(study, SPACE, strategy, ByNodes(), candidates=candidates, seed=3, budget=5)
        return [replace(c, seconds=0.0) for c in study.candidates()]


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name("study_version_1.sql").read_text())
    return path


def test_a_study_of_version_1_is_read_and_continued_as_one(old, tmp_path):
    with Study.open(old, readonly=True) as study:
        assert study.version == 1
        assert [c.index for c in study.best(9)] == [4, 5, 0, 1, 2] == [c.index for c in study.ranked()]
        assert [c.index for c in study.failures()] == [3]
        assert study.candidate(5).parent is not None
        assert study.draws() == {"transpose": 1, "neg": 1, "logsigmoid": 1}
    # The newest program finds the same, in a new file as in the old one.
    assert carried_on(old, 9) == carried_on(tmp_path / "new.db", 9)
    with Study.open(old, readonly=True) as study, Study.open(tmp_path / "new.db", readonly=True) as new:
        assert (study.version, new.version) == (1, VERSION)
        assert study.best(9) == study.ranked() == new.best(9)
        new.candidates()  # as the seal says


def test_a_study_of_version_1_that_was_changed_is_refused(old):
    changed(old, "UPDATE candidates SET score = -1.0 WHERE number = 2")
    with Study.open(old, readonly=True) as study, pytest.raises(StudyError, match="not whole"):
        study.candidates()
