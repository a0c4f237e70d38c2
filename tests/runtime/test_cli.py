"""The command line: what it prints, and what it refuses."""

import json
import subprocess
import sys

import pytest

from graphir import presets

GRAPH = presets.get("bert/1").to_dict()


def graph_file(tmp_path, **changes):
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({**GRAPH, **changes}))
    return path


# -- looking


def test_inspect_shows_formula_nodes_and_plan(opnas):
    code, out, _ = opnas("inspect", "autobert-zero/6")
    assert code == 0
    assert "softmax(scale(Q @ -logsigmoid(K).T)) @ Q" in out
    assert "scaled_dot_product_attention" in out


@pytest.mark.parametrize(
    ("form", "sign"), [("latex", r"\top"), ("dot", "digraph"), ("mermaid", "flowchart"), ("json", '"format"')]
)
def test_inspect_prints_every_form(opnas, form, sign):
    code, out, _ = opnas("inspect", "bert/1", "--format", form)
    assert code == 0
    assert sign in out


def test_inspect_prints_source_that_runs(opnas):
    _, out, _ = opnas("inspect", "bert/1", "--source")
    names = {}
    exec(out, names)
    assert callable(names["attention"])


def test_inspect_reads_files_and_formulas(opnas, tmp_path):
    assert opnas("inspect", graph_file(tmp_path))[0] == 0
    assert "Q x D" not in opnas("inspect", "softsign(Q) + V")[1]
    backbone = tmp_path / "backbone.json"
    presets.get("autobert-zero").save(backbone)
    assert "kernel size 65" in opnas("inspect", backbone)[1]


def test_inspect_draws(opnas, tmp_path):
    code, _, _ = opnas("inspect", "bert/1", "--draw", tmp_path / "graph.svg")
    assert code == 0
    assert "softmax" in (tmp_path / "graph.svg").read_text()


def test_diff_names_what_changed(opnas):
    code, out, _ = opnas("diff", "bert/1", "autobert-zero/12")
    assert code == 0
    assert "add" in out


def test_bench_prints_a_table_and_writes_json(opnas, tmp_path):
    path = tmp_path / "bench.json"
    sizes = ("--seq-len", 32, "--head-dim", 8, "--heads", 2, "--rounds", 1)
    code, out, _ = opnas("bench", "linear-attention", "Q @ softmax(K.T @ V)", *sizes, "--json", path)
    assert code == 0
    assert "linear-attention" in out
    assert {row["name"] for row in json.loads(path.read_text())["rows"]} == {"linear-attention", "formula"}


def test_bench_measures_random_graphs_and_the_slowest_against_eager(opnas, tmp_path):
    path = tmp_path / "bench.json"
    sizes = ("--seq-len", 24, "--head-dim", 4, "--heads", 2, "--rounds", 1)
    code, out, err = opnas("bench", "--random", 14, "--seed", 2, *sizes, "--json", path)
    assert code == 0, err
    assert "judged on the first 1 of 2 heads" in out
    assert "geometric mean" in out
    assert "minimum" in out
    data = json.loads(path.read_text())
    assert [row["name"] for row in data["rows"]] == [f"random-{n}" for n in range(14)]
    timed = [row["forms"] for row in data["rows"] if row["forms"]]
    assert all(set(forms) == {"eager", "generated"} for forms in timed)
    assert all(forms["generated"]["forward"] is None for forms in timed)


def test_bench_times_no_wrong_result_and_exits_with_1(opnas, monkeypatch):
    from codegen import compile_attention

    monkeypatch.setattr(
        "runtime.bench.compile_attention", lambda graph, backend: compile_attention(presets.get("bert/1"))
    )
    sizes = ("--seq-len", 32, "--head-dim", 8, "--heads", 2, "--rounds", 1)
    code, out, err = opnas("bench", "linear-attention", *sizes)
    assert code == 1
    assert "wrong" in out
    assert "linear-attention" in err


# -- refusals: one clear message, exit code 2, nothing written


def refused(result, *words):
    code, _, err = result
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("missing.txt", None, "missing.txt"),
        ("empty.txt", b"", "empty"),
        ("binary.txt", bytes(range(256)) * 40, "text"),
        ("latin.txt", "Größe\n\n".encode("latin-1") * 500, "UTF-8"),
        ("short.txt", b"Too little.", "short.txt"),
    ],
)
def test_search_refuses_a_bad_corpus_and_writes_nothing(opnas, tmp_path, name, content, word):
    corpus = tmp_path / name
    if content is not None:
        corpus.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    refused(opnas("search", "--corpus", corpus, "--out", tmp_path / "run"), word)
    assert sorted(tmp_path.iterdir()) == before


def test_search_refuses_a_folder_as_corpus(opnas, tmp_path):
    refused(opnas("search", "--corpus", tmp_path, "--out", tmp_path / "run"), "folder")


def test_search_refuses_an_existing_folder(opnas, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    refused(opnas("search", "--out", tmp_path), "exists already")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--strategy", "opnass", "opnas"),
        ("--candidates", "0", "candidates"),
        ("--minutes", "-1", "minutes"),
        ("--heads", "3", "heads"),
        ("--seed", "-1", "seed"),
        ("--seq-len", "2", "seq_len"),
        ("--temperature", "0", "temperature"),
        ("--minutes", "nan", "minutes"),
        ("--scores", "ranks", "standardised"),
    ],
)
def test_search_refuses_options_out_of_bounds(opnas, tmp_path, tiny_options, option, value, word):
    refused(opnas("search", "--out", tmp_path / "run", *tiny_options, option, value), word)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"nodes": [{"id": "n0", "op": "matmul", "inputs": ["Q", "K"]}], "output": "n0"}, "n0"),
        (
            {
                "nodes": [
                    {"id": "a", "op": "neg", "inputs": ["b"]},
                    {"id": "b", "op": "neg", "inputs": ["a"]},
                ],
                "output": "b",
            },
            "cycle",
        ),
        ({"format": "opnas.graph/2"}, "opnas.graph/2"),
        ({"name": '"; import os'}, "not allowed"),
        ({"nodes": [{"id": '"; import os', "op": "neg", "inputs": ["Q"]}]}, "not allowed"),
        ({"extra": 1}, "extra"),
    ],
)
def test_inspect_refuses_a_bad_graph_file(opnas, tmp_path, changes, word):
    refused(opnas("inspect", graph_file(tmp_path, **changes)), word)


def test_inspect_refuses_a_large_file(opnas, tmp_path):
    path = tmp_path / "large.json"
    path.write_text(json.dumps({**GRAPH, "name": "x" * 10_000_000}))
    refused(opnas("inspect", path), "bytes")


def test_inspect_refuses_what_is_not_json(opnas, tmp_path):
    path = tmp_path / "graph.json"
    path.write_text("{")
    refused(opnas("inspect", path), "JSON")


def test_an_unknown_preset_is_answered_with_the_nearest_names(opnas):
    refused(opnas("inspect", "autobert-zero/7"), "autobert-zero/")
    refused(opnas("inspect", "linear-atention"), "linear-attention")
    refused(opnas("diff", "bert", "brt"), "bert")
    refused(opnas("inspect", "gone.json"), "gone.json")


def test_drawing_to_an_unknown_kind_of_file_is_refused(opnas, tmp_path):
    refused(opnas("inspect", "bert/1", "--draw", tmp_path / "graph.gif"), ".svg")
    assert not list(tmp_path.iterdir())


def test_options_are_checked_before_anything_is_read_or_worked_out(opnas, tmp_path, monkeypatch):
    def worked(*arguments, **options):
        pytest.fail("something was worked out first")

    for place in ("search.load_corpus", "targets.resolve", "bench.benchmark", "run.Run.open"):
        monkeypatch.setattr(f"runtime.{place}", worked)
    refused(opnas("search", "--strategy", "opnass", "--out", tmp_path / "run"), "opnas")
    refused(opnas("search", "--minutes", "0", "--out", tmp_path / "run"), "minutes")
    refused(opnas("inspect", "bert/1", "--draw", tmp_path / "graph.gif"), ".svg")
    refused(opnas("bench", "bert/1", "--json", tmp_path), "folder")
    refused(opnas("bench", "bert/1", "--json", tmp_path / "gone" / "bench.json"), "folder")
    assert not list(tmp_path.iterdir())


def test_bench_refuses_sizes_out_of_bounds(opnas, tmp_path):
    refused(opnas("bench", "bert/1", "--seq-len", 0), "seq_len")
    refused(opnas("bench", "bert/1", "--dtype", "int8"), "dtype")
    refused(opnas("bench", "bert/1", "--json", tmp_path / "gone" / "bench.json"), "folder")
    refused(opnas("bench", "bert/1", "--backend", "cuda"), "backend", "triton")
    refused(opnas("bench", "bert/1", "--compiled", -1), "compiled_graphs")
    refused(opnas("bench", "--random", 0), "at least 1")
    refused(opnas("bench", "bert/1", "--random", 3), "--random")
    refused(opnas("bench", "bret/1"), "bert/1")


def test_a_graph_is_not_compared_with_a_backbone(opnas):
    refused(opnas("diff", "bert", "bert/1"), "backbone")


def test_export_refuses_what_it_cannot_export(opnas, tmp_path, finished_run):
    refused(opnas("export", "bert/1", "--out", tmp_path / "model"), "graph")
    refused(opnas("export", finished_run, "--out", tmp_path), "exists already")
    assert not list(tmp_path.iterdir())


def test_resume_refuses_a_folder_that_is_no_run(opnas, tmp_path):
    refused(opnas("resume", tmp_path), "config.json")
    (tmp_path / "config.json").write_text('{"format": "opnas.run/9"}')
    refused(opnas("resume", tmp_path), "opnas.run/9")


def test_the_installed_command_exits_with_2_and_prints_one_line():
    code = "from runtime.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "inspect", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("opnas: unknown preset")
    assert not done.stdout


def test_a_fault_of_the_program_is_not_passed_off_as_the_users(opnas, monkeypatch):
    def broken(text):
        return int("not a number")

    monkeypatch.setattr("runtime.targets.resolve", broken)
    with pytest.raises(ValueError, match="invalid literal"):
        opnas("inspect", "bert/1")


def test_a_difference_is_drawn_where_it_is_asked_for(opnas, tmp_path):
    code, out, _ = opnas("diff", "autobert-zero/2", "autobert-zero/4", "--draw", tmp_path / "d.svg")
    assert code == 0
    assert "5 changes" in out
    assert "<svg " in (tmp_path / "d.svg").read_text()
    code, out, err = opnas("diff", "autobert-zero/2", "autobert-zero/4", "--draw", tmp_path / "d.pdf")
    assert (code, out) == (2, "")
    assert ".svg or .png" in err
