"""How a command ends: one line and an exit code for what is for people, a traceback for faults of the program."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from codegen.schedule import ScheduleError
from evolution import StudyError
from graphir import GraphError, OpnasError
from runtime.stopping import Stopped

COMMAND = [sys.executable, "-c", "from runtime.cli import main; main()"]


@pytest.fixture
def ends(opnas, monkeypatch):
    """The end of a command that raises something: ``code, err = ends(error)``."""

    def run(error):
        def fail(target):
            raise error

        monkeypatch.setattr("runtime.targets.resolve", fail)
        code, out, err = opnas("inspect", "bert/1")
        assert not out
        return code, err

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OpnasError("is wrong"), "is wrong"),
        (GraphError("is wrong", "n1"), "node 'n1': is wrong"),
        (StudyError("study.db: database or disk is full"), "study.db: database or disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "/data/x: Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", b"/data/x"), "/data/x: Permission denied"),
        (OSError(errno.EXDEV, "Invalid link", "/a", None, "/b"), "/a: Invalid link"),
        (OSError("timed out"), "timed out"),
        (OpnasError("two\nlines\x1b[2J and [red]"), "two\\nlines\\x1b[2J and [red]"),
    ],
)
def test_what_is_for_people_is_one_line_and_exit_code_2(ends, error, line):
    assert ends(error) == (2, f"opnas: {line}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_one_line_and_its_exit_code(ends, number):
    assert ends(Stopped(number)) == (128 + number, f"opnas: stopped by {number.name}\n")


def test_a_reader_that_has_gone_away_is_no_error(ends):
    assert ends(BrokenPipeError(errno.EPIPE, "Broken pipe")) == (1, "")


@pytest.mark.parametrize(
    "error", [ScheduleError("is broken"), ValueError("bad"), KeyError("x"), RuntimeError("y")]
)
def test_a_fault_of_the_program_stays_a_traceback(ends, error):
    with pytest.raises(type(error)):
        ends(error)


def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "inspect", "bert/1", "--format", "json"], stdout=full, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (2, b"opnas: No space left on device\n")


def test_an_output_that_nobody_reads_ends_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "inspect", "bert/1", "--format", "json"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_outputs_that_are_closed_are_no_error(tmp_path):
    command = f"{sys.executable} -m runtime.cli inspect bert/1 --draw {tmp_path / 'g.svg'}"
    assert subprocess.run(["sh", "-c", f"exec {command} >&- 2>&-"]).returncode == 0
    assert (tmp_path / "g.svg").is_file()


def test_the_module_behaves_as_the_command_does(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "runtime.cli",
            "search",
            "--corpus",
            "missing.txt",
            "--out",
            tmp_path / "never",
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "opnas: the corpus missing.txt does not exist\n"


def test_opening_a_graph_on_the_command_line_loads_no_torch():
    code = (
        "import sys; import runtime.cli, runtime.targets; print({'torch', 'tokenizers'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"
