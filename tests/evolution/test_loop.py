"""The loop: reproducible, resumable after SIGKILL, no graph twice, failures recorded."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import pytest

from evolution import (
    Evaluation,
    SearchSpace,
    Study,
    StudyError,
    make_strategy,
    random_backbone,
    search,
)
from evolution.loop import DUPLICATES
from evolution.strategy import Proposal
from graphir import AttentionGraph, AttentionLayer, reference

SPACE = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16)
STRATEGIES = [
    make_strategy("opnas", population=10, parents=2, children=3),
    make_strategy("random"),
    make_strategy("evolution", population=10, tournament=4),
    make_strategy("crossover", population=10, parents=4),
    make_strategy("nsga2", population=10, objectives=("score", "-parameters")),
]


class Toy:
    """Scores the share of softmax among the nodes, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls = []

    def evaluate(self, backbone, seed, budget):
        self.calls.append((backbone, seed, budget))
        operations = [node.op for graph in backbone.graphs for node in graph.nodes]
        return Evaluation(
            operations.count("softmax") / (1 + len(operations)), {"nodes": len(operations)}, 0.5
        )


def run(path, strategy=STRATEGIES[0], evaluator=None, candidates=30, seed=0, **options):
    with Study.create(path) if not path.exists() else Study.open(path) as study:
        result = search(
            study,
            SPACE,
            strategy,
            evaluator or Toy(),
            candidates=candidates,
            seed=seed,
            budget=7,
            **options,
        )
        return result, study.candidates()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_the_same_seed_gives_the_same_study_and_another_seed_another(tmp_path, strategy):
    _, first = run(tmp_path / "a.db", strategy, seed=5)
    _, second = run(tmp_path / "b.db", strategy, seed=5)
    _, other = run(tmp_path / "c.db", strategy, seed=6)
    assert first == second
    assert {c.canonical_hash for c in first} != {c.canonical_hash for c in other}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_a_search_in_pieces_gives_the_study_of_one_in_one_go(tmp_path, strategy):
    _, whole = run(tmp_path / "a.db", strategy)
    for candidates in (1, 9, 11, 20, 30):
        result, pieces = run(tmp_path / "b.db", strategy, candidates=candidates)
        assert result.total == candidates
    assert pieces == whole


def test_every_candidate_has_what_its_evaluation_was_given(tmp_path):
    toy = Toy()
    result, candidates = run(tmp_path / "a.db", evaluator=toy)
    assert (result.evaluated, result.total, result.stopped) == (30, 30, "candidates")
    assert [(c.backbone, c.seed, 7) for c in candidates] == toy.calls
    assert len({c.seed for c in candidates}) == 30
    for c in candidates:
        assert (c.mutation is None) == (c.parent is None) == (c.index < 10)
        assert c.canonical_hash == c.backbone.canonical_hash()


def test_a_mutation_in_the_study_leads_from_the_parent_to_the_child(tmp_path):
    _, candidates = run(tmp_path / "a.db")
    for child in candidates[10:]:
        parent = candidates[child.parent]
        pairs = enumerate(zip(parent.backbone.layers, child.backbone.layers, strict=True), 1)
        assert [n for n, (a, b) in pairs if a != b] == [child.mutation.layer]


def test_no_backbone_is_evaluated_twice(tmp_path):
    # Few enough backbones that draws repeat: 2 kernel sizes and the graphs of 1 or 2 nodes, in one layer.
    space = SearchSpace(
        layers=1, hidden_size=8, heads=2, ffn_size=8, operations=("neg", "scale"), kernel_sizes=(3, 5),
        min_nodes=1, max_nodes=2,
    )  # fmt: skip
    toy = Toy()
    with Study.create(tmp_path / "a.db") as study:
        result = search(study, space, STRATEGIES[0], toy, candidates=100, seed=0, budget=1)
        # neg, scale, neg scale = scale neg, scale scale, neg neg = nothing; each of Q, K, V; and 2 kernels.
        assert (result.total, result.stopped) == (5 * 3 + 2, "exhausted")
        assert len({c.canonical_hash for c in study.candidates()}) == 17
        assert search(study, space, STRATEGIES[0], toy, candidates=100, seed=0, budget=1).evaluated == 0
    assert len(toy.calls) == 17


@dataclass(frozen=True)
class Repeats:
    """Proposes one backbone in two spellings that only the fingerprint shows to be the same."""

    name: ClassVar[str] = "repeats"
    spellings: ClassVar[tuple[str, str]] = ("softmax(Q)", "softmax(logsigmoid(Q) + -logsigmoid(-Q))")

    def horizon(self, index):
        return 0

    def propose(self, history, index, rng, space):
        graph = AttentionGraph.from_expression(self.spellings[min(index, 1)])
        return Proposal(replace(random_backbone(Random(0), space), layers=(AttentionLayer(graph),)))


def test_a_repetition_that_only_the_fingerprint_shows_falls_back_to_a_random_backbone(tmp_path):
    graphs = [AttentionGraph.from_expression(text) for text in Repeats.spellings]
    assert reference.fingerprint(graphs[0]) == reference.fingerprint(graphs[1])
    assert graphs[0].canonical_hash() != graphs[1].canonical_hash()
    _, candidates = run(tmp_path / "a.db", Repeats(), candidates=2)
    assert candidates[0].backbone.graphs == (graphs[0],)
    assert len(candidates[1].backbone.layers) == SPACE.layers  # a random backbone of the space


class Fails(Toy):
    """Fails in every way that an evaluator can."""

    outcomes = (
        MemoryError(),
        RuntimeError("CUDA out of memory \ud800"),
        Evaluation(math.nan, {"loss": math.nan}, 2.0),
        Evaluation(-math.inf),
        None,
        Evaluation("high"),
        Evaluation(0.5, {"loss": "low"}),
        Evaluation(0.5, seconds=math.nan),
    )

    def evaluate(self, backbone, seed, budget):
        self.calls.append(backbone)
        outcome = self.outcomes[len(self.calls) - 1] if len(self.calls) <= len(self.outcomes) else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_failures_are_recorded_with_their_reason_and_never_stop_the_search(tmp_path, strategy):
    result, candidates = run(tmp_path / "a.db", strategy, Fails(), candidates=20)
    assert result.total == 20
    reasons = [c.reason for c in candidates]
    assert reasons[:4] == [
        "MemoryError",
        "RuntimeError: CUDA out of memory ?",
        "the score is nan",
        "the score is -inf",
    ]
    assert all("Error: " in reason for reason in reasons[4:7])
    assert [c.index for c in candidates if c.ok] == [7]
    assert candidates[2].seconds == 2.0
    assert all(c.score is None for c in candidates if not c.ok)
    assert all(math.isfinite(c.seconds) for c in candidates)


class MeetsAFullDisk(Toy):
    def evaluate(self, backbone, seed, budget):
        if len(self.calls) == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().evaluate(backbone, seed, budget)


def test_a_full_disk_is_no_fault_of_a_candidate(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path / "a.db", evaluator=MeetsAFullDisk())
    _, resumed = run(tmp_path / "a.db")
    _, whole = run(tmp_path / "b.db")
    assert resumed == whole


class Interrupts(Toy):
    def evaluate(self, backbone, seed, budget):
        if len(self.calls) == 12:
            raise KeyboardInterrupt
        return super().evaluate(backbone, seed, budget)


def test_an_interrupt_ends_the_search_and_what_was_committed_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.db", evaluator=Interrupts())
    with Study.open(tmp_path / "a.db", readonly=True) as study:
        assert len(study) == 12
    _, resumed = run(tmp_path / "a.db")
    _, whole = run(tmp_path / "b.db")
    assert resumed == whole


def test_a_deadline_that_has_passed_begins_nothing_and_one_in_between_stops_there(tmp_path):
    result, _ = run(tmp_path / "a.db", deadline=time.monotonic())
    assert (result.evaluated, result.stopped) == (0, "deadline")

    class Slow(Toy):
        def evaluate(self, backbone, seed, budget):
            time.sleep(0.05)
            return super().evaluate(backbone, seed, budget)

    result, candidates = run(tmp_path / "a.db", evaluator=Slow(), deadline=time.monotonic() + 0.3)
    assert result.stopped == "deadline"
    assert 1 <= result.evaluated == len(candidates) <= 6


def test_on_candidate_is_called_after_the_commit(tmp_path):
    seen = []

    def check(candidate):
        with Study.open(tmp_path / "a.db", readonly=True) as reader:
            assert reader.candidates()[-1] == candidate
        seen.append(candidate.index)

    run(tmp_path / "a.db", candidates=5, on_candidate=check)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed: 0, now 1"),
        ({"strategy": STRATEGIES[1]}, r"\(strategy: opnas, now random\)"),
        (
            {"strategy": make_strategy("opnas", population=10, parents=2, children=4)},
            r"\(strategy: children: 3, now 4\)",
        ),
    ],
)
def test_a_study_is_not_continued_with_other_settings(tmp_path, change, message):
    run(tmp_path / "a.db", candidates=2)
    with pytest.raises(StudyError, match=message):
        run(tmp_path / "a.db", **change)


def test_proposals_use_results_only_up_to_the_horizon(tmp_path):
    strategies = [
        STRATEGIES[0],
        make_strategy("evolution", population=10, tournament=4, batch=5),
    ]
    for strategy in strategies:
        _, history = run(tmp_path / f"{strategy.name}.db", strategy)
        for index in range(30):
            horizon = strategy.horizon(index)
            assert horizon <= index
            hidden = [replace(c, status="failed", score=None) for c in history[horizon:index]]
            rngs = Random(index), Random(index)
            full = strategy.propose(history[:index], index, rngs[0], SPACE)
            assert strategy.propose(history[:horizon] + hidden, index, rngs[1], SPACE) == full


KILLED = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from evolution import Evaluation, SearchSpace, Study, make_strategy, search

    class Slow:
        def evaluate(self, backbone, seed, budget):
            time.sleep(0.004)
            operations = [node.op for graph in backbone.graphs for node in graph.nodes]
            if seed % 5 == 0:
                raise RuntimeError(f"seed {seed}")
            return Evaluation(operations.count("softmax") / (1 + len(operations)), {"n": len(operations)})

    path = Path(sys.argv[1])
    space = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16)
    strategy = make_strategy("opnas", population=20, parents=3, children=4)
    with Study.open(path) if path.exists() else Study.create(path) as study:
        search(study, space, strategy, Slow(), candidates=100, seed=0, budget=1,
               on_candidate=lambda c: print(c.index, flush=True))
""")


def test_a_search_killed_at_random_moments_loses_nothing_and_ends_with_the_same_study(tmp_path):
    def archive(path):
        with Study.open(path, readonly=True) as study:
            # Only the wall-clock time of a failed evaluation is measured, and may differ.
            return [replace(c, seconds=0.0) for c in study.candidates()]

    def begin(path, **options):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(path)], text=True, **options)

    assert begin(tmp_path / "whole.db", stdout=subprocess.DEVNULL).wait() == 0
    whole = archive(tmp_path / "whole.db")
    assert len(whole) == 100

    seed = int.from_bytes(os.urandom(4))
    rng = Random(seed)
    path = tmp_path / "killed.db"
    kills = 0
    while not path.exists() or len(archive(path)) < 100:
        process = begin(path, stdout=subprocess.PIPE)
        committed = []
        if kills < 6:
            # Wait for some commits, then strike at any moment of the next ones.
            committed = [int(process.stdout.readline()) for _ in range(rng.randrange(1, 14))]
            time.sleep(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            kills += 1
        committed += [int(line) for line in process.stdout.read().split()]
        process.wait()
        found = archive(path)
        assert len(found) > max(committed), f"seed {seed}: a committed candidate is lost"
        assert found == whole[: len(found)], f"seed {seed}, after {kills} kills"
    assert kills == 6, f"seed {seed}"


def test_opening_the_room_loads_no_torch_and_no_compiler():
    code = (
        "import evolution, graphir, sys; print({'torch', 'codegen', 'runtime', 'triton'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"


def test_proposals_that_were_known_already_are_counted(tmp_path):
    space = SearchSpace(
        layers=2, hidden_size=16, heads=2, ffn_size=16, kernel_sizes=(3, 5), conv_probability=1.0
    )
    with Study.create(tmp_path / "study.db") as study:
        search(study, space, make_strategy("random"), Toy(), candidates=4, seed=3, budget=0)
        counted = [c.metrics[DUPLICATES] for c in study.candidates()]
        nodes = [c.metrics["nodes"] for c in study.candidates()]
    seen, wanted = set(), []
    for index in range(4):  # the same draws, with the layers themselves as identity
        rng = Random(f"3/{index}")
        rng.getrandbits(31)
        layers, known = random_backbone(rng, space).layers, 0
        while layers in seen:
            layers, known = random_backbone(rng, space).layers, known + 1
        seen.add(layers)
        wanted.append(known)
    assert counted == wanted
    assert sum(wanted) > 0, "no duplicate was drawn: choose another seed"
    assert nodes == [0.0] * 4  # what the evaluator measured stands beside it
