"""The rooms of the house: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "templates": set(),
    "graphir": set(),
    "evolution": {"graphir"},
    "codegen": {"graphir", "templates"},
    "runtime": {"graphir", "evolution", "codegen", "templates"},
    "opnas": {"graphir", "evolution", "codegen", "runtime"},
}
ALLOWED_IN_GRAPHIR = {"numpy", "networkx", "matplotlib"}  # matplotlib only inside a function that draws


def imports_of(path):
    """Top-level names of the modules that a file imports anywhere, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        wrong = {name for name in imports_of(path) if name in MAY_IMPORT} - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_import_check_sees_an_import_inside_a_function(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("def f():\n    from runtime.cli import main\n    return main\n")
    assert list(imports_of(file)) == ["runtime"]


@pytest.mark.parametrize("room", ["graphir", "evolution"])
def test_low_rooms_import_nothing_heavy(room):
    standard = set(sys.stdlib_module_names)
    for path in (ROOT / room).rglob("*.py"):
        foreign = set(imports_of(path)) - standard - MAY_IMPORT.keys() - ALLOWED_IN_GRAPHIR
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_opening_a_graph_loads_no_torch():
    code = (
        "import sys, graphir, evolution\n"
        "graphir.presets.get('autobert-zero').summary()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "graphir" in loaded
    assert not {"torch", "triton", "matplotlib", "tokenizers"} & set(loaded)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_face_of_a_room_defines_nothing(room):
    tree = ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert not defined


def test_no_file_is_longer_than_a_reader_can_hold():
    for room in (*MAY_IMPORT, "tests"):
        for path in (*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.jinja")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 500, f"{path.relative_to(ROOT)} has {lines} lines"
