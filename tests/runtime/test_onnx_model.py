"""Models in ONNX: onnxruntime gives what the model gives, at any batch and length, with padding."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from codegen import compile_backbone
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, InputError, presets
from runtime import onnx_model
from runtime.export import export, export_backbone
from runtime.onnx_model import ONNX_FILE, OnnxError

ROOT = Path(__file__).parents[2]
onnxruntime = pytest.importorskip("onnxruntime")

DISTANCES = AttentionGraph.from_expression("softmax(-euclidean_distance(Q, K)) @ V", name="distances")
LAYERS = (
    ConvLayer(5),
    AttentionLayer(presets.get("autobert-zero/10")),
    AttentionLayer(presets.get("linear-attention")),
    AttentionLayer(presets.get("cosine-attention")),
    AttentionLayer(DISTANCES),
)
BACKBONE = Backbone(LAYERS, 20, 2, 24, name="in onnx")
"""Heads of ten, so that distances are computed in a whole group of columns and the rest of one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_backbone(
        BACKBONE, tmp_path_factory.mktemp("onnx") / "model", vocab_size=30, seed=1, onnx=True
    )


def test_onnxruntime_gives_the_logits_of_the_model(folder, fresh_seed):
    torch.manual_seed(1)
    model = compile_backbone(BACKBONE, 30, backend="torch").eval()
    session = onnxruntime.InferenceSession(folder / ONNX_FILE)
    assert [(one.name, one.type) for one in session.get_inputs()] == [
        ("input_ids", "tensor(int64)"),
        ("attention_mask", "tensor(int64)"),
    ]
    generator = torch.Generator().manual_seed(fresh_seed)
    for batch, tokens in [(4, 33), (1, 1), (2, 512)]:
        ids = torch.randint(30, (batch, tokens), generator=generator)
        mask = (torch.rand(batch, tokens, generator=generator) < 0.7).long()
        mask[:, 0] = 1
        given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        (logits,) = session.run(["logits"], given)
        with torch.no_grad():
            expected = model(ids, mask != 0)
        # The bound of the export contract; the same operations run, in another order.
        assert (torch.from_numpy(logits) - expected)[mask != 0].abs().max() <= 1e-5


def test_the_card_says_how_it_is_used_and_its_code_runs(folder, monkeypatch):
    card = (folder / "README.md").read_text()
    assert "none differs by more than 1e-0" in card
    code = card.split("## In ONNX")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    names = {}
    exec(code, names)
    assert names["logits"].shape == (1, 8, 30)


def test_the_same_model_gives_the_same_file_that_names_no_place_of_this_machine(tmp_path):
    backbone = Backbone((ConvLayer(3),), 8, 2, 8, name="twice")
    written = [
        (export_backbone(backbone, tmp_path / name, vocab_size=20, onnx=True) / ONNX_FILE).read_bytes()
        for name in ("one", "other")
    ]
    assert written[0] == written[1]
    assert b"site-packages" not in written[0]


def test_a_file_that_differs_from_its_model_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    program = onnx_model._program

    def wrong(model, module):
        written = program(model, module)
        written.state_dict["model.head.bias"] = torch.nn.Parameter(
            written.state_dict["model.head.bias"] + 1e-3
        )
        return written

    monkeypatch.setattr(onnx_model, "_program", wrong)
    backbone = Backbone((ConvLayer(3),), 8, 2, 8, name="one")
    with pytest.raises(
        OnnxError, match=r"model\.onnx differs from the model by 0\.001 at batch 1 and 2 tokens"
    ):
        export_backbone(backbone, tmp_path / "model", vocab_size=20, onnx=True)
    assert not list(tmp_path.iterdir())


def test_without_its_packages_the_option_says_what_to_install(opnas, tmp_path, monkeypatch):
    find = onnx_model.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_model.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    code, _, err = opnas("export", "bert-small", "--out", tmp_path / "model", "--onnx")
    assert code == 2
    assert "pip install 'opnas[onnx]'" in err
    assert "onnxscript" in err
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="onnxscript"):
        export(Backbone((ConvLayer(3),), 8, 2, 8), tmp_path / "model", onnx=True)


def test_exporting_without_the_option_loads_no_onnx(tmp_path):
    code = """
import sys
from graphir import Backbone, ConvLayer
from runtime.export import export
export(Backbone((ConvLayer(3),), 8, 2, 8), sys.argv[1], vocab_size=20)
print(*({"onnx", "onnxruntime", "onnxscript"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
