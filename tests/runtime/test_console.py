"""What is printed: as it is, whole in files and pipes, safe in every encoding."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from evolution import Candidate
from graphir import presets
from runtime.console import make_console, prepare_output, say
from runtime.progress import LiveReporter, PlainReporter
from runtime.ranking import print_ranking
from runtime.run_config import RunConfig

TEXTS = [
    "RuntimeError: [enforce fail at alloc_cpu.cpp] no memory",
    "a folder [/] and [bold]another[/bold]",
    "[red]/data/[x]/y :smile: 12 'text' https://a.b",
    "\\[escaped]",
]
BACKBONE = presets.get("autobert-zero")


def candidate(index=0, **fields):
    return Candidate(index, BACKBONE, "hash", "print", 0, **fields)


def printed(show, **options):
    """What ``show(console)`` writes into a file."""
    out = io.StringIO()
    show(Console(file=out, **options))
    return out.getvalue()


class Screen(io.TextIOWrapper):
    """A terminal of some encoding that keeps what it is sent."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def isatty(self):
        return True

    def sent(self):
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_printed_as_it_is_by_any_console(text):
    assert printed(lambda console: say(console, text), width=200) == text + "\n"
    assert printed(lambda console: say(console, text, "bold"), width=10) == text + "\n"


@pytest.mark.parametrize("text", TEXTS)
def test_the_reason_of_a_failure_is_shown_as_it_is(text):
    reporter = PlainReporter
    failed = candidate(status="failed", reason=text)
    assert text in printed(lambda console: reporter(RunConfig(), console).candidate([failed]), width=40)


@pytest.mark.parametrize("width", [1, 40, 80, 200])
def test_a_ranking_in_a_file_has_whole_formulas_whatever_the_width(width):
    ranked = [candidate(i, status="ok", score=-5.0 - i, metrics={"accuracy": 0.25}) for i in range(3)]
    for options in ({"width": width}, {"width": width, "force_terminal": True, "color_system": None}):
        out = printed(lambda console: print_ranking(ranked, 3, console), **options)
        for line in BACKBONE.equation().splitlines():
            assert out.count(line + "\n") == 3


def test_a_reason_cannot_steer_the_terminal_or_begin_a_line():
    failed = candidate(status="failed", reason="two\nlines\x1b[2J\r\x07")
    out = printed(lambda console: PlainReporter(RunConfig(), console).candidate([failed]))
    assert "failed (two\\nlines\\x1b[2J\\r\\x07)" in out
    assert len(out.splitlines()) == 1


def test_a_ranking_shows_the_score_and_the_accuracy():
    out = printed(
        lambda console: print_ranking(
            [candidate(status="ok", score=-4.25, metrics={"accuracy": 0.125, "loss": 4.25})], 1, console
        )
    )
    assert "score" in out
    assert "-4.2500" in out
    assert "0.1250" in out


def test_without_a_score_the_best_is_a_dash_and_negative_scores_are_shown():
    failed, good = candidate(status="failed", reason="bad"), candidate(1, status="ok", score=-5.5)
    assert "best -  " in printed(lambda c: PlainReporter(RunConfig(), c).candidate([failed]))
    assert "best -5.5000" in printed(lambda c: PlainReporter(RunConfig(), c).candidate([failed, good]))


def test_candidates_in_flight_are_shown_and_shorten_the_time_left():
    config = RunConfig(candidates=9)
    done = [candidate(status="ok", score=1.0, seconds=60.0)]
    assert "8:00 left" in printed(lambda c: PlainReporter(config, c).candidate(done), width=200)

    def show(console):
        reporter = LiveReporter(config, console)
        reporter.stage("search")
        reporter.candidate(done)
        for count in (1, 2, 1):
            reporter.in_flight(count)
        console.print(reporter.render())

    out = printed(show, width=200)
    assert "1 in flight" in out
    assert "4:00 left" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_lines_on_a_screen_are_cut_in_its_encoding(encoding):
    screen = Screen(encoding)
    say(Console(file=screen, width=30, force_terminal=True, color_system=None), "x" * 100, cut=True)
    assert len(screen.sent().splitlines()[0]) == 30
    assert len(screen.sent().splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("strategy", ["opnas", "random"])
def test_the_live_display_fits_every_encoding_and_reads_no_markup(encoding, strategy):
    screen = Screen(encoding)
    console = Console(file=screen, width=100, force_terminal=True, color_system=None)
    history = [
        candidate(0, status="failed", reason="[/]"),
        candidate(1, status="ok", score=-5.25, metrics={"accuracy": 0.125}),
    ]
    reporter = LiveReporter(RunConfig(strategy=strategy), console)
    reporter.stage("search")
    reporter.candidate(history)
    console.print(reporter.render())
    assert "best -5.2500, 1 failed" in screen.sent()
    assert "0.1250" in screen.sent()


@pytest.mark.parametrize("columns", ["0", "abc", "-1", "\N{SUPERSCRIPT TWO}", "99999999999", "1", ""])
def test_an_absurd_size_of_the_terminal_does_not_count(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    prepare_output()
    assert 20 <= make_console().width < 10_000


@pytest.mark.parametrize(
    ("encoding", "target", "code"),
    [
        ("ascii", None, 0),
        ("latin-1", None, 0),
        ("ascii", "autobert-zero", 0),
        ("cp1252", "no such \N{SNOWMAN} preset", 2),
    ],
)
def test_a_command_prints_in_every_encoding(encoding, target, code, finished_run):
    done = subprocess.run(
        [sys.executable, "-c", "from runtime.cli import main; main()", "inspect", target or finished_run],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        encoding=encoding,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
