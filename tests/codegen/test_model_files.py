"""The code of a model for transformers as text: clean, self-contained, and nothing of a stranger's gets into it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from codegen import backbone_source, kernel_files, model_files
from codegen.model_files import MAX_STEM, model_names
from evolution import SearchSpace, random_backbone
from graphir import EXTENDED_OPERATIONS, AttentionLayer, Backbone, ConvLayer, presets

ROOT = Path(__file__).parents[2]
ATTENTION = AttentionLayer(presets.get("autobert-zero/6"))


def backbones(seed):
    """Presets, random ones of all operations, both kinds of layer alone, and the longest name."""
    rng, space = Random(seed), SearchSpace(operations=EXTENDED_OPERATIONS, layers=4)
    return [
        presets.get("autobert-zero"),
        presets.get("bert-small"),
        Backbone((ConvLayer(3),), 8, 2, 8, name="9"),
        Backbone((ATTENTION,), 8, 2, 8, name="W" * 80),
        *(random_backbone(rng, space) for _ in range(4)),
    ]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_finds_nothing_to_improve(command, tmp_path, fresh_seed):
    for number, backbone in enumerate(backbones(fresh_seed)):
        folder = tmp_path / f"model_{number}"
        folder.mkdir()
        for name, text in model_files(backbone).items():
            if not name.startswith("kernels_"):  # laid out as kernels are, a line a group of arguments
                (folder / name).write_text(text)
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    found = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True)
    assert found.returncode == 0, (
        f"OPNAS_TEST_SEED={fresh_seed}\n{found.stdout[-3000:]}{found.stderr[-1000:]}"
    )


def test_files_import_torch_transformers_and_each_other_alone(fresh_seed):
    for backbone in backbones(fresh_seed):
        files = model_files(backbone)
        for text in files.values():
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import):
                    roots = {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level:
                    assert f"{node.module}.py" in files, "a relative import of a file that is not there"
                    roots = set()
                elif isinstance(node, ast.ImportFrom):
                    roots = {node.module.partition(".")[0]}
                else:
                    continue
                assert roots <= {"torch", "transformers", "triton", *sys.stdlib_module_names}


def test_kernels_are_those_of_the_torch_form_but_for_how_triton_is_imported():
    plain, files = kernel_files(presets.get("autobert-zero")), model_files(presets.get("autobert-zero"))
    assert len(plain) == 6
    for name, text in plain.items():
        unguarded = set(files[name].splitlines()) - set(text.splitlines())
        assert {line.strip() for line in unguarded} - set(text.splitlines()) == {
            "try:  # transformers refuses a model where an import outside of such a block is missing, used or not",
            "except ImportError as error:",
            'raise ImportError("the kernels in this file need Triton") from error',
        }


def test_a_block_has_the_same_text_in_both_forms():
    """What a block computes stands in its forward: there the forms differ by where sizes come from alone."""

    def forwards(text):
        tree = ast.parse(text)
        blocks = ("Attention", "LightConv", "FeedForward", "Layer")
        return {
            node.name: ast.unparse(next(x for x in node.body if getattr(x, "name", "") == "forward"))
            for node in tree.body
            if isinstance(node, ast.ClassDef) and node.name in blocks
        }

    backbone = presets.get("autobert-zero")
    torch_form = forwards(backbone_source(backbone, kernels="beside"))
    transformers_form = forwards(model_files(backbone)["modeling_autobert_zero.py"])
    assert len(torch_form) == 4
    for name, text in torch_form.items():
        same = text.replace("HEADS", "self.heads").replace("DROPOUT", "self.dropout")
        same = same.replace("tokens, HIDDEN_SIZE", "tokens, channels").replace(
            "tokens, _", "tokens, channels"
        )
        assert transformers_form[name] == same


@pytest.mark.parametrize(
    ("name", "modeling", "prefix"),
    [
        ("autobert-zero", "modeling_autobert_zero", "AutobertZero"),
        ("candidate-30", "modeling_candidate_30", "Candidate30"),
        ("4 layers", "modeling_4_layers", "Opnas4Layers"),
        ("my. Tokenizer", "modeling_my_tokenizer", "MyTokens"),
        ("bert", "modeling_bert", "Bert"),
        ("a" * 80, f"modeling_{'a' * MAX_STEM}", "A" + "a" * (MAX_STEM - 1)),
    ],
)
def test_files_and_classes_are_called_after_the_backbone(name, modeling, prefix):
    names = model_names(Backbone((ConvLayer(3),), 8, 2, 8, name=name))
    assert (names.modeling, names.prefix) == (modeling, prefix)
    assert names.auto_classes["AutoModelForMaskedLM"] == f"{prefix}ForMaskedLM"
    assert f"{prefix}Model".isidentifier()
    assert names.modeling.isidentifier()
    assert names.model_type.startswith("opnas-")


def test_sizes_that_no_model_has_are_refused():
    for arguments, message in (({"vocab_size": 0}, "vocab_size"), ({"dropout": 1.0}, "dropout")):
        with pytest.raises(ValueError, match=message):
            model_files(presets.get("bert"), **arguments)
