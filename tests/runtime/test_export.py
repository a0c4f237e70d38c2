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
from graphir import Backbone, presets
from runtime.export import export_backbone, load_model
from runtime.run import RunError

# Imports the exported module with none of our rooms in reach, and writes its logits.
FRESH_PROCESS = """
import sys
from pathlib import Path
import numpy as np
import torch
folder = Path(sys.argv[1])
sys.path = [str(folder)] + [p for p in sys.path if not (Path(p or ".") / "graphir").exists()]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
for room in ("graphir", "codegen", "evolution", "runtime", "templates"):
    try:
        __import__(room)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{room} is in reach: this test would prove nothing")
(module,) = [path.stem for path in folder.glob("modeling_*.py")]
model = __import__(module).load()
ids = torch.from_numpy(np.load(folder / "ids.npy"))
mask = torch.from_numpy(np.load(folder / "mask.npy"))
with torch.no_grad():
    np.save(folder / "logits.npy", model(ids, mask).numpy())
"""


def logits_of_a_fresh_process(folder, ids, mask):
    np.save(folder / "ids.npy", ids.numpy())
    np.save(folder / "mask.npy", mask.numpy())
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(folder)], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.from_numpy(np.load(folder / "logits.npy"))


def test_an_exported_search_gives_the_same_logits_without_our_rooms(opnas, tmp_path, finished_run):
    out = tmp_path / "model"
    code, printed, _ = opnas("export", finished_run, "--out", out)
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
    fresh = logits_of_a_fresh_process(out, ids, mask)
    # The bound of the export contract; in fact the same code runs on the same weights.
    assert (fresh - model(ids, mask))[mask].abs().max() <= 1e-5


def test_an_exported_folder_describes_itself(opnas, tmp_path, finished_run):
    out = tmp_path / "model"
    opnas("export", finished_run, "--out", out)
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
    opnas("export", finished_run, "--out", out)
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(tuple(logits.shape))"], capture_output=True, text=True, cwd=out
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, ")


def test_an_untrained_backbone_is_exported_and_says_so(opnas, tmp_path):
    backbone = Backbone(presets.get("autobert-zero").layers[:4], 32, 2, 64, name="four layers")
    backbone.save(tmp_path / "backbone.json")
    code, _, _ = opnas("export", tmp_path / "backbone.json", "--out", tmp_path / "model")
    assert code == 0
    assert "untrained" in (tmp_path / "model" / "README.md").read_text()
    ids, mask = torch.arange(12).reshape(2, 6), torch.ones(2, 6, dtype=torch.bool)
    assert logits_of_a_fresh_process(tmp_path / "model", ids, mask).isfinite().all()


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr("runtime.export.save_file", full_disk)
    backbone = Backbone(presets.get("bert").layers[:1], 16, 2, 32)
    with pytest.raises(OSError, match="No space"):
        export_backbone(backbone, tmp_path / "model", vocab_size=50)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(RunError, match="no model"):
        load_model(tmp_path)
