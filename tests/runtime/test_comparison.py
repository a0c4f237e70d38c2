"""The closing comparison of a search."""

from __future__ import annotations

import json

import pytest

from runtime import comparison
from runtime.comparison import COMPARISON, RIVALS, compare, read_comparison
from runtime.console import make_console
from runtime.ranking import print_comparison
from runtime.search import resume, search


def test_a_search_ends_with_its_winner_beside_its_rivals(tmp_path, corpus_file, tiny_config):
    outcome = search(
        tmp_path / "run", corpus=corpus_file, config=tiny_config, candidates=1, comparison_steps=1
    )
    assert {rank.name for rank in outcome.comparison} == {"winner", *RIVALS}
    scores = [rank.score for rank in outcome.comparison]
    assert scores == sorted(scores, reverse=True)
    assert resume(tmp_path / "run").comparison == outcome.comparison


def test_what_was_compared_is_not_trained_again_until_there_is_another_winner(
    tmp_path, corpus_file, tiny_config
):
    outcome = search(
        tmp_path / "run", corpus=corpus_file, config=tiny_config, candidates=2, comparison_steps=1
    )
    first, second = (candidate.backbone for candidate in outcome.ranked)
    told = []
    assert compare(outcome.run, first, 1, 0, told.append) == outcome.comparison
    assert told == []
    compare(outcome.run, second, 1, 0, told.append)
    assert len(told) == 1 + len(RIVALS)
    assert read_comparison(outcome.run.folder / COMPARISON)[1] == second.canonical_hash()


def test_all_are_trained_on_the_same_batches_with_the_same_seed(
    tmp_path, corpus_file, tiny_config, monkeypatch
):
    asked = []

    def remember(jobs, *rest):
        asked.extend(job.arguments for job in jobs)
        return {job.key: {"score": -1.0, "metrics": {}} for job in jobs}

    outcome = search(tmp_path / "run", corpus=corpus_file, config=tiny_config, candidates=1)
    monkeypatch.setattr(comparison, "carry_out", remember)
    compare(outcome.run, outcome.ranked[0].backbone, 7, 0, print)
    shared = [{name: value for name, value in arguments.items() if name != "backbone"} for arguments in asked]
    assert shared == [shared[0]] * (1 + len(RIVALS))
    assert shared[0]["steps"] == 7


def test_a_file_that_is_no_comparison_is_none(tmp_path):
    file = tmp_path / COMPARISON
    assert read_comparison(file) is None
    for text in ("", "[]", json.dumps({"ranks": [{"name": "winner"}], "winner": "x"})):
        file.write_text(text)
        assert read_comparison(file) is None


def test_a_training_that_diverged_is_last_and_said(capsys):
    ranks = (
        comparison.Rank("winner", -0.5, {"loss": 5.0, "accuracy": 0.1, "recall_accuracy": 1.0}, "conv 3"),
        comparison.Rank("bert", None, {}, "x"),
    )
    print_comparison(ranks, 200, make_console())
    printed = capsys.readouterr().out
    assert "recall" in printed
    assert "diverged" in printed.splitlines()[-1]
    assert printed.splitlines()[-2].split() == ["winner", "-0.5000", "5.0000", "0.1000", "1.0000"]


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_are_known_backbones(name):
    from runtime.calibration.backbones import known_backbones
    from runtime.proxy_config import PROXY_SPACE

    assert len(known_backbones(PROXY_SPACE)[name].layers) == PROXY_SPACE.layers
