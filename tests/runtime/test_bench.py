"""The benchmark: what is wrong is not timed, what fails says why, and the arithmetic of the table is right."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

import runtime.accuracy
import runtime.bench
import runtime.eager
from codegen import BackendError, compile_attention
from graphir import PAPER_OPERATIONS, AttentionGraph, presets
from runtime.accuracy import (
    WRONG,
    JudgeError,
    allowed_errors,
    check_judge,
    draw_inputs,
    judge,
    relative_errors,
)
from runtime.bench import (
    COMPILED,
    DTYPES,
    EAGER,
    GENERATED,
    Benchmark,
    BenchmarkRow,
    Measurement,
    Setting,
    benchmark,
    distinct_graphs,
    judge_forms,
    measure,
)
from runtime.bench_table import SLOWEST, format_table
from runtime.eager import eager_function
from runtime.random_graphs import random_graphs
from runtime.timing import MOST_ROUNDS, Timing, time_interleaved

SMALL = Setting(seq_len=24, head_dim=8, heads=2, batch=2, rounds=2, compile_baseline=False)


@pytest.fixture
def light_compile(monkeypatch):
    """torch.compile without its C++ compiler: it runs what it captured."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def _row(name: str, eager: float, generated: float) -> BenchmarkRow:
    times = {EAGER: eager, GENERATED: generated}
    forms = {n: Measurement(0.0, 1.0, forward_backward=Timing((t,))) for n, t in times.items()}
    return BenchmarkRow(name, "Q", "1", 1, forms)


# -- what is measured


@pytest.mark.parametrize("dtype", DTYPES)
def test_right_forms_are_timed_forward_and_with_backward(dtype, light_compile):
    result = benchmark(["autobert-zero/10"], replace(SMALL, dtype=dtype, compile_baseline=True))
    (row,) = result.rows
    assert list(row.forms) == [EAGER, COMPILED, GENERATED]
    assert not row.wrong
    for form in row.forms.values():
        assert form.problem == ""
        assert form.error <= WRONG * form.allowed
        assert len(form.forward.seconds) == len(form.forward_backward.seconds) == SMALL.rounds


@pytest.mark.parametrize("masked", [True, False])
def test_every_preset_is_right_in_float32(masked):
    names = [name for name in presets.names() if isinstance(presets.get(name), AttentionGraph)]
    result = benchmark(names, replace(SMALL, rounds=1, forward=False, masked=masked))
    assert result.wrong == ()


def test_a_backbone_gives_each_distinct_layer_once():
    found = [graph.name for graph in distinct_graphs(["autobert-zero", "bert", presets.get("bert/3")])]
    assert found == [
        "autobert-zero/2",
        "autobert-zero/4",
        "autobert-zero/6",
        "autobert-zero/10",
        "autobert-zero/12",
        "bert/1",
    ]


def test_many_graphs_do_not_exhaust_the_recompile_limit_of_torch_compile(light_compile):
    # Every graph's function has the same code; torch.compile gives up on the ninth recompilation of one code.
    formulas = [f"{'-' * n}Q + K" for n in (0, 1)] + [f"{'scale(' * n}Q{')' * n}" for n in range(1, 10)]
    graphs = [AttentionGraph.from_expression(formula) for formula in formulas]
    result = benchmark(graphs, replace(SMALL, rounds=1, forward=False, compile_baseline=True))
    assert [row.forms[COMPILED].problem for row in result.rows] == [""] * len(graphs)


def test_torch_compile_takes_no_part_once_its_time_is_spent(light_compile):
    setting = replace(SMALL, rounds=1, compile_baseline=True, compile_seconds=0.0)
    result = benchmark(["bert/1", "shared-qk"], setting)
    assert COMPILED not in result.rows[-1].forms
    assert GENERATED in result.rows[-1].forms


def test_torch_compile_takes_part_in_the_first_graphs_alone_where_that_is_wanted(light_compile):
    setting = replace(SMALL, rounds=1, forward=False, compile_baseline=True, compiled_graphs=1)
    first, second = benchmark(["bert/1", "shared-qk"], setting).rows
    assert COMPILED in first.forms
    assert COMPILED not in second.forms


def test_a_backend_that_cannot_run_is_refused_before_anything_is_measured(monkeypatch):
    kernels = compile_attention(presets.get("bert/1"), "triton").function.__globals__
    monkeypatch.setitem(kernels, "INTERPRETED", False)
    told = []
    with pytest.raises(BackendError, match="GPU"):
        benchmark(["bert/1"], replace(SMALL, backend="triton"), progress=told.append)
    assert told == []


def test_random_graphs_repeat_with_the_seed_and_differ_in_meaning():
    graphs = random_graphs(60, seed=3)
    assert random_graphs(20, seed=3) == graphs[:20]
    assert random_graphs(20, seed=4) != graphs[:20]
    assert len({graph.canonical_hash() for graph in graphs}) == len({graph.name for graph in graphs}) == 60
    assert {node.op for graph in graphs for node in graph.nodes} == set(PAPER_OPERATIONS)
    extended = random_graphs(60, seed=3, extended=True)
    assert {node.op for graph in extended for node in graph.nodes} > set(PAPER_OPERATIONS)


def test_no_random_graph_at_all_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        random_graphs(0)


def test_an_unknown_preset_is_refused_with_the_nearest_names():
    with pytest.raises(KeyError, match="autobert-zero"):
        benchmark(["autobert-zer"], SMALL)


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="nothing to measure"):
        benchmark([], SMALL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq_len", 0),
        ("rounds", 0),
        ("batch", -1),
        ("judged_heads", 0),
        ("compiled_graphs", -1),
        ("dtype", "float8"),
        ("backend", "cuda"),
    ],
)
def test_a_setting_that_cannot_be_measured_is_refused_by_field(field, value):
    with pytest.raises(ValueError, match=field):
        Setting(**{field: value})


# -- what is refused


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda out, q: out * (1 + 1e-4), "the result"),
        (lambda out, q: out + 1e-4 * (q - q.detach()), "the gradient of Q"),
        (lambda out, q: out * float("nan"), "the result"),
    ],
)
def test_a_wrong_generated_form_is_not_timed_and_fails_the_benchmark(change, what, monkeypatch):
    def compile_wrong(graph, backend):
        right = compile_right(graph, backend)

        def wrong(q, k, v, key_mask=None, dropout_p=0.0):
            real = torch.ones(()) if key_mask is None else key_mask[:, None, :, None]
            return torch.where(real.bool(), change(right(q, k, v, key_mask), q), 0.0)

        return replace(right, function=wrong)

    compile_right = runtime.bench.compile_attention
    monkeypatch.setattr(runtime.bench, "compile_attention", compile_wrong)
    result = benchmark(["bert/1"], SMALL)
    measured = result.rows[0].forms
    assert result.wrong == ("bert/1",)
    assert measured[GENERATED].wrong
    assert what in measured[GENERATED].problem
    assert measured[GENERATED].forward_backward is None
    assert measured[GENERATED].forward is None
    assert measured[EAGER].forward_backward is not None
    assert result.rows[0].speedup(EAGER) is None
    assert f"generated: wrong: {what}" in format_table(result)
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_failing_torch_compile_says_why_and_the_others_are_timed(monkeypatch):
    def broken(function, **options):
        def call(*operands):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nlong traceback")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    result = benchmark(["bert/1"], replace(SMALL, compile_baseline=True))
    (row,) = result.rows
    assert result.wrong == ()
    assert row.forms[COMPILED].forward_backward is None
    assert row.speedup(COMPILED) is None
    assert row.speedup(EAGER) > 0
    table = format_table(result)
    assert "torch.compile: failed: RuntimeError: InvalidCxxCompiler: No working C++ compiler found" in table
    assert "long traceback" not in table


def test_a_generated_form_that_raises_is_not_hidden():
    graph = presets.get("bert/1")
    inputs = draw_inputs(graph, SMALL.shape)

    def raises(q, k, v, key_mask):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        judge_forms({EAGER: eager_function(graph), GENERATED: raises}, inputs, judge(graph, inputs))


def test_a_judge_that_differs_from_the_reference_stops_the_graph(monkeypatch):
    monkeypatch.setitem(runtime.eager.RULES, "scale", lambda call, x: (x.tensor * 1.0001, x.zeros))
    with pytest.raises(JudgeError, match="NumPy reference"):
        check_judge(presets.get("bert/1"))
    row = measure(presets.get("bert/1"), SMALL)
    assert row.wrong
    assert row.forms == {}
    assert row.problem in format_table(
        Benchmark(SMALL, {"processor": "p", "threads": 1, "torch": "t"}, (row,))
    )


@pytest.mark.parametrize(
    ("formula", "dtype", "reason"),
    [
        ("exp(exp(exp(Q @ Q.T))) @ Q", "float32", "overflows"),
        # Fourth powers of squared norms: within float64, beyond 65,504.
        ("relu_squared(relu_squared(relu_squared(Q @ Q.T))) @ Q", "float16", "float16 does not carry"),
    ],
)
def test_a_graph_that_cannot_be_compared_is_not_timed_and_not_called_wrong(formula, dtype, reason):
    row = measure(AttentionGraph.from_expression(formula), replace(SMALL, dtype=dtype))
    assert reason in row.problem
    assert row.forms == {}
    assert not row.wrong


# -- errors


@pytest.mark.parametrize("heads_at_once", [1, 2, 8])
def test_the_judge_of_a_few_heads_at_a_time_is_the_whole_evaluation_in_float64(heads_at_once, monkeypatch):
    monkeypatch.setattr(runtime.accuracy, "JUDGED_SCORES", heads_at_once * 10**2)
    graph = presets.get("autobert-zero/4")
    inputs = draw_inputs(graph, (3, 3, 10, 4), torch.float64, seed=4)
    whole = inputs.forward_backward(eager_function(graph))
    # The same sums in another blocking.
    for mine, right in zip(judge(graph, inputs), whole, strict=True):
        torch.testing.assert_close(mine, right.detach(), rtol=0, atol=1e-13)


def test_a_wrong_head_is_found_where_only_the_first_heads_are_judged(monkeypatch):
    graph, inputs = presets.get("bert/1"), draw_inputs(presets.get("bert/1"), SMALL.shape)
    truth = judge(graph, inputs, judged_heads=1)
    assert [tensor.shape for tensor in truth] == [(SMALL.batch, 1, SMALL.seq_len, SMALL.head_dim)] * 4
    plain = eager_function(graph)

    def wrong_in(head):
        return lambda *operands: plain(*operands) + (torch.arange(SMALL.heads) == head)[:, None, None]

    forms = {EAGER: plain, "first": wrong_in(0), "second": wrong_in(1)}
    judged = judge_forms(forms, inputs, truth)
    assert judged["first"].wrong
    assert not judged["second"].wrong


def test_errors_are_relative_to_the_scale_of_each_tensor():
    truth = (torch.tensor([100.0, 1.0]).double(), torch.tensor([0.0, 0.01]).double())
    found = (torch.tensor([100.0, 2.0]), torch.tensor([0.001, 0.01]))
    assert relative_errors(found, truth) == pytest.approx((0.01, 0.1), rel=1e-6)


def test_a_gradient_that_is_zero_counts_on_the_scale_of_the_result():
    truth = (torch.tensor([2.0]).double(), torch.tensor([1e-17]).double())
    assert relative_errors((torch.tensor([2.0]), torch.tensor([1e-7])), truth)[1] == pytest.approx(5e-8)


def test_nan_is_the_largest_error():
    assert relative_errors((torch.tensor([math.nan]),), (torch.ones(1).double(),)) == (math.inf,)


@pytest.mark.parametrize(
    ("dtype", "factor", "roundings"), [(torch.float32, 2.0, 16), (torch.bfloat16, 1.1, 2)]
)
def test_the_allowed_error_is_a_multiple_of_eagers_but_at_least_some_roundings(dtype, factor, roundings):
    eps = torch.finfo(dtype).eps
    lowest, multiple = allowed_errors((0.1 * eps, roundings * eps), dtype)
    assert lowest == roundings * eps
    assert multiple == pytest.approx(factor * roundings * eps)


def test_a_form_that_is_less_exact_than_allowed_is_marked_and_timed(monkeypatch):
    # 3 times what is allowed: more than rounding should do, less than the 4 times that count as wrong.
    eps = torch.finfo(torch.float32).eps
    compile_right = runtime.bench.compile_attention

    def compile_inexact(graph, backend):
        right = compile_right(graph, backend)
        return replace(right, function=lambda q, k, v, m, p: right(q, k, v, m) * (1 + 48 * eps))

    monkeypatch.setattr(runtime.bench, "compile_attention", compile_inexact)
    result = benchmark(["bert/1"], SMALL)
    form = result.rows[0].forms[GENERATED]
    assert form.inexact
    assert not form.wrong
    assert form.forward_backward is not None
    assert "! less exact than allowed" in format_table(result)


def test_inaccurate_eager_excuses_nobody_beyond_half_of_the_digits():
    eps = torch.finfo(torch.float32).eps
    assert allowed_errors((1.0,), torch.float32) == (2 * math.sqrt(eps),)


def test_inputs_repeat_with_the_seed_and_sequences_of_a_batch_differ_in_length():
    graph = presets.get("bert/1")
    first, second = (draw_inputs(graph, (3, 1, 16, 4), seed=7) for _ in range(2))
    assert all(torch.equal(first.tensors[n], second.tensors[n]) for n in "QKV")
    assert first.key_mask.sum(-1).tolist() == [16, 14, 12]


# -- timing and table


def test_rounds_are_interleaved_and_neither_warm_up_nor_the_call_before_is_timed():
    now, order = [0.0], []

    def work(name, seconds):
        order.append(name)
        now[0] += seconds * (10 if len(order) <= 2 else 1)  # the first call of each is slow

    functions = {"a": lambda: work("a", 1.0), "b": lambda: work("b", 2.0)}
    timings = time_interleaved(functions, rounds=3, warm_up=1, clock=lambda: now[0])
    assert "".join(order) == "ab" + 3 * "aabb"
    assert timings["a"].seconds == (1.0, 1.0, 1.0)
    assert timings["b"].median == 2.0


def test_quick_functions_are_timed_for_as_long_as_slow_ones():
    now = [0.0]

    def quick():
        now[0] += 0.01

    timed = time_interleaved({"quick": quick}, 2, least_seconds=1.0, clock=lambda: now[0])["quick"]
    assert len(timed.seconds) == 50  # a call before each that is timed
    assert len(time_interleaved({"quick": quick}, 2, clock=lambda: now[0])["quick"].seconds) == 2
    free = time_interleaved({"free": lambda: None}, 2, least_seconds=1.0, clock=lambda: 0.0)["free"]
    assert len(free.seconds) == MOST_ROUNDS


def test_the_spread_is_the_distance_of_the_quartiles_over_the_median():
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).spread == pytest.approx(2 / 3)
    assert Timing((1.0,)).spread == 0.0


def test_the_table_shows_ratios_of_medians_and_their_geometric_mean():
    rows = (_row("one", 0.2, 0.1), _row("two", 0.8, 0.1))
    machine = {"processor": "p", "threads": 2, "torch": "t"}
    table = format_table(Benchmark(replace(SMALL, forward=False), machine, rows))
    lines = {line.split()[0]: line for line in table.splitlines() if line}
    assert "2.00x" in table
    assert "8.00x" in table
    assert lines["geometric"].endswith("4.00x")


def test_of_many_graphs_the_slowest_are_listed_with_their_formulas():
    rows = tuple(
        replace(_row(f"graph-{n}", 0.1 * n, 0.2), equation=f"formula {n}") for n in range(1, SLOWEST + 3)
    )
    machine = {"processor": "p", "threads": 2, "torch": "t"}
    table = format_table(Benchmark(replace(SMALL, forward=False), machine, rows))
    assert "minimum 0.50x; 1 of 12 slower than eager" in table
    listed = [line.strip() for line in table.splitlines() if ": formula" in line]
    assert listed == [f"{n / 2:.2f}x  graph-{n}: formula {n}" for n in range(1, SLOWEST + 1)]
    few = format_table(Benchmark(replace(SMALL, forward=False), machine, rows[:SLOWEST]))
    assert "minimum" not in few


def test_the_result_as_json_holds_settings_machine_and_every_time():
    data = json.loads(json.dumps(benchmark(["shared-qk"], SMALL).to_dict()))
    assert data["setting"]["seq_len"] == SMALL.seq_len
    assert data["machine"]["torch"] == torch.__version__
    assert len(data["rows"][0]["forms"][GENERATED]["forward_backward"]["seconds"]) == SMALL.rounds
