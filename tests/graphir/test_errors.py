"""One base for all errors that are for people, and none for faults of the program."""

import importlib
import inspect
import pkgutil

import pytest

import codegen
import evolution
import graphir
import runtime
from codegen.schedule import ScheduleError
from codegen.tiles.check import TileError
from graphir import GraphError, OpnasError, PresetError, presets

FAULTS_OF_THE_PROGRAM = {ScheduleError, TileError}


def own_errors():
    """Every exception that a room defines."""
    for room in (graphir, evolution, codegen, runtime):
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if issubclass(kind, Exception) and kind.__module__ == module.__name__:
                    yield kind


def test_every_error_of_ours_is_for_people_but_for_faults_of_the_program():
    found = set(own_errors())
    assert len(found) > 10
    assert {kind for kind in found if not issubclass(kind, OpnasError)} == FAULTS_OF_THE_PROGRAM


def test_errors_for_people_can_be_caught_as_what_python_calls_them():
    with pytest.raises(ValueError, match="does not exist"):
        graphir.AttentionGraph([graphir.Node("a", "neg", ("b",))], "a")
    with pytest.raises(KeyError):
        presets.get("brt")


def test_an_unknown_preset_prints_without_quotation_marks():
    with pytest.raises(PresetError) as caught:
        presets.get("brt")
    assert str(caught.value).startswith("unknown preset 'brt'; did you mean bert")


def test_a_graph_error_knows_its_node():
    assert GraphError("is wrong", "n1").node == "n1"
    assert str(GraphError("is wrong", "n1")) == "node 'n1': is wrong"
