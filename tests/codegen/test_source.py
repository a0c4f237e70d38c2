"""The generated text: the same everywhere, clean, self-contained, and nothing of a stranger's gets into it."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import traceback
from pathlib import Path
from random import Random

import pytest
import torch

from codegen import backbone_source, block_source, compile_attention
from codegen.triton_program import triton_program
from evolution import SearchSpace, random_backbone, random_graph
from graphir import (
    EXTENDED_OPERATIONS,
    PAPER_OPERATIONS,
    AttentionGraph,
    AttentionLayer,
    Backbone,
    ConvLayer,
    GraphError,
    presets,
)
from graphir.validation import MAX_NODES

ROOT = Path(__file__).parents[2]


def random_sources(seed):
    """Attention of all sizes, and backbones."""
    sources = []
    for operations, largest, count in (
        (PAPER_OPERATIONS, 16, 80),
        (EXTENDED_OPERATIONS, 16, 80),
        (EXTENDED_OPERATIONS, MAX_NODES, 40),
    ):
        space = SearchSpace(operations=operations, min_nodes=1, max_nodes=largest)
        rng = Random(f"{seed}/{largest}")
        sources += [compile_attention(random_graph(rng, space)).source for _ in range(count)]
        sources += [backbone_source(random_backbone(rng, space), loader=n % 2 == 0) for n in range(4)]
    return sources


def random_kernels(seed):
    """Triton text of graphs of all sizes."""
    sources = []
    for operations, largest, count in (
        (PAPER_OPERATIONS, 16, 40),
        (EXTENDED_OPERATIONS, 16, 40),
        (EXTENDED_OPERATIONS, MAX_NODES, 10),
    ):
        space = SearchSpace(operations=operations, min_nodes=1, max_nodes=largest)
        rng = Random(f"{seed}/{largest}")
        sources += [triton_program(random_graph(rng, space)).source for _ in range(count)]
    return sources


def preset_kernels():
    known = [presets.get(name) for name in presets.names()]
    return [triton_program(graph).source for graph in known if isinstance(graph, AttentionGraph)]


def preset_sources():
    known = [presets.get(name) for name in presets.names()]
    return [backbone_source(x) if isinstance(x, Backbone) else compile_attention(x).source for x in known]


def model_sources():
    """Models with each way to their kernels, with attention and without."""
    attention, conv = AttentionLayer(presets.get("autobert-zero/6")), ConvLayer(3)
    return [
        backbone_source(Backbone(layers, 16, 2, 16), kernels=kernels, loader=loader)
        for layers in ((attention, conv), (attention,), (conv,))
        for kernels in ("none", "beside", "preferred", "only")
        for loader in (False, True)
    ]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_finds_nothing_to_improve(command, tmp_path, fresh_seed):
    sources = [*preset_sources(), *random_sources(fresh_seed), *preset_kernels(), *random_kernels(fresh_seed)]
    # A kernel of this one reads no input and asks for no mask.
    maskless = AttentionGraph.from_expression(
        "t1 = V + -V; t2 = logsigmoid(t1); t2 @ scale(softmax(t2.T @ t1))"
    )
    sources += [block_source(), *model_sources(), triton_program(maskless).source]
    for number, source in enumerate(sources):
        (tmp_path / f"generated_{number}.py").write_text(source)
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    found = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True)
    assert found.returncode == 0, (
        f"OPNAS_TEST_SEED={fresh_seed}\n{found.stdout[-3000:]}{found.stderr[-1000:]}"
    )


def test_every_source_imports_only_torch(fresh_seed):
    for source in [*preset_sources(), *random_sources(fresh_seed)]:
        imported = set()
        for node in ast.parse(source).body:  # those of the exported file's loader stand inside of it
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
        wanted = {"torch", "pathlib"} if "def load(" in source else {"torch"}
        assert imported == wanted, f"OPNAS_TEST_SEED={fresh_seed}\n{source}"


def test_the_same_graph_gives_the_same_text_in_another_process():
    code = """
import hashlib
from random import Random
from codegen import backbone_source, compile_attention
from codegen.triton_program import triton_program
from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, presets

rng, space = Random(3), SearchSpace(operations=EXTENDED_OPERATIONS)
text = "".join(compile_attention(random_graph(rng, space)).source for _ in range(60))
text += backbone_source(presets.get("autobert-zero"))
print(hashlib.sha256(text.encode()).hexdigest())
"""
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop()) == 65


@pytest.mark.parametrize("name", presets.names())
def test_the_text_holds_the_equation(name):
    preset = presets.get(name)
    if isinstance(preset, Backbone):
        words = " ".join(backbone_source(preset).split())
        assert all(" ".join(line.split()) in words for line in preset.equation().splitlines())
    else:
        assert f'    """{preset.equation()}\n' in compile_attention(preset).source


def test_a_long_equation_is_wrapped_and_whole():
    graph = AttentionGraph.from_expression(" + ".join(["-softmax(-scale(Q @ K.T)) @ -logsigmoid(V)"] * 5))
    source = compile_attention(graph).source
    docstring = ast.get_docstring(ast.parse(source).body[-1])
    assert " ".join(docstring.split()).startswith(graph.equation() + " q, k, v are")
    assert max(map(len, source.splitlines())) <= 110


def test_a_graph_is_compiled_once_whatever_its_nodes_belong_to():
    one = AttentionGraph.from_expression("softsign(Q) @ (K.T @ V)", name="once")
    again = AttentionGraph.from_dict(one.to_dict())
    assert compile_attention(again) is compile_attention(one)
    renamed = compile_attention(one.renamed("other"))
    assert renamed.graph.name == "other"
    assert "Attention other," in renamed.source


def test_tracebacks_and_inspect_show_the_generated_lines():
    attention = compile_attention(presets.get("bert/1"))
    assert inspect.getsource(attention.function) in attention.source
    try:
        attention.function(*torch.zeros(3, 1, 1, 2, 2), "no mask", 0.0)
    except TypeError:
        shown = traceback.format_exc()
    assert "rows = None if key_mask is None else key_mask[:, None, :, None]" in shown


@pytest.mark.parametrize(
    "name",
    [
        '"""\nimport os\n"""',
        '"; import os; "',
        "a\nb",
        "a\\",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "a'b",
        "#",
        "",
        " leading",
        "é",
        "a" * 81,
        "a\x00",
        "a\u2028b",
        7,
        None,
    ],
)
def test_a_name_that_could_inject_code_is_refused(name):
    graph = AttentionGraph.from_expression("Q")
    with pytest.raises(GraphError, match="name"):
        graph.renamed(name)
    with pytest.raises(GraphError, match="name"):
        AttentionGraph.from_dict(graph.to_dict() | {"name": name})
    with pytest.raises(GraphError, match="name"):
        Backbone(presets.get("bert").layers, name=name)


@pytest.mark.parametrize("name", ["a+b/c.d-e_f 9", "0", "x" * 80, "a --- .. // ++ __", "n."])
def test_a_name_of_every_allowed_character_stays_inside_the_docstring(name):
    source = compile_attention(presets.get("bert/1").renamed(name)).source
    module = ast.parse(source)
    assert ast.get_docstring(module) == f"Attention {name}, generated by opnas."
    assert source.count(name) >= 1
    plain = ast.parse(compile_attention(presets.get("bert/1")).source)
    assert [ast.dump(node) for node in module.body[1:]] == [ast.dump(node) for node in plain.body[1:]]
    backbone = ast.parse(backbone_source(Backbone(presets.get("bert").layers, name=name)))
    assert ast.get_docstring(backbone).startswith(f"Backbone {name}, generated by opnas:")


def test_ids_of_nodes_never_reach_the_text():
    data = presets.get("bert/1").to_dict()
    renaming = {node["id"]: f"secret_{n}" for n, node in enumerate(data["nodes"])}
    for node in data["nodes"]:
        node["id"] = renaming[node["id"]]
        node["inputs"] = [renaming.get(name, name) for name in node["inputs"]]
    data["output"] = renaming[data["output"]]
    assert "secret" not in compile_attention(AttentionGraph.from_dict(data)).source
