"""Exports for transformers: they load with the Auto classes, offline, where nothing of ours is in reach."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codegen import compile_backbone
from graphir import AttentionLayer, Backbone, ConvLayer, presets
from runtime.export import export_backbone
from runtime.model_folder import TrainedModel, load_model
from runtime.transformers_folder import save_for_transformers
from tests.runtime.fresh_process import run_without_rooms

ROOT = Path(__file__).parents[2]

# What a user does with the winner of a search. Prints what came of it.
USE = """
import json
import os
import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, Trainer, TrainingArguments, pipeline

folder, work = map(Path, sys.argv[1:])
ids, mask = (torch.from_numpy(np.load(work / f"{name}.npy")) for name in ("ids", "mask"))
found = {}

def load(folder):
    return AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)

def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).logits.numpy()

os.chdir(folder)  # where the code of the card is to be run
for code in (folder / "README.md").read_text().split("```python\\n")[1:]:
    names = {}
    exec(code.split("```")[0], names)
    found.setdefault("card", []).append(sorted(names))
os.chdir(work)

model = load(folder)
np.save(work / "logits.npy", logits(model))
tokenizer = AutoTokenizer.from_pretrained(folder)
ids_of_text = tokenizer("The graph [MASK] its inputs.")["input_ids"]
found["tokens"] = tokenizer.convert_ids_to_tokens(ids_of_text)
found["inputs"] = sorted(tokenizer("The graph", "its inputs"))
fill = pipeline("fill-mask", model=str(folder), trust_remote_code=True)
found["answers"] = [answer["sequence"] for answer in fill("The graph [MASK] its inputs.")]

batch = [{"input_ids": row, "attention_mask": real, "labels": row.masked_fill(real == 0, -100)}
         for row, real in zip(ids, mask)]
arguments = TrainingArguments(
    str(work / "trainer"), max_steps=2, learning_rate=1e-2, lr_scheduler_type="constant", use_cpu=True,
    per_device_train_batch_size=len(batch), save_strategy="no", report_to=[], disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=batch, eval_dataset=batch)
before = trainer.evaluate()["eval_loss"]
trainer.train()
found["losses"] = [before, trainer.evaluate()["eval_loss"]]

expected = logits(model)
for number in (1, 2):
    model.save_pretrained(work / f"saved_{number}")
    model = load(work / f"saved_{number}")
    np.save(work / f"difference_{number}.npy", logits(model) - expected)
found["code"] = sorted(p.name for p in (work / "saved_2").glob("*.py"))
print("FOUND", json.dumps(found))
"""

# Loads the model and prints the operators of ours that ran.
KERNELS = """
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForMaskedLM

class Watch(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if str(function).startswith("opnas."):
            print("RAN", function)
        return function(*arguments, **(options or {}))

folder, work = map(Path, sys.argv[1:])
model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
ids, mask = (torch.from_numpy(np.load(work / f"{name}.npy")) for name in ("ids", "mask"))
with Watch():
    logits = model(ids, mask).logits
    logits[mask != 0].square().mean().backward()
np.save(work / "logits.npy", logits.detach().numpy())
np.save(work / "gradient.npy", model.backbone.embeddings.token.weight.grad.numpy())
"""


def padded_batch(vocab_size, lengths, seed):
    ids = torch.randint(
        5, vocab_size, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed)
    )
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids, mask


def save_batch(folder, ids, mask):
    folder.mkdir()
    np.save(folder / "ids.npy", ids.numpy())
    np.save(folder / "mask.npy", mask.numpy())


@pytest.fixture(scope="module")
def used(tmp_path_factory, finished_run):
    """The winner of a search, exported and used in a fresh process: the folder of that, what it printed, the batch."""
    from runtime.export import export

    work = tmp_path_factory.mktemp("used") / "work"
    folder = export(finished_run, work.parent / "winner")
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    ids, mask = padded_batch(vocab_size, [20, 11, 1, 20], seed=0)
    save_batch(work, ids, mask)
    printed = run_without_rooms(
        USE, folder, work, cwd=work, HF_HUB_OFFLINE="1", HF_HOME=str(work / "home"), TRITON_INTERPRET="0"
    )
    (line,) = [line for line in printed.splitlines() if line.startswith("FOUND ")]
    return work, folder, json.loads(line.removeprefix("FOUND ")), (ids, mask)


def test_the_winner_of_a_search_gives_the_logits_that_it_gave_here(used, finished_run):
    work, _, _, (ids, mask) = used
    saved = load_model(finished_run / "best")
    model = compile_backbone(saved.backbone, saved.vocab_size, saved.max_positions, backend="torch")
    model.load_state_dict(saved.weights)
    expected = model.eval()(ids, mask.bool())
    difference = torch.from_numpy(np.load(work / "logits.npy")) - expected
    # The bound of the export contract; in fact the same operations run on the same weights.
    assert difference[mask.bool()].abs().max() <= 1e-5


def test_fill_mask_answers_with_the_hole_filled(used):
    _, _, found, _ = used
    assert len(found["answers"]) == 5
    assert all("[MASK]" not in answer for answer in found["answers"])


def test_the_code_in_the_card_of_a_trained_model_runs(used):
    _, _, found, _ = used
    logits, filled = found["card"]
    assert "logits" in logits
    assert "answer" in filled


def test_the_code_in_the_card_of_an_untrained_model_runs(transformers, tmp_path, monkeypatch):
    backbone = Backbone(presets.get("bert").layers[:1], 16, 2, 32, name="one layer")
    folder = export_backbone(backbone, tmp_path / "model", vocab_size=30)
    card = (folder / "README.md").read_text()
    assert "untrained" in card
    (code,) = (part.split("```")[0] for part in card.split("```python\n")[1:])
    monkeypatch.chdir(folder)
    names = {}
    exec(code, names)
    assert names["logits"].shape == (1, 8, 30)


def test_without_triton_the_model_loads_and_runs_in_its_pytorch_form(transformers, tmp_path, monkeypatch):
    from transformers.dynamic_module_utils import check_imports

    monkeypatch.setitem(sys.modules, "triton", None)  # importing it fails
    backbone = Backbone(presets.get("bert").layers[:1], 16, 2, 32, name="no triton")
    folder = export_backbone(backbone, tmp_path / "model", vocab_size=30)
    for path in folder.glob("*.py"):
        check_imports(path)  # what is done with every file of a model from the hub
    model = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert model(torch.ones(1, 3, dtype=torch.int64)).last_hidden_state.shape == (1, 3, 16)


def test_writing_needs_no_transformers(tmp_path):
    code = """
import sys
sys.modules["transformers"] = None  # importing it fails
from graphir import Backbone, ConvLayer
from runtime.export import export
print(export(Backbone((ConvLayer(3),), 8, 2, 8), sys.argv[1], vocab_size=20))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "config.json").is_file()


def test_the_tokenizer_gives_what_the_model_takes(used):
    _, _, found, _ = used
    assert found["inputs"] == ["attention_mask", "input_ids"]
    # The space before the hole belongs to the token that is hidden there, as in training.
    hole = found["tokens"].index("[MASK]")
    assert found["tokens"][hole - 1] != "Ġ"


def test_two_steps_of_the_trainer_lower_the_loss_of_their_batch(used):
    _, _, found, _ = used
    before, after = found["losses"]
    assert after < before


def test_saved_again_and_again_it_gives_equal_logits_and_brings_its_code_along(used):
    work, folder, found, _ = used
    for number in (1, 2):
        assert not np.load(work / f"difference_{number}.npy").any()
    assert found["code"] == sorted(path.name for path in folder.glob("*.py"))
    for name in found["code"]:
        assert (work / "saved_2" / name).read_bytes() == (folder / name).read_bytes()
    assert (
        json.loads((work / "saved_2" / "config.json").read_text())["auto_map"]
        == json.loads((folder / "config.json").read_text())["auto_map"]
    )


def test_kernels_run_from_the_cache_of_transformers(tmp_path, fresh_seed):
    layers = (
        ConvLayer(3),
        AttentionLayer(presets.get("autobert-zero/6")),
        AttentionLayer(presets.get("autobert-zero/10")),
    )
    backbone = Backbone(layers, 16, 2, 24, name="kernels")
    torch.manual_seed(fresh_seed)
    model = compile_backbone(backbone, 30, 16, backend="torch").eval()
    folder = tmp_path / "model"
    folder.mkdir()
    save_for_transformers(TrainedModel(backbone, model.state_dict(), 30, 16, {}, "Untrained."), folder)
    ids, mask = padded_batch(30, [11, 7, 1], fresh_seed)
    save_batch(tmp_path / "work", ids, mask)
    printed = run_without_rooms(
        KERNELS,
        folder,
        tmp_path / "work",
        cwd=tmp_path,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "home"),
        TRITON_INTERPRET="1",
    )
    ran = [line for line in printed.splitlines() if line.startswith("RAN")]
    # Two layers of attention, one convolution, two norms and one GELU a layer, and the GELU of the head.
    for name, count in {"attention": 2, "light_conv": 1, "layer_norm": 6, "bias_gelu": 4}.items():
        both = [line for line in ran if line.startswith(f"RAN opnas.{name}")]
        assert (name, len(both), len([line for line in both if "backward" in line])) == (
            name,
            2 * count,
            count,
        )

    logits = model(ids, mask.bool())
    logits[mask.bool()].square().mean().backward()
    # The same operations in float32, in another order.
    found = torch.from_numpy(np.load(tmp_path / "work" / "logits.npy"))
    assert (found - logits)[mask.bool()].abs().max() <= 1e-5
    gradient = torch.from_numpy(np.load(tmp_path / "work" / "gradient.npy"))
    # Without the row of [PAD], id 0, that the embedding does not train; no id of the batch is 0.
    assert (gradient - model.embeddings.token.weight.grad).abs().max() <= 1e-5


def test_the_same_backbone_gives_the_same_bytes_twice(tmp_path):
    backbone = replace(presets.get("autobert-zero"), hidden_size=16, heads=2, ffn_size=16)
    one = export_backbone(backbone, tmp_path / "one", vocab_size=30, seed=3)
    other = export_backbone(backbone, tmp_path / "other", vocab_size=30, seed=3)
    third = export_backbone(backbone, tmp_path / "third", vocab_size=30, seed=4)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    differing = [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]
    assert not differing
    differing = [name for name in names if (one / name).read_bytes() != (third / name).read_bytes()]
    assert differing == ["README.md", "model.safetensors"]


def test_a_backbone_is_exported_in_another_size(opnas, tmp_path):
    Backbone((ConvLayer(3),), 8, 2, 8, name="one").save(tmp_path / "one.json")
    code, _, _ = opnas("export", tmp_path / "one.json", "--out", tmp_path / "small", "--size", "small")
    assert code == 0
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert (config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]) == (
        256,
        4,
        1024,
    )
    assert config["architectures"] == ["OneSmallForMaskedLM"]


def test_a_winner_keeps_the_size_that_it_was_trained_in(opnas, tmp_path, finished_run):
    code, _, error = opnas("export", finished_run, "--out", tmp_path / "x", "--size", "small")
    assert code != 0
    assert "trained in its own size" in error
    assert not (tmp_path / "x").exists()


def test_the_parameters_of_the_card_add_up(tmp_path):
    folder = export_backbone(presets.get("bert-small"), tmp_path / "model", vocab_size=100)
    card = (folder / "README.md").read_text()
    rows = card.split("| parameters | |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    parts = {row.split("|")[1].strip(): int(row.split("|")[2].replace(",", "")) for row in rows}
    e, f = 256, 1024
    assert parts == {
        "feed-forward blocks": 12 * (2 * e * f + e + f),
        "attention projections": 12 * 4 * (e * e + e),
        "embeddings of tokens and positions, their norm": (100 + 512) * e + 2 * e,
        "head, without the token embedding": e * e + e + 2 * e + 100,
        "norms of the layers": 12 * 4 * e,
    }
    assert f"| parameters | {sum(parts.values()):,} |" in card
