"""Replays on tables: a pickle that is more than data is refused, and every number is one that can be worked out."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import pickletools
import statistics
from collections import Counter
from itertools import product
from random import Random

import numpy as np
import pytest

from evolution import Priorities, make_strategy
from runtime.bench_search import ENTRANTS, TableSpace, contest, read_nas_bench_bert, read_nas_bench_graph
from runtime.bench_search.contest_table import format_contest
from runtime.bench_search.intervals import bootstrap_mean
from runtime.bench_search.plain_pickle import read_plain_pickle
from runtime.bench_search.replay import replay
from runtime.bench_search.table_space import Row, Slot

# -- pickles


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def written(path, data: bytes):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_are_read_in_every_protocol(tmp_path, protocol):
    data = {3: {"a": 0.5, "b": (1, -7, 2**70)}, "x": [None, True, "é"], "again": []}
    data["again"] = data["x"]
    assert read_plain_pickle(written(tmp_path / "p", pickle.dumps(data, protocol))) == data


def test_numbers_of_numpy_are_read_as_plain_ones(tmp_path):
    data = {1: {"a": np.float64(0.1), "b": np.float64(-math.inf)}}
    found = read_plain_pickle(written(tmp_path / "p", pickle.dumps(data, 3)))
    assert found == data
    assert type(found[1]["a"]) is float


@pytest.mark.parametrize(
    "what",
    [
        Malicious(os.mkdir, "made"),
        Malicious(eval, "__import__('os').mkdir('made')"),
        {"deep": [(1, Malicious(os.mkdir, "made"))]},
        {Malicious(os.mkdir, "made"): 1},
        np.array([1.0]),
        np.float32(1.0),
        np.int64(3),
        {1, 2},
        complex(1, 2),
        len,
        Counter("ab"),
    ],
)
def test_anything_else_is_refused_before_it_runs(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"p: it (asks for|holds)"):
        read_plain_pickle(written(tmp_path / "p", pickle.dumps(what, 3)))
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2], 3)[:-3],
        b"\x80\x03cnumpy\ndtype\n.",  # the stand-in itself
        b"\x80\x03cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R.",  # one made, but no number
        b"\x80\x03cnumpy.core.multiarray\nscalar\nK\x01K\x02\x86R.",
        b"\x80\x03cnumpy.core.multiarray\nscalar.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cdtype.__init__\x93.",
        b"\x80\x03cbuiltins\neval\n.",
        b"(cos\nsystem\nS'touch made'\no.",
        b"(S'touch made'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",  # a registered extension
        b"Pelsewhere\n.",  # an object that is kept elsewhere
        b"\x80\x03cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R}X\x01\x00\x00\x00aK\x01sb.",  # attributes for the stand-in
    ],
)
def test_a_pickle_made_by_hand_is_refused(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^p: it |^p is no table|^p asks for more"):
        read_plain_pickle(written(tmp_path / "p", data))
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_place_that_no_table_needs_is_refused_before_memory_is_taken_for_it(tmp_path):
    huge = b"\x80\x03K\x01r\xff\xff\xff\x7f."  # remembered under the number 2^31: 32 GB of places
    assert "LONG_BINPUT" in {op.name for op, _, _ in pickletools.genops(io.BytesIO(huge))}
    with pytest.raises(ValueError, match="p: it remembers more"):
        read_plain_pickle(written(tmp_path / "p", huge))


def test_a_list_that_holds_itself_is_read_once(tmp_path):
    loop = []
    loop.append(loop)
    found = read_plain_pickle(written(tmp_path / "p", pickle.dumps(loop)))
    assert found[0] is found


# -- replays on a table of three slots


def tiny_table(seed: int = 0) -> TableSpace:
    rng = Random(seed)
    slots = (Slot("operation", ("a", "b", "c", "d")),) * 2 + (Slot("link", ("x", "y", "z")),)
    worth = [{name: rng.random() for name in slot.options} for slot in slots]
    rows = {
        architecture: Row(
            sum(w[name] for w, name in zip(worth, architecture, strict=True)),
            {"parameters": float(architecture.count("a"))},
        )
        for architecture in product(*(slot.options for slot in slots))
    }

    def settle(architecture, rng, others):
        return None if architecture in others else architecture

    return TableSpace("tiny", slots, rows, settle, "parameters")


@pytest.mark.parametrize("label", ENTRANTS)
def test_a_replay_is_deterministic_and_sees_every_row_once(label):
    name, settings = ENTRANTS[label]
    table, strategy = tiny_table(), make_strategy(name, **settings)
    found = replay(table, strategy, 3, 100)
    assert found == replay(tiny_table(), strategy, 3, 100)
    assert len(found) == len({c.backbone for c in found}) == 48  # the table is exhausted, and that ends it
    assert all(c.score == table.rows[c.backbone].score for c in found)
    assert replay(table, strategy, 4, 20) != found[:20]


def test_the_numbers_of_a_contest_are_those_of_its_replays():
    table = tiny_table(1)
    result = contest(table, ("random", "uniform"), seeds=5, evaluations=20, top=0.05)
    ranked = sorted((row.score for row in table.rows.values()), reverse=True)
    assert (result.size, result.best, result.threshold) == (
        48,
        ranked[0],
        ranked[2],
    )  # 5% of 48: the best three
    expected = {}
    for label in ("random", "uniform"):
        expected[label] = []
        for seed in range(5):
            scores = [c.score for c in replay(table, make_strategy(label), seed, 20)]
            hits = [number for number, score in enumerate(scores, 1) if score >= ranked[2]]
            expected[label].append((hits[0] if hits else 20, bool(hits), ranked[0] - max(scores[:12])))
    for outcome in result.outcomes:
        needed, reached, regret = zip(*expected[outcome.label], strict=True)
        assert outcome.evaluations.mean == pytest.approx(statistics.fmean(needed))
        assert outcome.reached == pytest.approx(statistics.fmean(reached))
        assert outcome.regret[12].mean == pytest.approx(statistics.fmean(regret))
        assert outcome.curve[11] == pytest.approx(statistics.fmean(regret))
    first, second = result.outcomes
    assert second.saved is None
    assert first.saved.mean == pytest.approx(second.evaluations.mean - first.evaluations.mean)
    text = format_contest(result)
    assert "tiny: 48 architectures" in text
    assert "fewer than uniform" in text
    assert json.loads(json.dumps(result.to_dict()))["outcomes"][0]["label"] == "random"


def test_an_interval_covers_the_mean_about_as_often_as_it_says():
    rng = Random(8)
    covered = 0
    for _ in range(100):
        interval = bootstrap_mean([rng.gauss(0, 1) for _ in range(60)])
        covered += interval.low <= 0 <= interval.high
    # 95 expected, a little less of 60 values; 5 standard deviations are 11.
    assert 84 <= covered <= 100


def test_a_mutation_changes_a_slot_and_records_the_draw():
    table, rng = tiny_table(), Random(0)
    for _ in range(100):
        parent = table.random(rng)
        child, mutation = table.mutated(parent, rng, Priorities.uniform())
        assert sum(a != b for a, b in zip(parent, child, strict=True)) == 1
        assert child[mutation.layer - 1] == mutation.drawn[0][1]
        crossed = table.crossed(parent, table.random(rng), rng)
        assert crossed is None or crossed[0] in table.rows


# -- the outside tables


def bert_entry(layers, glue, hidden_size=256):
    keys = (
        "operation_type",
        "operation_parameter",
        "num_operation_heads",
        "feed_forward_dimension",
        "num_feed_forward",
    )
    nas = {"encoder_layers": [dict(zip(keys, layer, strict=True)) for layer in layers]}
    return {
        "completed": True,
        "time_to_train": 100.0,
        "scores": {"glue": glue},
        "hparams": {"model_hparam_overrides": {"hidden_size": hidden_size, "nas_config": nas}},
    }  # fmt: skip


def test_backbones_of_the_stratum_are_read_and_the_nearest_stands_for_what_is_missing(tmp_path):
    attention, convolution = ("SA", "SDP", 4, 512, 1), ("DSC", 9, 2, 1024, 3)
    mixed = [[attention] * n + [convolution] * (4 - n) for n in (0, 2, 4)]
    entries = [bert_entry(layers, 70.0 + i) for i, layers in enumerate(mixed)]
    entries += [bert_entry([attention] * 4, 99.0, hidden_size=128), bert_entry([attention] * 2, 99.0)]
    path = tmp_path / "bert.json"
    path.write_text(json.dumps(entries))
    table = read_nas_bench_bert(path)
    assert sorted(row.score for row in table.rows.values()) == [70.0, 71.0, 72.0]
    assert table.families["operation"] == ("DSC 9", "SA SDP")
    all_attention = next(a for a, row in table.rows.items() if row.score == 72.0)
    changed = ("DSC 9", *all_attention[1:])
    assert table.settle(changed, Random(0), ()) == all_attention
    assert table.rows[table.settle(changed, Random(0), (all_attention,))].score == 71.0
    assert len(replay(table, make_strategy("opnas"), 0, 10)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not the JSON"),
        ("{}", "must hold a list"),
        ("[{}]", "entry 0 is no"),
        ("[]", "has 0 backbones"),
    ],
)
def test_another_file_is_refused(tmp_path, text, message):
    path = tmp_path / "bert.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_nas_bench_bert(path)


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match="unknown data set 'karate': there are cora"):
        read_nas_bench_graph("karate")


def test_a_missing_package_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install nas-bench-graph"):
        read_nas_bench_graph("cora")


def test_the_package_and_our_reader_agree_on_the_table():
    package = pytest.importorskip("nas_bench_graph")
    table = read_nas_bench_graph("cora")
    assert len(table.rows) == 26_206
    raw = package.light_read(
        "cora"
    )  # its own reader: this file came from where the program's packages come from
    rng = Random(2)
    for architecture in rng.sample(sorted(table.rows), 50):
        entry = raw[package.Arch([int(c) for c in architecture[0]], list(architecture[1:])).valid_hash()]
        row = table.rows[architecture]
        assert (row.score, row.costs["parameters"]) == (entry["valid_perf"], entry["para"])
    for _ in range(50):  # a mutation leads to the row of the architecture that was asked for
        parent = table.random(rng)
        asked = (*parent[:3], "gcn", parent[4])
        found = table.settle(asked, rng, ())
        assert (
            package.Arch([int(c) for c in asked[0]], list(asked[1:])).valid_hash()
            == package.Arch([int(c) for c in found[0]], list(found[1:])).valid_hash()
        )


def test_the_command_prints_a_table_and_writes_the_curves(tmp_path, monkeypatch, capsys):
    from runtime.bench_search import __main__ as command

    monkeypatch.setattr(command, "read_nas_bench_graph", lambda name: tiny_table())
    out = tmp_path / "out.json"
    command.bench_search(["tiny"], seeds=2, evaluations=10, nas_bench_bert=None, out=out)
    printed = capsys.readouterr()
    assert "2 seeds, 10 evaluations" in printed.out
    assert all(label in printed.out for label in ENTRANTS)
    assert "tiny: opnas, 2 searches of 10" in printed.err
    assert len(json.loads(out.read_text())[0]["outcomes"][0]["curve"]) == 10
