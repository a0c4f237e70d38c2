"""Kernels in models: the same results as the PyTorch form, chosen by where tensors are, importable and portable."""

from __future__ import annotations

import copy
import importlib
import pickle
import re
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from codegen import backbone_source, compile_backbone, kernel_files
from graphir import AttentionLayer, Backbone, ConvLayer, presets

VOCABULARY, POSITIONS = 20, 12
BACKBONE = Backbone(
    (
        ConvLayer(3),
        AttentionLayer(presets.get("autobert-zero/6")),
        ConvLayer(5),
        AttentionLayer(presets.get("autobert-zero/10")),
    ),
    hidden_size=16,
    heads=2,
    ffn_size=24,
    name="two and two",
)


def twins(*backends, dropout=0.0, backbone=BACKBONE):
    """Models of several backends with the same weights."""
    torch.manual_seed(0)
    models = [compile_backbone(backbone, VOCABULARY, POSITIONS, dropout, backend=b) for b in backends]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    return models


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (3, 9), generator=generator)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 5:], mask[2, 1:] = False, False
    return ids, mask


def test_outputs_and_gradients_are_those_of_the_torch_form(fresh_seed):
    plain, kernels = twins("torch", "triton")
    ids, mask = batch(fresh_seed)
    results = []
    for model in (plain, kernels):
        logits = model(ids, mask)
        logits[mask].square().mean().backward()
        results.append([logits[mask].detach(), *(p.grad for p in model.parameters())])
    for expected, found in zip(*results, strict=True):
        # The bound of the issue; both are float32 sums of a few dozen terms.
        assert (found - expected).abs().max() <= 1e-5


def test_a_model_trains_on_kernels_as_on_the_torch_form(fresh_seed):
    losses = []
    for model in twins("torch", "triton"):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        history = []
        ids, mask = batch(fresh_seed)
        for _ in range(10):
            loss = F.cross_entropy(model(ids, mask)[mask], ids[mask])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses.append(history)
    assert losses[1][-1] < losses[1][0]
    # Ten steps multiply a difference of rounding size at most a hundredfold at this rate.
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_auto_takes_kernels_only_for_tensors_that_they_take(monkeypatch, fresh_seed):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    plain, auto = twins("torch", "auto")
    assert auto.kernel_sources == tuple(kernel_files(BACKBONE).values())
    calls = []
    for name in re.findall(r"codegen\.generated\.\w+", auto.source):
        module = importlib.import_module(name)
        if hasattr(module, "attention"):
            monkeypatch.setattr(module, "attention", _counted(module.attention, calls))
    ids, mask = batch(fresh_seed)
    expected = plain(ids, mask)
    assert (auto(ids, mask) - expected)[mask].abs().max() <= 1e-5  # in the interpreter all tensors are taken
    assert len(calls) == 2
    auto.double()
    auto(ids, mask)
    assert len(calls) == 2  # float64 is not


def _counted(function, calls):
    def attention(*arguments):
        calls.append(1)
        return function(*arguments)

    return attention


def test_auto_without_a_gpu_holds_no_kernels(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = compile_backbone(BACKBONE, VOCABULARY, POSITIONS)
    assert model.kernel_sources == ()
    assert "triton" not in model.source.lower()


def test_layers_with_one_graph_share_one_file_of_kernels():
    layers = [AttentionLayer(presets.get(f"autobert-zero/{n}")) for n in (6, 10)]
    renamed = AttentionLayer(layers[0].graph.renamed("the same"))
    files = kernel_files(Backbone((layers[0], ConvLayer(3), renamed, layers[1]), 16, 2, 16))
    assert list(files) == ["kernels_1.py", "kernels_2.py", "kernels_blocks.py"]
    source = backbone_source(Backbone((layers[0], renamed), 16, 2, 16), kernels="beside")
    assert source.count("load_kernels(") == 3  # its definition, one use for both, and the blocks beside them


def test_a_file_without_its_kernels_says_so_and_still_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = tmp_path / "alone.py"
    path.write_text(backbone_source(BACKBONE, VOCABULARY, POSITIONS, kernels="beside"))
    spec = importlib.util.spec_from_file_location("alone", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.warns(UserWarning, match=r"kernels_\w+.py is missing, so its part runs in the slower"):
        spec.loader.exec_module(module)
    assert module.Model()(batch(0)[0]).shape == (3, 9, VOCABULARY)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_copies_and_pickles_give_the_same_logits(backend, tmp_path, fresh_seed):
    (model,) = twins(backend)
    model.eval()
    ids, mask = batch(fresh_seed)
    expected = model(ids, mask)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not copied.training
        assert torch.equal(copied(ids, mask), expected)
    torch.save({"model": model, "ids": ids, "mask": mask}, tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        "d = torch.load(sys.argv[1], weights_only=False)\n"
        "torch.save(d['model'](d['ids'], d['mask']), sys.argv[1] + '.out')\n"
    )
    path = str(tmp_path / "model.pt")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(path + ".out"), expected)


def test_a_part_of_a_model_from_another_process_is_refused_with_what_to_send_instead(tmp_path):
    code = (
        "import pickle, sys\n"
        "from codegen import compile_backbone\n"
        "from graphir import Backbone, ConvLayer\n"
        "model = compile_backbone(Backbone((ConvLayer(7),), 8, 2, 8), 11, 13)\n"
        "pickle.dump(model.layers[0], open(sys.argv[1], 'wb'))\n"
    )
    path = tmp_path / "layer.pkl"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with pytest.raises(ModuleNotFoundError, match="generated in another process: send"):
        pickle.loads(path.read_bytes())


@pytest.mark.long
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_torch_compile_and_export_take_the_model_whole(backend):
    (model,) = twins(backend)
    model.eval()
    ids, mask = batch(0)
    expected = model(ids, mask)

    def called_by_a_user(ids, mask):
        return model(ids, mask)

    torch.compiler.reset()
    compiled = torch.compile(called_by_a_user, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids, mask), expected)
    for strict in (False, True):
        exported = torch.export.export(model, (ids, mask), strict=strict)
        torch.testing.assert_close(exported.module()(ids, mask), expected)


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_no_sequences_and_no_tokens_give_empty_logits_and_gradients(backend, shape):
    (model,) = twins(backend)
    for mask in (None, torch.ones(shape, dtype=torch.bool)):
        logits = model(torch.zeros(shape, dtype=torch.long), mask)
        assert logits.shape == (*shape, VOCABULARY)
        logits.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
