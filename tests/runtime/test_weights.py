"""Weights in files: exact, with the usual mode, whole or not there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runtime.weights import save_weights


def random_weights(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "matrix": torch.randn(5, 7, generator=generator).t(),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "learnt": torch.randn(4, generator=generator).requires_grad_(True),
    }


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_read_back_to_the_bit(tmp_path, seed):
    weights = random_weights(seed)
    save_weights(weights, tmp_path / "w.safetensors", {"format": "pt"})
    read = load_file(tmp_path / "w.safetensors")
    assert set(read) == set(weights)
    for name, weight in weights.items():
        assert torch.equal(read[name], weight), f"seed {seed}"
        assert read[name].dtype == weight.dtype


def test_the_mode_is_the_usual_one(tmp_path):
    save_weights(random_weights(0), tmp_path / "w.safetensors")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_on_a_full_disk_the_system_s_error_is_raised_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_text("old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_weights(random_weights(0), path)
    assert caught.value.filename == str(path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(path.name, "old")]
