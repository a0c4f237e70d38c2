"""The check of a GPU, run through on a CPU: what is wrong gets no time, what fails or does not fit is recorded."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import runtime.gpu_check.forms
import runtime.gpu_check.judge
from graphir import AttentionGraph, GraphError, presets
from runtime.accuracy import relative_errors
from runtime.bench import COMPILED, EAGER, GENERATED, Measurement, Setting
from runtime.gpu_check import clock
from runtime.gpu_check.__main__ import main
from runtime.gpu_check.cases import all_graphs, case_graphs, read_corpus
from runtime.gpu_check.forms import AUTOTUNED, FLEX, SDPA, Place, expressible, make_form
from runtime.gpu_check.judge import hard_inputs, make_judge, setting_inputs
from runtime.gpu_check.measure import NOT_REACHED, OUT_OF_MEMORY, measure
from runtime.gpu_check.report import Report, status
from runtime.gpu_check.run import run
from runtime.gpu_check.table import format_report
from runtime.gpu_check.work import Cell, Job, Work, full_work
from runtime.gpu_check.workers import run_groups
from runtime.timing import Timing

PLAIN = presets.get("bert/1")
SMALL = Setting(seq_len=12, head_dim=16, heads=2, batch=3, rounds=1, masked=False)
HERE = Place("cpu", "torch")
KERNELS = Place("cpu", "triton")


def timing(graph=PLAIN, forms=(GENERATED, EAGER), setting=SMALL):
    return Job("time", graph, setting, forms)


def check(graph=PLAIN, setting=SMALL):
    return Job("correct", graph, replace(setting, masked=True))


@pytest.fixture
def light_compile(monkeypatch):
    """torch.compile without a compiler: it runs what it captured."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.fixture
def break_generated(monkeypatch):
    """``break_generated(change)``: the generated form returns ``change(out, q)`` instead of ``out``."""

    def break_by(change):
        right = runtime.gpu_check.forms.compile_attention

        def compile_wrong(graph, backend):
            attention = right(graph, backend)
            return lambda q, k, v, key_mask=None: change(attention(q, k, v, key_mask), q)

        monkeypatch.setattr(runtime.gpu_check.forms, "compile_attention", compile_wrong)

    return break_by


# -- a whole run


@pytest.mark.long
def test_a_tiny_run_goes_through_everything_in_the_interpreter(tmp_path, capsys, light_compile):
    out = tmp_path / "check.json"
    assert main(["--tiny", "--out", str(out), "--quiet"]) == 0
    data = json.loads(out.read_text())
    found = {}
    for cell in data["cells"]:
        found.setdefault((cell["kind"], cell["form"]), set()).add(cell["status"])
    assert found == {
        ("correct", GENERATED): {"right"},
        ("memory", GENERATED): {"right"},
        **{("time", form): {"timed"} for form in (GENERATED, EAGER, SDPA, COMPILED, AUTOTUNED)},
        ("time", FLEX): {"failed"},  # it has no backward on a CPU
    }
    assert data["format"] == "opnas.gpu-check/1"
    assert data["graphs"]["column-softmax"]["tier"] == "2"
    assert data["machine"]["torch"] == torch.__version__
    assert data["verdict"]["broken"] == data["verdict"]["not_reached"] == 0
    timed = next(cell for cell in data["cells"] if cell["status"] == "timed")
    assert timed["forward_backward"]["median"] - timed["forward"]["median"] == timed["backward_median"]
    assert timed["error"] <= 4 * timed["allowed"]
    table = capsys.readouterr().out
    assert "FlexAttention does not support backward on CPU" in table
    assert table.rstrip().endswith(f"not reached: 0 of {len(data['cells'])} cells")


def test_without_a_gpu_the_command_says_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "--tiny" in capsys.readouterr().err


# -- what is wrong gets no time


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda out, q: out * 1.001, "the result is off"),
        (lambda out, q: out + 1e-3 * (q - q.detach()), "the gradient of Q is off"),
        (lambda out, q: out * float("nan"), "not finite"),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_a_wrong_result_is_never_timed(change, problem, masked, break_generated):
    break_generated(change)
    job = timing(setting=replace(SMALL, masked=masked))
    report = run(Work((), (job,), (PLAIN,)), HERE, 100.0, 0)
    wrong, eager = report.cells
    assert status(wrong) == "wrong"
    assert problem in wrong.measurement.problem
    assert wrong.measurement.forward is None
    assert wrong.measurement.forward_backward is None
    assert status(eager) == "timed"
    assert report.broken == (wrong,)
    assert report.comparisons == ()
    assert "BROKEN: time bert/1" in format_report(report)
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_graph_that_is_wrong_when_it_is_checked_is_not_timed_at_all(break_generated):
    break_generated(lambda out, q: out if out.isnan().any() or out.abs().min() > 0 else out * 1.01)
    report = run(Work(((check(),),), (timing(),), (PLAIN,)), HERE, 100.0, 0)
    assert [status(cell) for cell in report.cells] == ["wrong", "not timed", "not timed"]
    assert "generated is wrong in float32 when it is checked" in format_report(report)


@pytest.mark.parametrize("head", [0, -1])
def test_a_large_input_is_judged_at_its_first_and_its_last_head(head, monkeypatch):
    monkeypatch.setattr(runtime.gpu_check.judge, "JUDGED_SCORES", 1)
    inputs = setting_inputs(PLAIN, SMALL, "cpu")
    judge = make_judge(PLAIN, inputs)
    out, *gradients = inputs.forward_backward(make_form(EAGER, PLAIN, inputs, HERE))
    assert not judge.measure((out, *gradients)).problem
    out = out.detach().clone()
    out[head, head] *= 1.01
    assert judge.measure((out, *gradients)).wrong


def test_beyond_what_float64_can_hold_the_pytorch_form_is_the_truth(monkeypatch):
    monkeypatch.setattr(runtime.gpu_check.judge, "FLOAT64_TOKENS", 4)
    setting = replace(SMALL, dtype="bfloat16")
    right, eager = measure(timing(setting=setting), HERE)
    assert status(right) == status(eager) == "timed"
    monkeypatch.setattr(runtime.gpu_check.judge, "STORED_TOKENS", 4)
    (graph,) = case_graphs("euclid")
    assert {status(cell) for cell in measure(timing(graph), HERE)} == {"not judged"}
    (memory,) = measure(Job("memory", graph, SMALL), HERE)
    assert (status(memory), memory.measurement.problem) == ("not judged", "")


def test_checked_inputs_hold_nan_at_every_kind_of_padding():
    inputs = hard_inputs(PLAIN, replace(SMALL, masked=True), "cpu")
    real = inputs.key_mask
    assert real[0].tolist() == [True] * 9 + [False] * 3
    assert 0 < real[1].sum() < 12
    assert not real[-1].any()
    for tensor in inputs.tensors.values():
        assert torch.equal(tensor.isnan().any(-1), ~real[:, None].expand(3, 2, 12))


# -- what fails or does not fit


def test_what_runs_out_of_memory_or_fails_is_recorded_and_the_next_form_runs(monkeypatch):
    def exhausts(*operands):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB")

    def fails(*operands):
        raise RuntimeError("PassManager::run failed\nlong traceback")

    broken = {EAGER: exhausts, GENERATED: fails}
    right = runtime.gpu_check.measure.make_form
    monkeypatch.setattr(
        runtime.gpu_check.measure, "make_form", lambda name, *rest: broken.get(name) or right(name, *rest)
    )
    cells = measure(timing(forms=(GENERATED, EAGER, SDPA)), HERE)
    assert [cell.measurement.problem for cell in cells] == [
        "failed: RuntimeError: PassManager::run failed",
        OUT_OF_MEMORY,
        "",
    ]
    assert status(cells[-1]) == "timed"


def test_without_time_everything_is_listed_as_not_reached():
    work = Work(((check(),),), (timing(), timing(forms=(GENERATED, COMPILED))), (PLAIN,))
    report = run(work, HERE, 0.0, 0)
    assert [cell.measurement.problem for cell in report.cells] == [NOT_REACHED] * 5
    assert report.broken == ()
    table = format_report(report)
    assert "  time S=12 D=16 float32: generated, eager: bert/1\n" in table
    assert "  time S=12 D=16 float32: generated, torch.compile: bert/1\n" in table
    assert table.endswith("not reached: 5 of 5 cells")
    assert report.to_dict()["verdict"]["not_reached"] == 5


def test_a_form_that_would_take_longer_than_is_left_is_not_begun():
    cells = measure(timing(forms=(GENERATED, EAGER, COMPILED, AUTOTUNED)), HERE, lambda: 10.0)
    assert [status(cell) for cell in cells] == ["timed", "timed", NOT_REACHED, NOT_REACHED]
    alone = measure(timing(forms=(GENERATED, COMPILED)), HERE, lambda: 10.0)
    assert [status(cell) for cell in alone] == [NOT_REACHED, NOT_REACHED]


class _EndsItsProcess:
    """Unpickled in a process, it ends that process."""

    def __reduce__(self):
        return os._exit, (3,)


def test_processes_send_their_cells_and_one_that_breaks_takes_only_its_own_jobs_along():
    (cells,) = run_groups([(check(),)], KERNELS, 1, lambda: 100.0)
    assert [status(cell) for cell in cells] == ["right"]
    broken, unreached = run_groups([(check(), check())], _EndsItsProcess(), 1, lambda: 100.0)
    assert broken[0].measurement.problem == "failed: its process ended with exit code 3"
    assert status(unreached[0]) == NOT_REACHED


def test_processes_that_take_too_long_are_stopped():
    left = iter([1.0, 0.0, 0.0])
    found = list(run_groups([(check(),), (check(),)], KERNELS, 1, lambda: next(left, -1.0)))
    assert [status(cell) for cells in found for cell in cells] == [NOT_REACHED] * 2


# -- what is compared

FLEX_PRESETS = [graph for graph in (*all_graphs().presets, *all_graphs().cases) if expressible(FLEX, graph)]


@pytest.mark.parametrize("graph", FLEX_PRESETS, ids=lambda graph: graph.name)
@pytest.mark.parametrize("masked", [False, True])
def test_flex_attention_computes_what_the_graph_means(graph, masked, monkeypatch):
    # As it stands, since torch.compile would take seconds; it has no backward on a CPU.
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    inputs = setting_inputs(graph, replace(SMALL, masked=masked), "cpu")
    with torch.no_grad():
        operands = [None if x is None else x.detach() for x in inputs.operands]
        out = make_form(FLEX, graph, inputs, HERE)(*operands, inputs.key_mask)
    judge = make_judge(graph, inputs)
    if masked:
        out = out * inputs.key_mask[:, None, :, None]
    # Sixteen roundings of float32.
    assert relative_errors((out,), judge.truth[0][:1])[0] <= 16 * 2**-23


@pytest.mark.parametrize(
    ("formula", "can"),
    [
        ("softmax(scale(Q @ K.T)) @ V", True),
        ("softmax(K @ Q.T).T @ V", False),  # over the queries
        ("softmax(tanh(K @ Q.T).T) @ (V + Q) + K", True),
        ("softmax(softsign(Q @ K.T) + tanh(Q @ K.T)) @ V", False),
        ("sigmoid(Q @ K.T) @ V", False),
        ("softmax(-euclidean_distance(Q, K)) @ V", False),
        ("softmax(cosine_similarity(Q, K)) @ rms_norm(V)", True),
        ("t = softmax(Q @ K.T); t @ V + t @ K", False),
        ("softmax(Q @ K.T) @ V @ (K.T @ V)", False),  # a sum over S beside the attention
    ],
)
def test_flex_attention_is_recognised(formula, can):
    assert expressible(FLEX, AttentionGraph.from_expression(formula)) == can


def test_sdpa_takes_part_for_the_plain_attention_alone():
    plain = [graph.name for graph in all_graphs().all if expressible(SDPA, graph)]
    assert plain == ["bert/1"]


def test_the_work_on_a_gpu_covers_every_size_and_begins_with_what_matters_first():
    graphs = all_graphs()
    work = full_work(graphs)
    assert len(graphs.cases) == 16
    sizes = {(s, d) for s in (512, 2048, 8192, 32768) for d in (64, 128)}
    for graph in (*graphs.presets, *graphs.cases):
        for form in (GENERATED, EAGER, COMPILED, *[f for f in (SDPA, FLEX) if expressible(f, graph)]):
            jobs = [job for job in work.timings if job.graph == graph and form in job.forms]
            assert {(job.setting.seq_len, job.setting.head_dim) for job in jobs} == sizes
        checked = [job.setting for group in work.checks for job in group if job.graph == graph]
        assert {setting.dtype for setting in checked} == {"bfloat16", "float16", "float32"}
        assert max(setting.seq_len for setting in checked) == 65536
    assert all(
        job.setting.masked
        for group in work.checks
        for job in group[:1]
        if job.kind == "correct"
        if group[0].setting.dtype == "bfloat16"
    )
    first = work.timings[: 2 * len(graphs.presets)]
    assert {job.setting.seq_len for job in first} == {2048, 8192}
    assert {job.setting.head_dim for job in first} == {64}
    assert not any({COMPILED, FLEX, AUTOTUNED} & set(job.forms) for job in first)


# -- graphs, clock and table


def test_a_corpus_file_adds_graphs_and_an_invalid_one_is_named(tmp_path):
    path = tmp_path / "corpus.json"
    entry = {"classes": ["cosine", "linear"], "graph": presets.get("linear-cosine-attention").to_dict()}
    path.write_text(json.dumps({"format": "opnas.corpus/1", "graphs": [entry, entry]}))
    assert [graph.name for graph in read_corpus(path)] == ["corpus/0 cosine linear", "corpus/1 cosine linear"]
    entry["graph"]["output"] = "nowhere"
    path.write_text(json.dumps({"format": "opnas.corpus/1", "graphs": [entry]}))
    with pytest.raises(GraphError, match="graph 0 of corpus"):
        read_corpus(path)


def test_a_device_is_timed_by_its_own_events_after_its_cache_is_flushed(monkeypatch):
    now, log = [0.0], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = now[0]

        def elapsed_time(self, end):
            return (end.at - self.at) * 1e3

    def work(name, seconds):
        log.append(name)
        now[0] += seconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(torch, "empty", lambda *a, **k: SimpleNamespace(zero_=lambda: log.append("flush")))
    functions = {"a": partial(work, "a", 0.01), "b": partial(work, "b", 1.0)}
    times = clock.time_forms(functions, 5, "cuda")
    # Two calls of a and one of b fill a round; two rounds' worth of b is too long for five.
    assert "".join(name[0] for name in log) == "ab" + "afafabfb"
    assert times["a"].seconds == pytest.approx((0.01,))
    assert times["b"].seconds == pytest.approx((1.0,))


def test_a_speed_compares_forms_of_the_same_rounds():
    def cell(job, form, seconds):
        time = Timing((seconds,))
        return Cell(job, form, Measurement(0.0, 1.0, forward=Timing((seconds / 4,)), forward_backward=time))

    quick, slow = timing(), timing(forms=(GENERATED, COMPILED))
    cells = (
        cell(quick, GENERATED, 1.0),
        cell(quick, EAGER, 3.0),
        cell(slow, GENERATED, 2.0),
        cell(slow, COMPILED, 1.0),
    )
    machine = {"device": "d", "torch": "t", "triton": "3"}
    report = Report(machine, HERE, (1.0, 2.0), cells)
    assert [(c.baseline, c.speedup) for c in report.comparisons] == [(EAGER, 3.0), (COMPILED, 0.5)]
    table = format_report(report)
    assert "against torch.compile: generated is slower in 1 of 1 cells, 0.50 times as fast" in table
    assert "against eager: generated is slower in 0 of 1 cells, 3.00 times as fast" in table
    assert "against FlexAttention: nothing was timed" in table
    assert report.to_dict()["verdict"]["slower"][COMPILED] == [1, 1]
