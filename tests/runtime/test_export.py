"""An exported folder needs nothing of ours."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from codegen import compile_backbone
from graphir import AttentionLayer, Backbone, ConvLayer, presets
from runtime.export import export_backbone
from runtime.model_folder import TrainedModel, load_model, save_model
from runtime.run import RunError
from runtime.tokenizer import MIN_VOCAB_SIZE, train_tokenizer
from tests.runtime.fresh_process import run_without_rooms

# Imports the exported module, and writes its logits.
LOGITS = """
import numpy as np
import torch
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
(module,) = [path.stem for path in folder.glob("modeling_*.py")]
model = __import__(module).load()
kernels = [loaded for name, loaded in sys.modules.items() if name.startswith(f"{module}_kernels_")]
ran = []
for one in kernels:
    for name in ("attention", "layer_norm", "bias_gelu", "light_conv"):
        if right := getattr(one, name, None):
            watched = lambda *x, one=one, right=right: (ran.append(one.__name__), right(*x))[1]
            setattr(one, name, watched)
ids = torch.from_numpy(np.load(folder / "ids.npy"))
mask = torch.from_numpy(np.load(folder / "mask.npy"))
with torch.no_grad():
    np.save(folder / "logits.npy", model(ids, mask).numpy())
print(*sorted(set(ran)))
"""


def logits_of_a_fresh_process(folder, ids, mask, interpret="0"):
    """The logits, and the modules of kernels that ran."""
    np.save(folder / "ids.npy", ids.numpy())
    np.save(folder / "mask.npy", mask.numpy())
    printed = run_without_rooms(LOGITS, folder, cwd=folder, TRITON_INTERPRET=interpret)
    return torch.from_numpy(np.load(folder / "logits.npy")), printed.split()


def test_an_exported_search_gives_the_same_logits_without_our_rooms(opnas, tmp_path, finished_run):
    out = tmp_path / "model"
    code, printed, _ = opnas("export", finished_run, "--out", out, "--form", "torch")
    assert code == 0
    for name in ("model.safetensors", "config.json", "backbone.json", "backbone.svg", "tokenizer.json"):
        assert (out / name).stat().st_size > 0
        assert name in printed

    saved = load_model(finished_run / "best")
    model = compile_backbone(saved.backbone, saved.vocab_size, saved.max_positions)
    model.load_state_dict(load_file(finished_run / "best" / "model.safetensors"))
    model.eval()
    ids = torch.randint(saved.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[1, 11:] = False
    mask[2, 1:] = False
    fresh, _ = logits_of_a_fresh_process(out, ids, mask)
    # The bound of the export contract; in fact the same code runs on the same weights.
    assert (fresh - model(ids, mask))[mask].abs().max() <= 1e-5


def test_an_exported_folder_describes_itself(opnas, tmp_path, finished_run):
    out = tmp_path / "model"
    opnas("export", finished_run, "--out", out, "--form", "torch")
    config = json.loads((out / "config.json").read_text())
    backbone = Backbone.load(out / "backbone.json")
    assert config["format"] == "opnas.model/1"
    assert (out / config["module"]).is_file()
    assert config["hidden_size"] == backbone.hidden_size
    assert config["vocab_size"] == Tokenizer.from_file(str(out / "tokenizer.json")).get_vocab_size()
    card = (out / "README.md").read_text()
    assert backbone.equation() in card
    assert "held-out accuracy" in card


def test_the_code_in_the_model_card_runs(opnas, tmp_path, finished_run):
    out = tmp_path / "model"
    opnas("export", finished_run, "--out", out, "--form", "torch")
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(tuple(logits.shape))"], capture_output=True, text=True, cwd=out
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, ")


def test_an_untrained_backbone_is_exported_and_says_so(opnas, tmp_path):
    backbone = Backbone(presets.get("autobert-zero").layers[:4], 32, 2, 64, name="four layers")
    backbone.save(tmp_path / "backbone.json")
    code, _, _ = opnas("export", tmp_path / "backbone.json", "--out", tmp_path / "model", "--form", "torch")
    assert code == 0
    assert "untrained" in (tmp_path / "model" / "README.md").read_text()
    ids, mask = torch.arange(12).reshape(2, 6), torch.ones(2, 6, dtype=torch.bool)
    assert logits_of_a_fresh_process(tmp_path / "model", ids, mask)[0].isfinite().all()


def test_a_trained_model_runs_its_own_kernels_where_nothing_of_ours_is_in_reach(tmp_path, fresh_seed):
    layers = (
        ConvLayer(3),
        AttentionLayer(presets.get("autobert-zero/6")),
        ConvLayer(5),
        AttentionLayer(presets.get("autobert-zero/10")),
    )
    backbone = Backbone(layers, 16, 2, 24, name="two and two")
    model = compile_backbone(backbone, 30, 16, dropout=0.0, backend="triton")
    ids = torch.randint(30, (3, 11), generator=torch.Generator().manual_seed(fresh_seed))
    mask = torch.ones(3, 11, dtype=torch.bool)
    mask[1, 7:], mask[2, 1:] = False, False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(ids, mask)[mask], ids[mask]).backward()
        optimizer.step()
    trained = TrainedModel(backbone, model.state_dict(), 30, 16, {}, "Ten steps on kernels.")
    save_model(trained, tmp_path)
    assert (tmp_path / "kernels_2.py").is_file()

    with torch.no_grad():
        expected = model.eval()(ids, mask)
    by_kernels, ran = logits_of_a_fresh_process(tmp_path, ids, mask, interpret="1")
    assert ran == [f"modeling_two_and_two_kernels_{name}" for name in ("1", "2", "blocks")]
    by_torch, ran = logits_of_a_fresh_process(tmp_path, ids, mask)
    assert ran == []
    # The same operations in float32, in another order in the PyTorch form.
    assert (by_kernels - expected)[mask].abs().max() <= 1e-6
    assert (by_torch - expected)[mask].abs().max() <= 1e-5


def test_the_card_runs_for_sequences_shorter_than_its_example(tmp_path):
    tokenizer = train_tokenizer(["some words of a text, and others"], MIN_VOCAB_SIZE)
    backbone = Backbone(presets.get("bert").layers[:1], 16, 2, 32)
    vocab_size = tokenizer.get_vocab_size()
    weights = compile_backbone(backbone, vocab_size, 8).state_dict()
    save_model(TrainedModel(backbone, weights, vocab_size, 8, {}, "Untrained."), tmp_path, tokenizer)
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_drawing_that_fails_loses_no_model(tmp_path, monkeypatch):
    def broken(self, path):
        path.write_bytes(b"half of it")
        raise RuntimeError("no fonts here")

    monkeypatch.setattr(Backbone, "draw", broken)
    backbone = Backbone(presets.get("bert").layers[:1], 16, 2, 32)
    with pytest.warns(UserWarning, match="could not be drawn: no fonts here"):
        export_backbone(backbone, tmp_path / "model", vocab_size=50, form="torch")
    assert load_model(tmp_path / "model").backbone == backbone
    assert not list((tmp_path / "model").glob("backbone.*g"))
    assert "backbone.svg" not in (tmp_path / "model" / "README.md").read_text()


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr("runtime.transformers_folder.save_weights", full_disk)
    backbone = Backbone(presets.get("bert").layers[:1], 16, 2, 32)
    with pytest.raises(OSError, match="No space"):
        export_backbone(backbone, tmp_path / "model", vocab_size=50)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(RunError, match="no model"):
        load_model(tmp_path)
