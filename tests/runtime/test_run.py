"""The folder of a run: whole, of its own name, with the usual modes, and found again where it was moved."""

import errno
import json
import threading

import pytest

from evolution import SearchSpace
from graphir import InputError
from graphir.files import write_json
from runtime.proxy import ProxyConfig
from runtime.run import KEPT_CORPUS, FolderExistsError, Run, RunError, new_folder
from runtime.run_config import RunConfig


def test_a_run_is_read_back_as_it_was_made(tmp_path):
    config = RunConfig(
        corpus="/data/text.txt",
        corpus_digest="abc",
        candidates=3,
        minutes=1.5,
        strategy="evolution",
        strategy_settings={"population": 4, "tournament": 2},
        space=SearchSpace(layers=2, hidden_size=8, heads=2, ffn_size=8),
        proxy=ProxyConfig(seq_len=16),
        executor="ray",
        workers=3,
        limit_seconds=60.0,
        limit_memory=0.5,
        asynchronous=True,
    )
    Run.create(tmp_path / "deep" / "run", config)
    assert Run.open(tmp_path / "deep" / "run").config == config


def test_a_run_from_before_there_were_executors_is_read_with_their_defaults(tmp_path):
    Run.create(tmp_path / "run", RunConfig())
    later = ("executor", "workers", "limit_seconds", "limit_memory", "asynchronous")
    data = {name: value for name, value in RunConfig().to_dict().items() if name not in later}
    write_json(tmp_path / "run" / "config.json", data)
    assert Run.open(tmp_path / "run").config == RunConfig()


def test_another_executor_takes_only_what_it_can_of_the_configuration(tmp_path):
    run = Run.create(tmp_path / "run", RunConfig(workers=3, limit_seconds=5))
    assert run.with_executor(None, None).config == run.config
    assert run.with_executor(None, 2).config.workers == 2
    local = run.with_executor("local", None).config
    assert (local.workers, local.limit_seconds) == (None, None)
    assert run.with_executor("ray", None).config.limit_seconds == 5
    assert Run.open(tmp_path / "run").config == run.config


def test_settings_of_the_strategy_that_are_left_out_are_kept_with_their_values():
    assert RunConfig(strategy_settings={"parents": 2}).to_dict()["strategy_settings"]["children"] == 1
    assert RunConfig(strategy="random").strategy_settings == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"candidates": 0}, "candidates must be a whole number from 1"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"minutes": 0}, "minutes must be a number above 0"),
        ({"minutes": float("inf")}, "minutes must be a number above 0"),
        ({"minutes": True}, "minutes must be a number above 0"),
        ({"corpus": 3}, "corpus must be a path"),
        ({"strategy": 3}, "strategy must be a name"),
        ({"strategy": "opnass"}, "did you mean opnas"),
        ({"strategy_settings": {"parent": 3}}, "did you mean parents"),
        ({"space": {}}, "space must be a SearchSpace, not an object"),
        ({"proxy": None}, "proxy must be a ProxyConfig, not None"),
        ({"executor": "rey"}, "executor must be local, processes, ray, not"),
        ({"workers": 0}, "workers must be a whole number from 1"),
        ({"limit_seconds": 0}, "limit_seconds must be a number above 0"),
        ({"limit_memory": "2"}, "limit_memory must be a number above 0"),
        ({"asynchronous": 1}, "asynchronous must be true or false"),
        ({"executor": "local", "workers": 2}, "local has one worker, not 2"),
        ({"executor": "local", "limit_memory": 2}, "local has no limits"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused_with_the_field(fields, message):
    with pytest.raises(InputError, match=message):
        RunConfig(**fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": 3}, "corpus must be a path"),
        ({"space": {"kernel_sizes": [[1]]}}, "cannot be read"),
        ({"strategy_settings": []}, "strategy_settings an object"),
        ({"more": 1}, "more"),
    ],
)
def test_a_folder_from_a_stranger_is_refused_for_what_is_wrong_in_it(tmp_path, changes, message):
    Run.create(tmp_path / "run", RunConfig())
    data = RunConfig().to_dict() | changes
    write_json(tmp_path / "run" / "config.json", data)
    with pytest.raises(RunError, match=message):
        Run.open(tmp_path / "run")


def test_runs_that_are_made_at_the_same_time_all_get_a_folder(tmp_path):
    runs, barrier = [], threading.Barrier(8)

    def make(seed):
        barrier.wait()
        for _ in range(3):
            runs.append(Run.create_in(tmp_path, RunConfig(seed=seed)))

    threads = [threading.Thread(target=make, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.folder for run in runs}) == 24
    assert all(Run.open(run.folder).config.seed == run.config.seed for run in runs)
    assert len(list(tmp_path.iterdir())) == 24


def test_a_folder_that_another_took_meanwhile_is_not_overwritten(tmp_path):
    def race():
        with new_folder(tmp_path / "run") as folder:
            (folder / "ours").write_text("ours")
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "theirs").write_text("theirs")

    with pytest.raises(FolderExistsError, match="exists already"):
        race()
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "theirs"]


def test_a_folder_that_cannot_be_filled_leaves_nothing_and_is_named_as_it_was_to_be(tmp_path):
    def fill():
        with new_folder(tmp_path / "run") as folder:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "weights"))

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / "run" / "weights")
    assert not list(tmp_path.iterdir())


def test_an_old_folder_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "old").write_text("old")
    with new_folder(tmp_path / "best", replace_old=True) as folder:
        (folder / "new").write_text("new")
        assert (tmp_path / "best" / "old").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["best", "new"]


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is no folder"):
        Run.create(tmp_path / "file" / "run", RunConfig())


def test_every_file_of_a_run_has_the_usual_mode(finished_run, tmp_path):
    (tmp_path / "plain").write_text("")
    usual = (tmp_path / "plain").stat().st_mode
    files = [path for path in finished_run.rglob("*") if path.is_file()]
    assert {"study.db", "supernet.safetensors", "model.safetensors"} <= {path.name for path in files}
    assert {path.name: path.stat().st_mode for path in files if path.stat().st_mode != usual} == {}


def test_a_kept_text_belongs_to_the_folder_wherever_that_is(tmp_path):
    run = Run.create(tmp_path / "run", RunConfig(), "the text")
    assert run.corpus_path.read_text() == "the text"
    assert json.loads((run.folder / "config.json").read_text())["corpus"] == KEPT_CORPUS
    moved = Run.open(run.folder.rename(tmp_path / "moved"))
    assert moved.corpus_path == tmp_path / "moved" / KEPT_CORPUS


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    run = Run.create(tmp_path / "run", RunConfig())
    (run.folder / ".best.1234.tmp").mkdir()
    (run.folder / ".best.1234.tmp" / "model").write_text("half")
    (run.folder / ".supernet.safetensors.99.tmp").write_text("half")
    (run.folder / "notes.tmp").write_text("mine")
    run.remove_leftovers()
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "logs", "notes.tmp"]
