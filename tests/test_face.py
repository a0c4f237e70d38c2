"""`opnas`, the one name that users import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import opnas

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", opnas.__all__)
def test_every_name_is_there_with_an_explanation(name):
    assert getattr(opnas, name).__doc__


@pytest.mark.parametrize("package", ["opnas", "runtime"])
def test_what_type_checkers_see_is_what_users_get(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body for alias in node.names}
    module = __import__(package)
    assert seen == set(module.__all__) == set(dir(module))
    for node in block.body:
        home = __import__(node.module, fromlist=["*"])
        for alias in node.names:
            assert getattr(module, alias.name) is getattr(home, alias.name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'opnas' has no attribute 'atention'"):
        opnas.atention  # noqa: B018


def test_a_graph_is_opened_without_torch():
    code = (
        "import sys, opnas\n"
        "opnas.AttentionGraph.from_expression('softmax(Q @ K.T) @ V').summary()\n"
        "opnas.presets.get('bert')\n"
        "print('torch' in sys.modules, 'evolution' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_package_runs_as_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "opnas", "inspect", "bert/1", "--format", "latex"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "softmax" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "opnas", "inspect", "brt/1"], capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1


def test_every_package_says_that_it_is_typed():
    for package in ("opnas", "graphir", "codegen", "evolution", "runtime"):
        assert (ROOT / package / "py.typed").is_file()


def test_a_package_called_templates_beside_the_users_script_is_no_trouble(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "__init__.py").write_text("")
    script = tmp_path / "mine.py"
    script.write_text(
        "import opnas, templates\n"
        "print(templates.__file__)\n"
        "print(opnas.compile_attention(opnas.presets.get('bert/1')).backend)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "templates" / "__init__.py"), "torch"]
