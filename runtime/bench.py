"""The benchmark: the compiled form of a graph against plain eager evaluation and torch.compile of it.

A form is judged before it is timed, its result and every gradient, and a wrong one is not timed at all.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from codegen import compile_attention
from codegen.attention import Backend
from graphir import AttentionGraph, Backbone, InputError, presets
from runtime.accuracy import (
    WRONG,
    Attention,
    IncomparableError,
    Inputs,
    JudgeError,
    allowed_errors,
    check_comparable,
    check_judge,
    draw_inputs,
    eager_limit,
    judge,
    relative_errors,
)
from runtime.eager import eager_function
from runtime.machine import processor
from runtime.timing import Timing, time_interleaved

EAGER, COMPILED, GENERATED = "eager", "torch.compile", "generated"
FORMS = (EAGER, COMPILED, GENERATED)
"""The forms of a graph, in the order of a round."""

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The types that a benchmark can run in, by name."""

BACKENDS: tuple[Backend, ...] = ("auto", "torch", "triton")
"""The generated forms that a benchmark can measure, as `compile_attention` names them."""


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        seq_len, head_dim, heads, batch: sizes of ``[batch, heads, seq_len, head_dim]``.
        dtype: a name in `DTYPES`.
        masked: whether a key mask cuts sequences of the batch to different lengths, down to three quarters.
        rounds: how often each form is timed, at least.
        least_seconds: forms of quick graphs are timed more often, until this much time has passed.
        forward: whether forward alone is timed too (torch.compile then compiles twice).
        compile_baseline: whether torch.compile takes part.
        compile_seconds: torch.compile takes part only in graphs that are begun before this much time has
            passed, since it needs many seconds a graph; None for no limit.
        compiled_graphs: torch.compile takes part only in so many graphs, the first ones; None for all.
        judged_heads: so many heads of each sequence are judged, the first ones; None for all. Heads are alike, and
            float64 is slow.
        backend: the generated form, one of `BACKENDS`.
        seed: of the inputs.

    Raises:
        InputError: for a size below 1, an unknown type or an unknown backend.
    """

    seq_len: int = 2048
    head_dim: int = 64
    heads: int = 8
    batch: int = 2
    dtype: str = "float32"
    masked: bool = True
    rounds: int = 7
    least_seconds: float = 0.0
    forward: bool = True
    compile_baseline: bool = True
    compile_seconds: float | None = None
    compiled_graphs: int | None = None
    judged_heads: int | None = None
    backend: Backend = "torch"
    seed: int = 0

    def __post_init__(self) -> None:
        for what in ("seq_len", "head_dim", "heads", "batch", "rounds", "judged_heads"):
            if (value := getattr(self, what)) is not None and value < 1:
                raise InputError(f"{what} must be at least 1, not {value}")
        if self.compiled_graphs is not None and self.compiled_graphs < 0:
            raise InputError(f"compiled_graphs must be at least 0, not {self.compiled_graphs}")
        if self.backend not in BACKENDS:
            raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {self.backend[:40]!r}")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype[:40]!r}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``[batch, heads, seq_len, head_dim]``."""
        return self.batch, self.heads, self.seq_len, self.head_dim


QUICK = Setting(seq_len=1024, heads=4, rounds=3, least_seconds=1.0, forward=False, compile_seconds=4.0)
"""A small table that takes seconds a graph, for the end of a search."""


@dataclass(frozen=True)
class Measurement:
    """One form of one graph.

    Attributes:
        error: error of the result or of a gradient, relative to its scale: of the one that is furthest from, or
            nearest to, what was allowed. None where the form did not run.
        allowed: what was allowed there (see `runtime.accuracy.allowed_errors`).
        problem: why it was not timed; empty where it was.
        wrong: whether that is because a result is wrong.
        forward: times of forward alone, without gradients; None where not timed.
        forward_backward: times of forward and backward; None where not timed.
    """

    error: float | None = None
    allowed: float | None = None
    problem: str = ""
    wrong: bool = False
    forward: Timing | None = None
    forward_backward: Timing | None = None

    @property
    def inexact(self) -> bool:
        """Whether it loses more than is allowed, but no more than rounding can explain: it is timed all the same."""
        return not self.wrong and self.error is not None and self.error > (self.allowed or 0.0)


@dataclass(frozen=True)
class BenchmarkRow:
    """One graph.

    Attributes:
        name: display name of the graph.
        equation: its formula.
        tier, fused_calls: facts of the compiled form's plan.
        forms: by name in `FORMS`; without torch.compile where it did not take part.
        problem: why nothing of this graph could be judged, else empty.
        misjudged: whether that is because the judge itself is wrong.
    """

    name: str
    equation: str
    tier: str
    fused_calls: int
    forms: dict[str, Measurement]
    problem: str = ""
    misjudged: bool = False

    @property
    def wrong(self) -> bool:
        """Whether a form of this graph, or the judge, gives a wrong result."""
        return self.misjudged or any(form.wrong for form in self.forms.values())

    def speedup(self, over: str, what: str = "forward_backward") -> float | None:
        """How many times faster the compiled form is than another (ratio of medians); None where not timed."""
        times = [getattr(self.forms.get(form, Measurement()), what) for form in (over, GENERATED)]
        if None in times:
            return None
        return times[0].median / times[1].median


@dataclass(frozen=True)
class Benchmark:
    """A table of measurements.

    Attributes:
        setting: what was measured.
        machine: where: processor, threads, versions.
        rows: one a graph.
    """

    setting: Setting
    machine: dict[str, str | int]
    rows: tuple[BenchmarkRow, ...]

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the graphs with a wrong result; a command that prints this table exits with 1 if there are any."""
        return tuple(row.name for row in self.rows if row.wrong)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; times in seconds, an error that is not a number as None."""
        data = asdict(self)
        for row in data["rows"]:
            for form in row["forms"].values():
                if form["error"] is not None and not math.isfinite(form["error"]):
                    form["error"] = None
        return data


def benchmark(
    graphs: Iterable[str | AttentionGraph | Backbone],
    setting: Setting | None = None,
    progress: Callable[[str], None] | None = None,
) -> Benchmark:
    """Judge and time graphs.

    Args:
        graphs: preset names, graphs, or backbones for all their attention layers. Graphs that mean the same
            are measured once, under the first one's name.
        setting: sizes, type and rounds.
        progress: is told what is being done, a line at a time.

    Raises:
        KeyError: for an unknown preset, with the nearest names.
        InputError: where there is no graph.
        BackendError: where the setting's backend cannot run here; nothing was measured then.

    Example:
        >>> setting = Setting(seq_len=16, head_dim=4, heads=2, rounds=1, compile_baseline=False)
        >>> row, = benchmark(["autobert-zero/6", "autobert-zero/8"], setting).rows
        >>> row.name, row.tier, row.wrong
        ('autobert-zero/6', '1', False)
    """
    setting = setting or Setting()
    tell = progress or (lambda line: None)
    unique = distinct_graphs(graphs)
    if not unique:
        raise InputError("there is nothing to measure: give a preset, a graph, or a backbone with attention")
    # One token shows whether the backend runs here at all, before minutes of work.
    q, k, v = draw_inputs(
        unique[0], (1, 1, 1, setting.head_dim), DTYPES[setting.dtype], masked=False
    ).operands
    compile_attention(unique[0], setting.backend)(q, k, v)
    rows = []
    start = time.monotonic()
    for number, graph in enumerate(unique, 1):
        tell(f"{graph.name} ({number} of {len(unique)})")
        late = setting.compile_seconds is not None and time.monotonic() - start > setting.compile_seconds
        many = setting.compiled_graphs is not None and number > setting.compiled_graphs
        rows.append(measure(graph, replace(setting, compile_baseline=False) if late or many else setting))
    return Benchmark(setting, machine_facts(), tuple(rows))


def distinct_graphs(graphs: Iterable[str | AttentionGraph | Backbone]) -> tuple[AttentionGraph, ...]:
    """The graphs of presets, graphs and backbones, without those that mean the same as an earlier one."""
    distinct: dict[str, AttentionGraph] = {}
    for item in graphs:
        found = presets.get(item) if isinstance(item, str) else item
        for graph in found.graphs if isinstance(found, Backbone) else (found,):
            distinct.setdefault(graph.canonical_hash(), graph)
    return tuple(distinct.values())


def measure(graph: AttentionGraph, setting: Setting) -> BenchmarkRow:
    """Judge every form of one graph, then time those that are right."""
    compiled = compile_attention(graph, setting.backend)
    plain = eager_function(graph)
    forms: dict[str, Attention] = {EAGER: plain, GENERATED: compiled}
    if setting.compile_baseline:
        # All graphs share the code of one function: without a reset, torch.compile takes them for
        # recompilations of it and gives up after a few.
        torch.compiler.reset()
        forms[COMPILED] = torch.compile(plain, fullgraph=True, dynamic=False)
    forms = {name: forms[name] for name in FORMS if name in forms}

    facts = (graph.name, graph.equation(), compiled.plan.tier, compiled.plan.fused_calls)
    inputs = draw_inputs(graph, setting.shape, DTYPES[setting.dtype], setting.masked, setting.seed)
    try:
        check_judge(graph, setting.masked, setting.seed)
        judged = judge_forms(forms, inputs, judge(graph, inputs, setting.judged_heads))
    except (JudgeError, IncomparableError) as error:
        return BenchmarkRow(*facts, forms={}, problem=str(error), misjudged=isinstance(error, JudgeError))

    right = {name: form for name, form in forms.items() if not judged[name].problem}
    both = {name: _forward_backward(form, inputs) for name, form in right.items()}
    times = time_interleaved(both, setting.rounds, setting.least_seconds)
    forward: dict[str, Timing] = {}
    if setting.forward:
        with torch.no_grad():
            alone = {name: _forward(form, inputs) for name, form in right.items()}
            forward = time_interleaved(alone, setting.rounds, setting.least_seconds)
    return BenchmarkRow(
        *facts,
        forms={
            name: Measurement(m.error, m.allowed, m.problem, m.wrong, forward.get(name), times.get(name))
            for name, m in judged.items()
        },
    )


def judge_forms(
    forms: dict[str, Attention], inputs: Inputs, truth: tuple[torch.Tensor, ...]
) -> dict[str, Measurement]:
    """The error of every form against the truth; one that is too far off, or cannot run, has a ``problem``.

    Args:
        forms: by name; `EAGER` is among them and sets what the others may lose.
        inputs: what they are called with.
        truth: float64 result and gradients, of all heads or of the first ones.

    Raises:
        IncomparableError: where plain eager evaluation loses more than half of the digits.
    """
    dtype = inputs.grad.dtype
    judged_heads = truth[0].shape[1]

    def errors_of(form: Attention) -> tuple[float, ...]:
        found = inputs.forward_backward(form)
        return relative_errors(tuple(tensor[:, :judged_heads] for tensor in found), truth)

    eager = errors_of(forms[EAGER])
    check_comparable(eager, dtype)
    judged = {}
    for name, form in forms.items():
        try:
            errors = eager if name == EAGER else errors_of(form)
        except Exception as error:  # torch.compile fails in as many ways as there are compilers
            if name != COMPILED:
                raise
            judged[name] = Measurement(problem=f"failed: {first_line(error)}")
            continue
        allowed = (eager_limit(dtype),) * len(errors) if name == EAGER else allowed_errors(eager, dtype)
        judged[name] = verdict(errors, allowed, inputs)
    return judged


def verdict(errors: tuple[float, ...], allowed: tuple[float, ...], inputs: Inputs) -> Measurement:
    """What the errors of a result and of the gradients of ``inputs`` come to, where ``allowed`` may be lost."""
    ratios = [error / limit for error, limit in zip(errors, allowed, strict=True)]
    wrong = [n for n, ratio in enumerate(ratios) if ratio > WRONG]
    at = wrong[0] if wrong else ratios.index(max(ratios))
    problem = ""
    if wrong:
        what = "the result" if at == 0 else f"the gradient of {list(inputs.tensors)[at - 1]}"
        problem = f"wrong: {what} is off by {errors[at]:.1e} of its scale, allowed {allowed[at]:.1e}"
    return Measurement(errors[at], allowed[at], problem, bool(wrong))


def machine_facts() -> dict[str, str | int]:
    """Processor, threads and versions."""
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message, for tables."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _forward_backward(form: Attention, inputs: Inputs) -> Callable[[], object]:
    return lambda: inputs.forward_backward(form)


def _forward(form: Attention, inputs: Inputs) -> Callable[[], object]:
    return lambda: form(*inputs.operands, inputs.key_mask)
