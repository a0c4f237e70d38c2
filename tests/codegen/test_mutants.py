"""Faults put into the compiler on purpose, one at a time, and the juror that must object to each.

`tests.codegen.jury` asks its jurors in order. A fault that changes nothing fails its test, and so does a jury that
objects where there is no fault, or an exception that is not a checker's.
"""

from __future__ import annotations

import pytest

from tests.codegen.faults import PLANS
from tests.codegen.faults_of_expressions import DERIVATIVES, EXPRESSIONS
from tests.codegen.faults_of_kernels import FUNCTIONS_ON_CHIP, IN_16_BITS, KERNEL_TEXT
from tests.codegen.faults_of_schedules import SCHEDULES
from tests.codegen.jury import JURORS, PLAN, objection

FAULTS = SCHEDULES | KERNEL_TEXT | IN_16_BITS | FUNCTIONS_ON_CHIP | EXPRESSIONS | DERIVATIVES

GRAPHS: dict[str, set[str]] = {text: set() for text in PLANS}
"""Every graph, with the jurors that object on it."""
for each in FAULTS.values():
    for text in each.graphs:
        GRAPHS.setdefault(text, set()).add(each.juror)


def test_every_juror_is_needed():
    assert {each.juror for each in FAULTS.values()} == set(JURORS)


@pytest.mark.parametrize("text", GRAPHS)
def test_without_a_fault_the_jury_accepts(text):
    last = max({PLAN, *GRAPHS[text]}, key=JURORS.index)
    assert objection(text, PLANS.get(text), last) is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # faulty kernels overflow
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_caught(name, monkeypatch):
    FAULTS[name].plant(monkeypatch)
    for text in FAULTS[name].graphs:
        found = objection(text, PLANS.get(text), FAULTS[name].juror)
        assert found is not None, f"nobody objects on {text}"
        assert found[0] == FAULTS[name].juror, f"{found[0]} objects on {text}: {found[1]}"
