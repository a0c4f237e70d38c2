"""Signals: what was begun is removed, one line says so, and the exit code is the shell's."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from importlib.machinery import ExtensionFileLoader

import pytest

from graphir import AttentionLayer, Backbone, presets
from runtime.run import new_folder
from runtime.stopping import Stopped, stop_on_signals

COMMAND = [sys.executable, "-c", "from runtime.cli import main; main()"]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def left_over(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp*")]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_folder_that_a_signal_gets_between_is_gone(tmp_path, number):
    def begin():
        with stop_on_signals(), new_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("half")
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped) as caught:
        begin()
    assert caught.value.code == 128 + number
    assert str(caught.value) == f"stopped by {number.name}"
    assert not list(tmp_path.iterdir())


def test_nothing_that_catches_errors_holds_a_signal_up():
    def hold_up():
        with stop_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception:
                pytest.fail("caught")

    with pytest.raises(Stopped):
        hold_up()


def test_a_second_signal_does_not_disturb_what_cleans_up():
    cleaned = []

    def disturb():
        with stop_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGHUP)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                cleaned.append(True)

    with pytest.raises(Stopped, match="SIGHUP"):
        disturb()
    assert cleaned


def test_handlers_are_as_before_and_what_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_may_run_a_command():
    ran = []

    def run():
        with stop_on_signals():
            ran.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ran


def test_a_search_that_is_stopped_says_how_to_go_on(tmp_path, tiny_options):
    seed = random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    number = rng.choice(SIGNALS)
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, "search", "--out", folder, *tiny_options, "--candidates", "500", "--warm-up-steps", "300"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (folder / "config.json").exists():
        time.sleep(0.01)
    time.sleep(rng.uniform(0.2, 2))
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number, f"seed {seed}: {errors}"
    assert errors.strip() == (f"opnas: stopped by {number.name}; go on with: opnas resume {folder}"), (
        f"seed {seed}"
    )
    assert not left_over(tmp_path), f"seed {seed}"


def test_an_export_that_is_stopped_leaves_nothing(tmp_path):
    Backbone((AttentionLayer(presets.get("bert/1")),) * 4, 1024, 8, 2048, "some").save(tmp_path / "b.json")
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [*COMMAND, "export", tmp_path / "b.json", "--out", tmp_path / "out" / "e"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any((tmp_path / "out").iterdir()):
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors
    assert errors == "opnas: stopped by SIGTERM\n"
    assert not list((tmp_path / "out").iterdir())


def test_a_signal_waits_until_a_compiled_module_is_loaded():
    events = []

    class Loader(ExtensionFileLoader):
        def load(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # handlers run here; an exception would go through the loader
            events.append("loaded")

    def load_and_wait():
        Loader("module", "module.so").load()
        time.sleep(5.0)
        events.append("not stopped")

    with pytest.raises(Stopped), stop_on_signals():
        load_and_wait()
    assert events == ["loaded"]
