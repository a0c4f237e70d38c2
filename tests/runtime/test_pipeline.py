"""The main job: the same seed gives the same study, and pulling the plug loses nothing."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from evolution import Study, StudyError
from graphir import AttentionLayer
from runtime.corpus import load_corpus
from runtime.pipeline import run_search
from runtime.run import Run, RunError
from runtime.targets import resolve

COMMAND = [sys.executable, "-c", "from runtime.cli import main; main()"]


class Silent:
    """A reporter that remembers the stages."""

    def __init__(self):
        self.stages = []

    def stage(self, title):
        self.stages.append(title)

    def step(self, step, steps, loss):
        pass

    def candidate(self, history):
        pass

    def in_flight(self, count):
        pass


def archive(folder):
    """Everything that a study holds, measured times aside."""
    with Study.open(folder / "study.db", readonly=True) as study:
        return [
            (c.index, c.canonical_hash, c.parent, c.mutation, c.status, c.score, c.metrics.get("loss"))
            for c in study.candidates()
        ]


def committed(folder):
    """The archive so far; empty while there is no study."""
    try:
        return archive(folder)
    except StudyError:
        return []


def test_a_search_ends_with_a_ranked_study_a_drawing_and_a_model(finished_run):
    entries = archive(finished_run)
    assert len(entries) == 7
    assert {entry[4] for entry in entries} == {"ok"}
    best = {path.name for path in (finished_run / "best").iterdir()}
    assert {"backbone.json", "backbone.svg", "backbone.png", "model.safetensors", "tokenizer.json"} <= best
    assert "candidate 6" in (finished_run / "logs" / "search.log").read_text()


def test_the_same_seed_gives_the_same_study_and_another_seed_another(
    opnas, tmp_path, finished_run, tiny_options
):
    assert opnas("search", "--out", tmp_path / "again", *tiny_options)[0] == 0
    assert opnas("search", "--out", tmp_path / "other", *tiny_options, "--seed", 1)[0] == 0
    assert archive(tmp_path / "again") == archive(finished_run)
    assert archive(tmp_path / "other") != archive(finished_run)


@pytest.mark.long  # the pool with a quick evaluator is tested in test_executor_processes
def test_processes_of_their_own_give_the_archive_and_the_winner_of_one_process(
    opnas, tmp_path, finished_run, tiny_options
):
    folder = tmp_path / "run"
    options = [*tiny_options, "--executor", "processes", "--workers", 2, "--candidates", 4]
    assert opnas("search", "--out", folder, *options)[0] == 0
    assert archive(folder) == archive(finished_run)[:4]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"candidates": 7}))
    assert opnas("resume", folder, "--executor", "local")[0] == 0
    assert archive(folder) == archive(finished_run)
    models = [run / "best" / "model.safetensors" for run in (folder, finished_run)]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_a_candidate_beyond_its_limits_is_recorded_and_an_asynchronous_run_says_what_it_is(
    opnas, tmp_path, tiny_options
):
    folder = tmp_path / "run"
    options = [*tiny_options, "--executor", "processes", "--workers", 1, "--candidates", 1, "--asynchronous"]
    code, _, err = opnas("search", "--out", folder, *options, "--limit-seconds", 1e-3)
    assert (code, err) == (1, "")
    with Study.open(folder / "study.db", readonly=True) as study:
        assert [c.reason for c in study.candidates()] == ["stopped after 0.001 s"]
    assert "cannot be reproduced" in (folder / "logs" / "search.log").read_text()


def test_a_search_killed_at_any_moment_resumes_with_nothing_lost(tmp_path, finished_run, tiny_options):
    seed = random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    folder = tmp_path / "killed"
    command = [*COMMAND, "search", "--out", str(folder), *tiny_options]
    kept = []
    for strike in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # Struck between 0 and 3 seconds after there is something to lose, whatever it is doing then.
        while process.poll() is None and not (folder / "config.json").exists():
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 3))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), f"seed {seed}, strike {strike}: {errors}"
        now = committed(folder)
        assert now[: len(kept)] == kept, f"seed {seed}, strike {strike}: lost a candidate"
        kept = now
        command = [*COMMAND, "resume", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert archive(folder) == archive(finished_run), f"seed {seed}"
    assert (folder / "best" / "model.safetensors").read_bytes() == (
        finished_run / "best" / "model.safetensors"
    ).read_bytes()
    left_over = [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]
    assert not left_over, f"seed {seed}"


def test_resuming_a_finished_search_does_nothing_again(opnas, tmp_path, tiny_options):
    folder = tmp_path / "run"
    assert opnas("search", "--out", folder, *tiny_options)[0] == 0
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "best").iterdir()}
    run = Run.open(folder)
    reporter = Silent()
    outcome = run_search(run, load_corpus(run.config.corpus), reporter)
    assert outcome.result.evaluated == 0
    assert reporter.stages == ["tokenizer", "search"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "best").iterdir()} == stamps


def test_a_run_is_not_continued_on_another_text(tmp_path, finished_run, corpus_file):
    other = tmp_path / "other.txt"
    other.write_text(corpus_file.read_text().replace("graph", "tree"))
    with pytest.raises(RunError, match="not the text"):
        run_search(Run.open(finished_run), load_corpus(other), Silent())


def test_two_processes_do_not_write_one_run(opnas, finished_run):
    with Study.open(finished_run / "study.db"):
        code, _, err = opnas("resume", finished_run)
    assert code == 2
    assert "another search" in err


def test_the_time_limit_ends_a_search_early_and_still_saves_a_winner(opnas, tmp_path, tiny_options):
    code, out, _ = opnas(
        "search", "--out", tmp_path / "run", *tiny_options, "--candidates", 10_000, "--minutes", 0.02
    )
    assert code == 0
    assert 1 <= len(archive(tmp_path / "run")) < 10_000
    assert "winner" in out


def test_inspect_lists_the_candidates_of_a_run(opnas, finished_run):
    code, out, _ = opnas("inspect", finished_run)
    assert code == 0
    assert "7 of 7 candidates" in out
    assert out.count("conv(") + out.count("softmax(") >= 1


def test_the_best_backbone_of_a_run_has_graphs_named_after_their_layers(finished_run):
    backbone = resolve(str(finished_run))
    for number, layer in enumerate(backbone.layers, 1):
        if isinstance(layer, AttentionLayer):
            assert layer.graph.name == f"{backbone.name}/{number}"
