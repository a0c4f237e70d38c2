"""Searching as functions: the defaults are those of the command line, and a run goes on wherever its text is."""

import inspect
import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from evolution import STRATEGIES, Study, make_strategy
from graphir import InputError, OpnasError
from runtime.cli.search import search as search_command
from runtime.corpus import CorpusError, load_corpus
from runtime.run import Run, RunError
from runtime.run_config import RunConfig
from runtime.search import begin, reopen, resume, search

# -- defaults


def test_the_command_line_asks_for_the_default_search(opnas, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "runtime.search.begin", lambda out, **given: asked.append((out, given)) or (None, None)
    )
    monkeypatch.setattr("runtime.cli.search._carry_out", lambda run, corpus: None)
    assert opnas("search")[0] == 0
    assert asked == [(None, {"corpus": None, "config": RunConfig()})]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_the_same_defaults_on_the_command_line_and_in_the_api(
    opnas, monkeypatch, strategy
):
    asked = []
    monkeypatch.setattr(
        "runtime.search.begin", lambda out, **given: asked.append(given["config"]) or (None, None)
    )
    monkeypatch.setattr("runtime.cli.search._carry_out", lambda run, corpus: None)
    opnas("search", "--strategy", strategy)
    assert asked[0].make_strategy() == make_strategy(strategy) == RunConfig(strategy=strategy).make_strategy()
    assert asked == [RunConfig(strategy=strategy)]


@pytest.mark.parametrize(
    ("options", "strategy"),
    [
        ("--strategy greedy --parents 3", make_strategy("greedy", parents=3)),
        ("--strategy crossover --crossover 0.25 --children 2", make_strategy("crossover", crossover=0.25, children=2)),
        ("--strategy evolution --population 3", make_strategy("evolution", population=3, tournament=3)),
        ("--context position --alpha 0", make_strategy("opnas", context="position", alpha=0.0)),
        ("--scores ranked --decay 0.5", make_strategy("opnas", scores="ranked", decay=0.5)),
        ("--strategy nsga2 --objectives score,-flops", make_strategy("nsga2", objectives=("score", "-flops"))),
    ],
)  # fmt: skip
def test_options_of_a_strategy_reach_it(opnas, monkeypatch, options, strategy):
    asked = []
    monkeypatch.setattr(
        "runtime.search.begin", lambda out, **given: asked.append(given["config"]) or (None, None)
    )
    monkeypatch.setattr("runtime.cli.search._carry_out", lambda run, corpus: None)
    assert opnas("search", *options.split())[0] == 0
    assert asked[0].make_strategy() == strategy
    assert RunConfig.from_dict(asked[0].to_dict()) == asked[0]


def test_an_option_that_the_strategy_does_not_have_is_refused(opnas, tmp_path):
    code, _, error = opnas("search", "--strategy", "random", "--parents", "3", "--out", tmp_path / "run")
    assert code == 2
    assert "strategy 'random' has no field 'parents'" in error
    assert not list(tmp_path.iterdir())


def test_every_option_of_a_search_has_the_default_of_the_api():
    config = RunConfig()
    api = {
        **{
            name: getattr(config, name)
            for name in (
                "candidates",
                "minutes",
                "seed",
                "strategy",
                "winner_steps",
                "comparison_steps",
                "executor",
                "workers",
                "limit_seconds",
                "limit_memory",
                "asynchronous",
            )
        },
        # Strategies have defaults of their own, so the command line has none for what only some of them have.
        **dict.fromkeys([*config.strategy_settings, "objectives"]),
        **config.space.to_dict(),
        **config.proxy.to_dict(),
        "proxy": config.proxy.task,
        "rungs": "" if not config.rungs else ",".join(map(str, config.rungs)),
        "eta": config.eta,
        "held_out": config.proxy.held_out_sequences,
        "out": None,
        "corpus": None,
        "extended": False,
    }
    options = inspect.signature(search_command).parameters
    assert {name: option.default for name, option in options.items()} == {name: api[name] for name in options}


def test_the_default_search_is_not_random():
    config = RunConfig(corpus=None, corpus_digest="any")
    assert config.make_strategy().horizon(config.candidates - 1) >= 15


# -- as functions


def test_a_search_and_its_continuation_are_functions(tmp_path, corpus_file, tiny_config):
    outcome = search(tmp_path / "run", corpus=corpus_file, config=tiny_config, candidates=1)
    assert outcome.result.total == 1
    assert outcome.run.folder == tmp_path / "run"
    assert (outcome.run.best_path / "model.safetensors").is_file()
    assert resume(tmp_path / "run").result.evaluated == 0


def test_a_search_without_a_folder_makes_one_below_runs(tmp_path, corpus_file, monkeypatch, tiny_config):
    monkeypatch.chdir(tmp_path)
    runs = [begin(corpus=corpus_file, config=tiny_config)[0] for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    assert {run.folder.parent.name for run in runs} == {"runs"}


def test_settings_are_checked_before_the_text_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.search.load_corpus", lambda path: pytest.fail("the text was read"))
    with pytest.raises(InputError, match="no setting 'candidate'; did you mean candidates"):
        search(tmp_path / "run", candidate=3)
    with pytest.raises(InputError, match="minutes"):
        search(tmp_path / "run", minutes=-1)
    with pytest.raises(RunError, match="exists already"):
        search(tmp_path)


def test_a_configuration_with_the_digest_of_another_text_is_refused(tmp_path, corpus_file, tiny_config):
    with pytest.raises(RunError, match="not the text"):
        begin(tmp_path / "run", corpus=corpus_file, config=tiny_config, corpus_digest="another")
    assert not list(tmp_path.iterdir())


# -- where the text is


def test_a_moved_run_says_how_to_go_on_and_goes_on(tmp_path, corpus_file, opnas, tiny_config):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "text.txt").write_bytes(corpus_file.read_bytes())
    search(old / "run", corpus=old / "text.txt", config=tiny_config)
    old.rename(new)
    code, _, err = opnas("resume", new / "run")
    assert code == 2
    assert f"opnas resume {new / 'run'} --corpus FILE" in err
    assert opnas("resume", new / "run", "--corpus", new / "text.txt")[0] == 0
    assert opnas("resume", new / "run")[0] == 0  # it has learnt where the text is


def test_another_text_where_the_old_one_was_is_refused_with_the_way_to_go_on(
    tmp_path, corpus_file, tiny_config
):
    text = tmp_path / "text.txt"
    text.write_bytes(corpus_file.read_bytes())
    run, _ = begin(tmp_path / "run", corpus=text, config=tiny_config)
    text.write_text(corpus_file.read_text().replace("graph", "tree"))
    with pytest.raises(RunError, match=r"not the text .* opnas resume .*run --corpus FILE"):
        reopen(run.folder)


def test_a_moved_run_does_not_go_on_with_another_text(tmp_path, corpus_file, tiny_config):
    run, _ = begin(tmp_path / "run", corpus=corpus_file, config=tiny_config)
    other = tmp_path / "other.txt"
    other.write_text(corpus_file.read_text().replace("graph", "tree"))
    with pytest.raises(RunError, match="not the text"):
        reopen(run.folder, corpus=other)
    assert Run.open(run.folder).config == run.config


def piped(path, source):
    """Write ``source`` into the pipe ``path``, once, from another thread."""
    threading.Thread(target=lambda: path.write_bytes(source.read_bytes()), daemon=True).start()


def test_a_text_from_a_pipe_is_kept_in_the_run(tmp_path, corpus_file, tiny_config):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    piped(pipe, corpus_file)
    run, text = begin(tmp_path / "run", corpus=pipe, config=tiny_config)
    assert text.digest == load_corpus(corpus_file).digest
    moved = run.folder.rename(tmp_path / "moved")
    again, text_again = reopen(moved)
    assert again.corpus_path.parent == moved
    assert text_again.digest == text.digest
    piped(pipe, corpus_file)
    again.corpus_path.unlink()
    assert reopen(moved, corpus=pipe)[0].corpus_path.read_bytes() == corpus_file.read_bytes()


def test_standard_input_can_be_the_text(tmp_path, corpus_file):
    code = (
        "import sys; from runtime.search import begin; run, _ = begin(sys.argv[1], corpus='/dev/stdin'); "
        "print(run.config.corpus)"
    )
    for number, source in enumerate((None, corpus_file)):  # a pipe, and a file that can be read again
        with corpus_file.open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-c", code, tmp_path / str(number)],
                capture_output=True,
                **({"input": file.read()} if source is None else {"stdin": file}),
            )
        wanted = "corpus.txt" if source is None else str(corpus_file.resolve())
        assert done.stdout.decode().strip() == wanted, done.stderr


def test_an_empty_pipe_is_refused_and_nothing_is_made(tmp_path, tiny_config):
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b""), daemon=True).start()
    with pytest.raises(CorpusError, match="empty"):
        begin(tmp_path / "run", corpus=tmp_path / "pipe", config=tiny_config)
    assert not (tmp_path / "run").exists()


def test_a_supernet_that_is_cut_off_is_refused_with_the_way_to_go_on(tmp_path, corpus_file, tiny_config):
    run = search(tmp_path / "run", corpus=corpus_file, config=tiny_config).run
    whole = run.supernet_path.read_bytes()
    run.supernet_path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"remove .*supernet\.safetensors to have it warmed up again"):
        resume(run.folder)
    run.supernet_path.unlink()
    assert resume(run.folder).result.evaluated == 0
    assert run.supernet_path.read_bytes() == whole


# -- a full disk


FILLED = ["evolution.study.create_tables", "runtime.supernet.save_weights", "evolution.study.write_seal",
          "runtime.pipeline.save_model", "runtime.pipeline.write_json"]  # fmt: skip


@pytest.mark.parametrize("writer", FILLED)
def test_a_search_that_met_a_full_disk_goes_on_when_there_is_room(tmp_path, corpus_file, writer, tiny_config):
    def full(*arguments, **options):
        if writer.startswith("evolution"):
            raise sqlite3.OperationalError("database or disk is full")
        raise OSError(28, "No space left on device", str(tmp_path / "run" / "file"))

    run, _ = begin(tmp_path / "run", corpus=corpus_file, config=tiny_config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, full)
        with pytest.raises((OSError, OpnasError), match=r"No space left|is full"):
            resume(run.folder)
    kept = 0
    if run.study_path.exists():
        with run.open_study(readonly=True) as study:
            kept = len(study)
    assert not list(run.folder.rglob("*.tmp*"))
    assert resume(run.folder).result.evaluated == tiny_config.candidates - kept
    with Study.open(run.study_path, readonly=True) as study:
        assert len(study) == tiny_config.candidates
    assert (run.best_path / "candidate.json").is_file()
