"""What a check does, in the order in which it does it: what matters first comes first, since time may run out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from graphir import AttentionGraph
from runtime.bench import COMPILED, EAGER, GENERATED, Measurement, Setting
from runtime.gpu_check.cases import Graphs, case_graphs
from runtime.gpu_check.forms import AUTOTUNED, FLEX, SDPA, expressible

Kind = Literal["correct", "memory", "time"]
"""Judge only; judge and measure memory; judge and measure time and memory."""

QUICK = (GENERATED, EAGER, SDPA)
"""Forms that run at once."""
COMPILERS = (GENERATED, COMPILED, FLEX)
"""Forms that torch.compile takes many seconds for, and ours beside them once more, so that rounds interleave."""
AUTOTUNERS = (GENERATED, AUTOTUNED)

TOKENS = 2**14
"""Tokens of a batch, so that batch times tokens is the same at every length up to it."""
WIDTH = 2**10
"""Heads times head dimension."""


@dataclass(frozen=True)
class Job:
    """Some forms of one graph at one size.

    Attributes:
        kind: what is measured.
        graph: of which graph.
        setting: at which size, in which type.
        forms: names of forms, in the order of a round.
    """

    kind: Kind
    graph: AttentionGraph
    setting: Setting
    forms: tuple[str, ...] = (GENERATED,)


@dataclass(frozen=True)
class Cell:
    """What came of one form of a job.

    Attributes:
        job: the job.
        form: the form.
        measurement: its error and times, or why there are none.
        peak_bytes: most memory of one forward and backward above the inputs, on the device; None where not measured.
    """

    job: Job
    form: str
    measurement: Measurement
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Work:
    """Everything that one check does.

    Attributes:
        checks: groups of jobs that need no quiet device; a group is one graph's and may run beside others.
        timings: jobs that run alone, one after the other.
        graphs: all of them.
    """

    checks: tuple[tuple[Job, ...], ...]
    timings: tuple[Job, ...]
    graphs: tuple[AttentionGraph, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs in order."""
        return (*(job for group in self.checks for job in group), *self.timings)


def full_work(graphs: Graphs) -> Work:
    """The whole check of a GPU. Timings are in bfloat16, with batch and heads such that tokens and width stay equal."""
    presets, cases, corpus = graphs.presets, graphs.cases, graphs.corpus
    timed = presets + cases
    # The second setting of the first group and the last of the second build the very kernels that are timed.
    first = (_small("bfloat16", masked=True), _small("bfloat16", masked=False))
    second = (_small("float16"), _small("float32"), _small("bfloat16", head_dim=128, masked=False))
    checks = [
        *(_checks(graph, *first) for graph in timed),
        *(_checks(graph, *second) for graph in timed),
        *((_memory(graph, 2**16),) for graph in presets),
        *(_checks(graph, first[0], *second[:2]) for graph in corpus),
        *((_memory(graph, 2**16),) for graph in cases),
    ]
    usual = [(2**11, 64), (2**13, 64)]
    others = [(2**9, 64), (2**15, 64), (2**9, 128), (2**11, 128), (2**13, 128), (2**15, 128)]
    masked = [replace(sized(2**11, 64), masked=True)]
    timings = [
        *_timings(presets, _sized(usual), QUICK),
        *_timings(presets, _sized(usual[:1]), COMPILERS),
        *_timings(cases, _sized(usual), QUICK),
        *_timings(presets, masked, QUICK),
        *_timings(presets, _sized(others), QUICK),
        *_timings(presets[:2], _sized(usual[:1]), AUTOTUNERS),
        *_timings(presets, _sized(usual[1:]), COMPILERS),
        *_timings(presets, masked, COMPILERS),
        *_timings(cases, _sized(usual[:1]), COMPILERS),
        *_timings(cases, _sized(others), QUICK),
        *_timings(presets, _sized(others), COMPILERS),
        *_timings(cases, _sized(usual[1:] + others), COMPILERS),
        *_timings(presets[2:], _sized(usual[:1]), AUTOTUNERS),
    ]
    return Work(tuple(checks), tuple(timings), graphs.all)


def tiny_work(graphs: Graphs) -> Work:
    """A run through everything at sizes that Triton's interpreter can do on a CPU, whatever the numbers mean there."""
    presets, cases = graphs.presets[:2], case_graphs("column-softmax")
    shape = Setting(seq_len=24, head_dim=16, heads=1, batch=3, rounds=1)
    memory = Job("memory", presets[0], replace(shape, seq_len=64, batch=1, masked=False))
    checks = [
        *(_checks(graph, shape, replace(shape, dtype="float16")) for graph in presets),
        *(_checks(graph, shape) for graph in cases + graphs.corpus),
        (memory,),
    ]
    timed = replace(shape, seq_len=32, batch=2, dtype="float16", masked=False)
    timings = [
        *_timings(presets + cases, [timed], QUICK),
        *_timings(presets[:1], [timed, replace(timed, masked=True)], COMPILERS),
        *_timings(presets[:1], [timed], AUTOTUNERS),
    ]
    return Work(tuple(checks), tuple(timings), presets + cases + graphs.corpus)


def sized(seq_len: int, head_dim: int) -> Setting:
    """The timed setting of a length and a head dimension."""
    return Setting(
        seq_len,
        head_dim,
        heads=WIDTH // head_dim,
        batch=max(1, TOKENS // seq_len),
        dtype="bfloat16",
        masked=False,
        rounds=5,
    )


def _sized(sizes: Iterable[tuple[int, int]]) -> list[Setting]:
    return [sized(*size) for size in sizes]


def _small(dtype: str, head_dim: int = 64, masked: bool = True) -> Setting:
    """A setting that is judged as a whole; lengths with a mask fit no tile."""
    return Setting(200 if masked else 256, head_dim, WIDTH // head_dim, 3 if masked else 2, dtype, masked)


def _checks(graph: AttentionGraph, *settings: Setting) -> tuple[Job, ...]:
    return tuple(Job("correct", graph, setting) for setting in settings)


def _memory(graph: AttentionGraph, seq_len: int) -> Job:
    return Job("memory", graph, Setting(seq_len, 64, 2, 1, "bfloat16", masked=False))


def _timings(
    graphs: Iterable[AttentionGraph], settings: Iterable[Setting], forms: tuple[str, ...]
) -> list[Job]:
    """A job for each graph and setting, of the forms that the graph has."""
    pairs = [(graph, setting) for setting in settings for graph in graphs]
    return [
        Job("time", graph, setting, tuple(form for form in forms if expressible(form, graph)))
        for graph, setting in pairs
    ]
