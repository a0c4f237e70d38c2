"""Naming a search, its study and its candidates on the command line."""

from __future__ import annotations

import json

import pytest

from runtime.targets import TargetError, resolve
from tests.runtime.synthetic_run import synthetic_candidates, synthetic_run


@pytest.fixture(scope="module")
def candidates():
    return synthetic_candidates(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, candidates):
    return synthetic_run(tmp_path_factory.mktemp("targets") / "run", candidates).folder


def hashes(*backbones):
    return [backbone.canonical_hash() for backbone in backbones]


def test_a_run_and_its_study_stand_for_the_winner_and_a_number_for_a_candidate(folder, candidates):
    best = max((c for c in candidates if c.ok), key=lambda c: c.score).backbone
    assert hashes(resolve(str(folder)), resolve(str(folder / "study.db"))) == hashes(best, best)
    for place in (folder, folder / "study.db"):
        for index in (0, 8, 29):  # 8 failed: its graph can be looked at all the same
            assert hashes(resolve(f"{place}#{index}")) == hashes(candidates[index].backbone)


def test_a_study_without_its_run_is_looked_at(opnas, folder, tmp_path):
    copy = tmp_path / "copied elsewhere"
    copy.write_bytes((folder / "study.db").read_bytes())
    code, out, _ = opnas("inspect", copy)
    assert code == 0
    assert "30 candidates" in out
    assert "the best 10 of 27 candidates" in out


def test_a_candidate_is_shown_with_its_origin_its_numbers_and_its_layers(opnas, folder, candidates):
    code, out, _ = opnas("inspect", f"{folder}#12")
    assert code == 0
    assert f"candidate 12, made from {candidates[12].parent}: {candidates[12].mutation}" in out
    assert f"score {candidates[12].score:.5f}" in out
    assert "accuracy" in out
    code, out, _ = opnas("inspect", f"{folder}#8")
    assert code == 0
    assert "failed: it hung" in out


def test_candidates_are_targets_of_other_commands_and_forms(opnas, folder, candidates, tmp_path):
    code, out, _ = opnas("diff", f"{folder}#0", f"{folder}#29")
    assert code == 0
    code, out, _ = opnas("inspect", f"{folder}#3", "--format", "model-explorer")
    assert code == 0
    assert json.loads(out)["label"] == candidates[3].backbone.name
    assert opnas("inspect", f"{folder}#3", "--draw", tmp_path / "drawn.svg")[0] == 0
    assert (tmp_path / "drawn.svg").exists()


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("#30", "no candidate 30: it has 0 to 29"),
        ("#", "a candidate is named by its number"),
        ("#best", "not 'best'"),
        ("#-1", "not '-1'"),
        ("/config.json#1", "is no search: only the candidates of a search have numbers"),
    ],
)
def test_a_candidate_that_is_none_is_refused_on_one_line(opnas, folder, rest, message):
    code, out, err = opnas("inspect", f"{folder}{rest}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_number_of_what_is_not_there_is_an_unknown_name(tmp_path):
    with pytest.raises(TargetError):
        resolve(f"{tmp_path / 'nothing'}#1")
