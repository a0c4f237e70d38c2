"""The kernels of the blocks in models: where they run, where they do not, and that the PyTorch form stays as it is."""

from __future__ import annotations

import importlib.util
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from codegen import backbone_source, compile_backbone, kernel_files
from graphir import AttentionLayer, Backbone, ConvLayer, presets

VOCABULARY, POSITIONS = 20, 12
CONVOLUTIONS = Backbone((ConvLayer(3), ConvLayer(67)), hidden_size=16, heads=2, ffn_size=24)


class Operators(TorchDispatchMode):
    """Counts the operators of the kernels that run."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "opnas":
            name, _, _ = function.name().removeprefix("opnas::").rpartition("_")
            self.counts[name if "backward" not in function.name() else f"{name} backward"] += 1
        return function(*args, **(kwargs or {}))


def twins(*backends, backbone=CONVOLUTIONS):
    torch.manual_seed(0)
    models = [compile_backbone(backbone, VOCABULARY, POSITIONS, 0.0, backend=b) for b in backends]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    return models


def batch(seed):
    ids = torch.randint(VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(seed))
    return ids, torch.arange(9) < torch.tensor([[9], [5], [1]])


def test_a_model_without_attention_runs_its_blocks_in_kernels(fresh_seed):
    plain, fused = twins("torch", "triton")
    ids, mask = batch(fresh_seed)
    with Operators() as seen:
        logits = fused(ids, mask)
        logits[mask].square().mean().backward()
    # A convolution of 67 tokens is wider than the kernels are; the GELUs are those of two layers and of the head.
    counts = Counter({"light_conv": 1, "layer_norm": 4, "bias_gelu": 3})
    assert {n: c for n, c in seen.counts.items() if "backward" not in n} == counts
    assert sum(seen.counts.values()) == 2 * sum(counts.values())
    expected = plain(ids, mask)
    expected[mask].square().mean().backward()
    assert (logits - expected)[mask].abs().max() <= 1e-5  # the bound of attention in models
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() <= 1e-5


def test_dropout_of_training_is_drawn_in_the_kernels(fresh_seed):
    torch.manual_seed(fresh_seed)
    model = compile_backbone(CONVOLUTIONS, VOCABULARY, POSITIONS, 0.3, backend="triton")
    ids, mask = batch(fresh_seed)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(model(ids, mask))
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0][mask], runs[2][mask])
    model.eval()
    assert torch.equal(model(ids, mask), model(ids, mask))


def test_layers_that_are_replaced_or_heard_are_called_themselves(fresh_seed):
    plain, fused = twins("torch", "triton")
    ids, mask = batch(fresh_seed)
    heard = []

    class Louder(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    for model in (plain, fused):
        inner = model.layers[0].ffn.inner
        louder = Louder(inner.in_features, inner.out_features)
        louder.load_state_dict(inner.state_dict())
        model.layers[0].ffn.inner = louder
        model.layers[1].ffn_norm.register_forward_hook(lambda *_: heard.append(1))
    assert (plain(ids, mask) - fused(ids, mask))[mask].abs().max() <= 1e-5
    assert heard == [1, 1]


@pytest.mark.parametrize(
    "backbone", [CONVOLUTIONS, Backbone((AttentionLayer(presets.get("bert/1")),), 16, 2, 24)]
)
def test_without_a_gpu_an_exported_file_gives_the_very_numbers_of_the_pytorch_form(
    backbone, tmp_path, monkeypatch
):
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    files = {"alone.py": backbone_source(backbone, VOCABULARY, POSITIONS, kernels="beside")}
    for name, text in (files | kernel_files(backbone)).items():
        (tmp_path / name).write_text(text)
    spec = importlib.util.spec_from_file_location("alone", tmp_path / "alone.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.block_kernels is None
    (plain,) = twins("torch", backbone=backbone)
    model = module.Model().eval()
    model.load_state_dict(plain.state_dict())
    ids, mask = batch(0)
    assert torch.equal(model(ids, mask), plain.eval()(ids, mask))


def test_the_pytorch_form_knows_nothing_of_kernels():
    source = backbone_source(CONVOLUTIONS)
    assert "kernels" not in source
    assert "return self.ffn_norm(hidden + self.dropout(self.ffn(hidden)))" in source
    assert "return self.outer(F.gelu(self.inner(hidden)))" in source
