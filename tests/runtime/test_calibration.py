"""Calibration: agreement of rankings, the backbones, and the whole of it in small."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
from scipy.stats import kendalltau

from evolution import SearchSpace
from graphir import InputError
from graphir.files import write_json
from runtime.calibration import Calibration, calibrate
from runtime.calibration.agreement import agreement
from runtime.calibration.backbones import all_convolutions, backbones_to_calibrate, known_backbones
from runtime.calibration.calibrate import agreements, proxy_scores
from runtime.calibration.table import format_agreements, verdict
from runtime.console import make_console
from runtime.proxy_config import ProxyConfig
from runtime.ranking import print_run
from runtime.report.data import CALIBRATION
from runtime.run import Run

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16)
TINY = Calibration(
    backbones=4,
    steps=2,
    batch_size=2,
    probe_steps=2,
    space=SPACE,
    proxy=ProxyConfig(
        vocab_size=300,
        seq_len=16,
        batch_size=2,
        held_out_sequences=4,
        warm_up_steps=2,
        candidate_steps=2,
        probe_steps=2,
    ),
)


def test_tau_is_that_of_scipy_with_ties_too():
    a, b = [1.0, 2.0, 2.0, 5.0, 3.0, 0.5], [3.0, 1.0, 4.0, 9.0, 4.0, 0.0]
    found = agreement(a, b)
    assert found.tau == pytest.approx(kendalltau(a, b).statistic)
    assert found.low <= found.tau <= found.high


def test_a_ranking_that_tells_nothing_apart_agrees_with_nothing():
    assert agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).tau == 0.0


def test_too_few_backbones_are_refused():
    with pytest.raises(InputError, match="cannot be compared"):
        agreement([1.0, 2.0], [1.0, 2.0])


def test_known_backbones_fit_the_space_and_come_first():
    chosen = backbones_to_calibrate(SPACE, 10, seed=0)
    assert [b.name for b in chosen[:3]] == ["bert", "convolutions", "plain-behind-convolution"]
    assert len({b.canonical_hash() for b in chosen}) == 10
    assert {(len(b.layers), b.hidden_size, b.heads, b.ffn_size) for b in chosen} == {(2, 16, 2, 16)}
    assert [b.to_dict() for b in chosen] == [b.to_dict() for b in backbones_to_calibrate(SPACE, 10, seed=0)]


def test_a_space_without_convolutions_has_no_stack_of_them():
    space = replace(SPACE, kernel_sizes=(), conv_probability=0.0)
    assert list(known_backbones(space)) == ["bert"]
    with pytest.raises(InputError, match="no convolutions"):
        all_convolutions(space)


def rows(inherited, recall, long):
    """One row a backbone: its losses by the proxies, and its long losses, equal on text and on recall."""
    return [
        {
            "name": f"b{i}",
            "layers": ["conv 3"],
            "parameters": 100 - i,
            "inherited": inherited[i],
            "own": -inherited[i],
            "probes": dict.fromkeys(("recall", "noisy-recall", "copying", "brackets"), recall[i]),
            "long": {"mlm": {"loss": long[i]}, "recall": {"loss": long[i], "accuracy": 0.5}},
        }
        for i in range(len(long))
    ]


def test_lower_losses_are_better_and_more_parameters_are():
    found = {
        (row["long training"], row["proxy"]): row["tau"]
        for row in agreements(rows([1.0, 2, 3, 4], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]), 512, "mix")
    }
    assert found["mlm", "mlm"] == 1.0
    assert found["mlm", "recall"] == -1.0
    assert found["mlm", "mlm, own weights"] == -1.0
    assert found["mix", "parameters"] == 1.0


def test_the_mix_weighs_losses_by_what_ignorance_costs():
    scores = proxy_scores(rows([math.log(512)], [0.0], [1.0]), 512)
    assert scores["mix"] == pytest.approx([-0.5])


def test_a_proxy_that_is_no_better_than_counting_parameters_is_warned_of():
    useless = {
        "agreement": agreements(rows([1.0, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]), 512, "mix")
    }
    assert "hardly better than counting" in verdict(useless)
    good = [dict(row, tau=0.2) if row["proxy"] == "parameters" else row for row in useless["agreement"]]
    assert verdict({"agreement": good}).endswith("0.20.")


def test_inspecting_a_run_says_what_its_calibration_found(finished_run, tmp_path, capsys):
    run = Run.open(shutil.copytree(finished_run, tmp_path / "run"))
    print_run(run, make_console())
    assert "ranks with tau" not in capsys.readouterr().out
    useless = {"agreement": agreements(rows([1.0, 2, 3], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]), 512, "mix")}
    write_json(run.folder / CALIBRATION, useless)
    print_run(run, make_console())
    assert "hardly better than counting" in " ".join(capsys.readouterr().out.split())
    (run.folder / CALIBRATION).write_text("[1]")
    print_run(run, make_console())
    assert "ranks with tau" not in capsys.readouterr().out


def test_a_calibration_in_small_goes_on_where_it_was_stopped(tmp_path, corpus_file):
    told = []
    tiny = replace(TINY, corpus=str(corpus_file))
    results = calibrate(tmp_path, tiny, 0, told.append)
    assert len(results["backbones"]) == 4
    assert len([line for line in told if line.startswith(("long", "proxies"))]) == 8
    assert json.loads((tmp_path / "calibration.json").read_text())["agreement"] == results["agreement"]
    assert "| bert |" in format_agreements(results)

    (tmp_path / "proxies" / "bert.json").unlink()
    told.clear()
    again = calibrate(tmp_path, replace(tiny, proxy=replace(tiny.proxy, task="recall")), 0, told.append)
    assert [line.split(":")[0] for line in told][1:] == ["proxies/bert"]
    assert again["agreement"][0]["proxy"] == "recall"
    assert [row["probes"] for row in again["backbones"]] == [row["probes"] for row in results["backbones"]]
    with pytest.raises(InputError, match="another steps"):
        calibrate(tmp_path, replace(tiny, steps=3), 0, told.append)
