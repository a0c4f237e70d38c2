"""The generated model: its parameters, its contract, and that its file needs torch alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from codegen import backbone_source, compile_backbone
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, presets

VOCABULARY, POSITIONS = 50, 24
ZERO = replace(presets.get("autobert-zero"), hidden_size=64, heads=4, ffn_size=96)
SMALL = Backbone(
    (ConvLayer(5), AttentionLayer(presets.get("autobert-zero/2")), AttentionLayer(presets.get("shared-qk"))),
    hidden_size=12,
    heads=3,
    ffn_size=20,
    name="small",
)


@pytest.fixture(scope="module", params=["autobert-zero", "small"])
def model(request):
    torch.manual_seed(0)
    backbone = {"autobert-zero": ZERO, "small": SMALL}[request.param]
    return compile_backbone(backbone, VOCABULARY, POSITIONS, dropout=0.1).eval()


def tokens(batch, length, seed=0):
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def test_parameters_have_the_names_and_shapes_of_the_template():
    e, f, heads, kernel = 12, 20, 3, 5
    linear = {"query", "key", "value", "output"}
    expected = {
        "embeddings.token.weight": (VOCABULARY, e),
        "embeddings.position.weight": (POSITIONS, e),
        "embeddings.norm.weight": (e,),
        "embeddings.norm.bias": (e,),
        "layers.0.mixer.gate.weight": (2 * e, e),
        "layers.0.mixer.gate.bias": (2 * e,),
        "layers.0.mixer.kernel": (heads, kernel),
        "layers.0.mixer.output.weight": (e, e),
        "layers.0.mixer.output.bias": (e,),
        "head.dense.weight": (e, e),
        "head.dense.bias": (e,),
        "head.norm.weight": (e,),
        "head.norm.bias": (e,),
        "head.bias": (VOCABULARY,),
    }
    # Inputs that a graph does not use have no projection: V in autobert-zero/2, K in shared-qk.
    for layer, names in ((1, linear - {"value"}), (2, linear - {"key"})):
        for name in names:
            expected |= {
                f"layers.{layer}.mixer.{name}.weight": (e, e),
                f"layers.{layer}.mixer.{name}.bias": (e,),
            }
    for layer in range(3):
        expected |= {
            f"layers.{layer}.mixer_norm.weight": (e,),
            f"layers.{layer}.mixer_norm.bias": (e,),
            f"layers.{layer}.ffn.inner.weight": (f, e),
            f"layers.{layer}.ffn.inner.bias": (f,),
            f"layers.{layer}.ffn.outer.weight": (e, f),
            f"layers.{layer}.ffn.outer.bias": (e,),
            f"layers.{layer}.ffn_norm.weight": (e,),
            f"layers.{layer}.ffn_norm.bias": (e,),
        }
    model = compile_backbone(SMALL, VOCABULARY, POSITIONS)
    assert {name: tuple(p.shape) for name, p in model.state_dict().items()} == expected


def test_logits_are_those_of_its_two_halves(model):
    ids = tokens(2, 9)
    logits = model(ids)
    assert logits.shape == (2, 9, VOCABULARY)
    torch.testing.assert_close(model.logits(model.hidden(ids)), logits, rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 2, 17, POSITIONS])
def test_real_positions_do_not_see_what_is_padded_behind_them(model, length):
    model = model.double()
    ids = tokens(1, length)
    alone = model(ids)
    for extra in {0, 1, POSITIONS - length}:
        if length + extra > POSITIONS:
            continue
        key_mask = torch.arange(length + extra)[None] < length
        for seed in (1, 2):
            padded = torch.cat([ids, tokens(1, extra, seed)], dim=1)
            # Float64; only the blocking of sums may differ.
            torch.testing.assert_close(model(padded, key_mask)[:, :length], alone, rtol=0, atol=1e-12)


def test_real_positions_do_not_see_padding_in_their_midst(model):
    model = model.double()
    key_mask = torch.tensor(
        [[True, False, True, True, False, True], [False, True, True, False, False, False]]
    )
    one, other = tokens(2, 6, 1), tokens(2, 6, 2)
    other[key_mask] = one[key_mask]
    assert torch.equal(model(one, key_mask)[key_mask], model(other, key_mask)[key_mask])


def test_padded_keys_are_masked_and_rows_of_real_queries_are_not(model):
    ids = tokens(1, 8)
    full = model(ids)
    masked = model(ids, torch.tensor([[True] * 6 + [False] * 2]))
    # A mask over query rows would leave real rows as they are without it.
    assert (full - masked)[:, :6].abs().amax(-1).min() > 1e-6


def test_sequences_of_a_batch_do_not_see_each_other(model):
    model = model.double()
    ids = tokens(3, 7)
    key_mask = torch.arange(7) < torch.tensor([[7], [4], [0]])
    together = model(ids, key_mask)
    assert torch.isfinite(together).all()
    for row in range(2):
        alone = model(ids[row : row + 1], key_mask[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)


def test_dropout_differs_between_calls_in_training_and_is_off_in_evaluation():
    torch.manual_seed(0)
    model = compile_backbone(SMALL, VOCABULARY, POSITIONS, dropout=0.3)
    ids = tokens(2, 9)
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))
    calm = compile_backbone(SMALL, VOCABULARY, POSITIONS, dropout=0.0)
    calm.load_state_dict(model.state_dict())
    # Without dropout, training mode is evaluation mode.
    assert torch.equal(calm.train()(ids), model.eval()(ids))


@pytest.mark.parametrize("backbone", [ZERO, SMALL], ids=lambda backbone: backbone.name)
def test_every_parameter_has_a_gradient(backbone):
    torch.manual_seed(0)
    model = compile_backbone(backbone, VOCABULARY, POSITIONS)
    ids = tokens(2, POSITIONS)
    key_mask = torch.arange(POSITIONS) < torch.tensor([[POSITIONS], [11]])
    torch.nn.functional.cross_entropy(model(ids, key_mask)[key_mask], ids[key_mask]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any() or name.endswith("key.bias"), name  # softmax ignores a common shift


def test_layers_with_one_graph_share_its_function():
    source = backbone_source(presets.get("bert"))
    assert source.count("def attention_") == 1
    assert source.count("Attention(attention_1, ") == 12


def test_too_many_positions_are_refused(model):
    with pytest.raises(ValueError, match="25 tokens are too many: this model has 24 positions"):
        model(tokens(1, POSITIONS + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1, not 0"),
        ({"vocab_size": 10.0}, "vocab_size must be a whole number"),
        ({"max_positions": -1}, "max_positions must be a whole number of at least 1, not -1"),
        ({"max_positions": "512"}, "max_positions must be a whole number"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0"),
        ({"dropout": float("nan")}, "dropout must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compile_backbone(SMALL, **arguments)


def test_new_models_are_drawn_from_the_global_generator_with_the_scale_of_bert():
    torch.manual_seed(1)
    one = compile_backbone(ZERO, 2_000, POSITIONS)
    other = compile_backbone(ZERO, 2_000, POSITIONS)
    torch.manual_seed(1)
    again = compile_backbone(ZERO, 2_000, POSITIONS)
    weight = "embeddings.token.weight"
    assert torch.equal(one.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])
    # 128,000 normal draws: five standard deviations of their deviation.
    assert abs(one.state_dict()[weight].std().item() - 0.02) < 5 * 0.02 / (2 * 128_000) ** 0.5
    assert (one.layers[1].mixer.query.bias == 0).all()


def test_the_file_runs_in_a_fresh_process_that_has_torch_alone(model, tmp_path):
    model = model.float()
    ids = tokens(2, 9)
    key_mask = torch.arange(9) < torch.tensor([[9], [5]])
    (tmp_path / "modeling.py").write_text(model.source)
    torch.save({"weights": model.state_dict(), "ids": ids, "mask": key_mask}, tmp_path / "in.pt")
    code = """
import sys
for room in ("graphir", "codegen", "evolution", "runtime", "templates", "jinja2", "networkx"):
    sys.modules[room] = None  # importing it fails
sys.path.insert(0, sys.argv[1])
import modeling, torch
data = torch.load(sys.argv[1] + "/in.pt", weights_only=True)
model = modeling.Model().eval()
model.load_state_dict(data["weights"])
torch.save(model(data["ids"], data["mask"]).detach(), sys.argv[1] + "/out.pt")
"""
    subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path)], cwd=tmp_path, check=True)
    logits = torch.load(tmp_path / "out.pt", weights_only=True)
    # The same operations in the same order: float32 rounding is the same, too, but for threads.
    torch.testing.assert_close(logits, model(ids, key_mask), rtol=0, atol=1e-6)


def test_random_graphs_of_the_extended_set_run_inside_of_a_backbone():
    graphs = ("relu_squared(scale(Q @ K.T)) @ V", "rms_norm(Q.T).T", "exp(-abs(K))", "Q + -Q")
    layers = tuple(AttentionLayer(AttentionGraph.from_expression(text)) for text in graphs)
    model = compile_backbone(Backbone(layers, 8, 2, 16), VOCABULARY, POSITIONS)
    model(tokens(2, 5)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
