"""How a pretraining is shown: lines in a pipe, a bar on a terminal; never as markup."""

import io

import pytest
from rich.console import Console

from runtime.console import make_console
from runtime.pretraining.display import LiveDisplay, PlainDisplay, make_display
from runtime.pretraining.reporter import StepRecord


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(step):
    return StepRecord(step, 9, 2.5, 1.0, 1e-3, 12_345.6, 61.0)


@pytest.mark.parametrize("kind", [LiveDisplay, PlainDisplay])
def test_steps_notes_and_evaluations_are_shown(kind):
    file = Terminal()
    with kind(Console(file=file, force_terminal=True, width=100, markup=False, highlight=False)) as display:
        display.note("tokenising [bold]this[/bold].txt")
        display.step(record(9))
        display.evaluated(9, {"loss": 3.25, "accuracy": 0.125})
    shown = file.getvalue()
    assert "[bold]this[/bold].txt" in shown
    assert "9/9" in shown
    assert "loss 2.500, 12,346 tokens/s, 0:01:01 left" in shown
    assert "held-out loss 3.2500, accuracy 0.1250" in shown


def test_a_pipe_gets_a_line_now_and_then_and_the_last_step():
    file = io.StringIO()
    display = make_display(make_console(file))
    for step in range(1, 10):
        display.step(record(step))
    assert [line.split(",")[0].strip() for line in file.getvalue().splitlines()] == ["step 1/9", "step 9/9"]
