"""Exported folders as what a user names: looked at, measured, and exported again with the same weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from graphir import Backbone, ConvLayer, presets
from runtime.export import export, export_backbone
from runtime.exported_folder import load_exported_model
from runtime.run import RunError
from runtime.targets import TargetError, folder_kind, resolve

BACKBONE = Backbone((ConvLayer(3), *presets.get("bert").layers[:1]), 16, 2, 24, name="again")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model in both forms."""
    place = tmp_path_factory.mktemp("exported")
    return {
        form: export_backbone(BACKBONE, place / form, vocab_size=20, seed=3, form=form)
        for form in ("transformers", "torch")
    }


@pytest.mark.parametrize("form", ["transformers", "torch"])
def test_a_folder_stands_for_its_backbone(opnas, folders, form):
    assert resolve(str(folders[form])) == BACKBONE
    code, out, _ = opnas("inspect", folders[form])
    assert code == 0
    assert "kernel size 3" in out
    assert opnas("diff", folders[form], folders["torch"])[0] == 0


def test_a_search_is_told_from_a_model(finished_run, folders):
    assert folder_kind(finished_run) == "search"
    assert folder_kind(finished_run / "best") == "model"
    assert folder_kind(folders["transformers"]) == "model"


def test_a_folder_that_is_neither_is_refused_with_what_each_has(opnas, tmp_path):
    for config in (None, {"model_type": "bert", "architectures": ["BertModel"]}):
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        for arguments in (
            ("inspect", tmp_path),
            ("bench", tmp_path),
            ("export", tmp_path, "--out", tmp_path / "x"),
        ):
            code, _, err = opnas(*arguments)
            assert code == 2
            assert "study.db" in err
            assert "backbone.json" in err
            assert len(err.splitlines()) == 1
    with pytest.raises(TargetError):
        folder_kind(tmp_path)


@pytest.mark.parametrize("given", ["transformers", "torch"])
@pytest.mark.parametrize("wanted", ["transformers", "torch"])
def test_exported_again_a_model_keeps_its_weights(folders, tmp_path, given, wanted):
    again = export(folders[given], tmp_path / "again", form=wanted)
    expected, found = (load_file(folder / "model.safetensors") for folder in (folders[wanted], again))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name])
    one, other = (json.loads((folder / "config.json").read_text()) for folder in (folders[wanted], again))
    for config in (one, other):
        config.pop("origin", None)
    assert one == other
    assert "freshly" not in (again / "README.md").read_text()


def test_what_transformers_saved_is_read_back(transformers, folders, tmp_path):
    model = transformers.AutoModelForMaskedLM.from_pretrained(folders["transformers"], trust_remote_code=True)
    with torch.no_grad():
        model.head.dense.bias += 1.0
    model.save_pretrained(tmp_path / "saved")
    shutil.copy(folders["transformers"] / "backbone.json", tmp_path / "saved")
    found = load_exported_model(tmp_path / "saved")
    assert torch.equal(found.weights["head.dense.bias"], model.head.dense.bias)
    assert found.weights.keys() == load_exported_model(folders["torch"]).weights.keys()


def test_weights_that_do_not_fit_are_refused(folders, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(folders["transformers"], folder)
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "head.dense.bias"}, folder / "model.safetensors")
    with pytest.raises(RunError, match=r"it lacks head\.dense\.bias"):
        load_exported_model(folder)
    save_file(weights | {"head.dense.bias": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(RunError, match=r"is \(3,\), and should be \(16,\)"):
        load_exported_model(folder)
    save_file(weights | {"extra": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(RunError, match="it has extra"):
        export(folder, tmp_path / "out")
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(RunError, match=r"model\.safetensors"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_keeps_the_size_that_it_was_trained_in(opnas, folders, tmp_path):
    code, _, err = opnas("export", folders["torch"], "--out", tmp_path / "x", "--size", "small")
    assert code == 2
    assert "trained in its own size" in err
