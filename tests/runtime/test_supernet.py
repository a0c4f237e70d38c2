"""The supernet: what a candidate takes, what it gives back, and what warming up does."""

import random

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from codegen import compile_backbone
from evolution import SearchSpace, fair_backbones, random_backbone
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer
from runtime.blank_weights import BlankWeights
from runtime.masking import training_batches
from runtime.supernet import Supernet, SupernetError, warm_up
from runtime.tokenizer import CLS, Sequences
from runtime.training import MaskedLoss, Recipe

VOCAB_SIZE, SEQ_LEN = 300, 12
SPACE = SearchSpace(layers=2, hidden_size=16, heads=4, ffn_size=24, kernel_sizes=(3, 5, 9), max_nodes=8)
PLAIN = AttentionLayer(AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V"))
SHARED = AttentionLayer(AttentionGraph.from_expression("softmax(scale(Q @ Q.T)) @ Q"))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def create(seed: int = 0, space: SearchSpace = SPACE) -> Supernet:
    return Supernet.create(space, VOCAB_SIZE, SEQ_LEN, seed)


def stack(*layers) -> Backbone:
    return Backbone(layers, SPACE.hidden_size, SPACE.heads, SPACE.ffn_size)


def state(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in supernet.tensors.items()}


def batches(seed: int = 0):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCAB_SIZE, (64, SEQ_LEN), generator=generator)
    ids[:, 1:] = ids[:, :1]  # a text of one word: what any model can learn
    ids[:, 0] = CLS
    return training_batches(Sequences(ids, ids >= 0), 16, VOCAB_SIZE, seed)


@pytest.mark.parametrize("seed", range(8))
def test_every_random_backbone_finds_all_of_its_weights(seed):
    backbone = random_backbone(random.Random(seed), SPACE)
    supernet = create()
    module = supernet.compile(backbone)
    weights = dict(module.named_parameters())
    for number, layer in enumerate(backbone.layers):
        branch = "conv" if isinstance(layer, ConvLayer) else "attention"
        shared = supernet.tensors[f"layers.{number}.{branch}.output.weight"]
        assert torch.equal(weights[f"layers.{number}.mixer.output.weight"], shared), f"seed {seed}"
        ffn = f"layers.{number}.ffn.inner.weight"
        assert torch.equal(weights[ffn], supernet.tensors[ffn]), f"seed {seed}"


def test_a_smaller_kernel_is_the_centre_of_the_largest():
    supernet = create()
    module = supernet.compile(stack(ConvLayer(3), ConvLayer(9)))
    weights = dict(module.named_parameters())
    assert torch.equal(weights["layers.0.mixer.kernel"], supernet.tensors["layers.0.conv.kernel"][:, 3:6])
    assert torch.equal(weights["layers.1.mixer.kernel"], supernet.tensors["layers.1.conv.kernel"])


def test_graphs_share_projections_and_branches_do_not():
    supernet = create()
    plain, shared, conv = (supernet.compile(stack(layer, PLAIN)) for layer in (PLAIN, SHARED, ConvLayer(5)))
    plain, shared, conv = (dict(module.named_parameters()) for module in (plain, shared, conv))
    assert torch.equal(plain["layers.0.mixer.query.weight"], shared["layers.0.mixer.query.weight"])
    assert "layers.0.mixer.key.weight" not in shared
    assert not torch.equal(plain["layers.0.mixer.output.weight"], conv["layers.0.mixer.output.weight"])
    assert torch.equal(plain["embeddings.token.weight"], conv["embeddings.token.weight"])


def test_training_a_candidate_leaves_the_supernet_as_it_was():
    supernet = create()
    before = state(supernet)
    module = supernet.compile(stack(PLAIN, ConvLayer(3)))
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    assert all(torch.equal(before[name], weight) for name, weight in supernet.tensors.items())


def test_absorbing_writes_what_the_candidate_uses_and_nothing_else():
    supernet = create()
    before = state(supernet)
    module = supernet.compile(stack(SHARED, ConvLayer(5)))
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
    supernet.absorb(module)
    after = supernet.tensors
    for name in ("layers.0.attention.query.weight", "layers.1.conv.gate.weight", "head.bias"):
        assert torch.equal(after[name], before[name] + 1.0), name
    for name in (
        "layers.0.attention.key.weight",
        "layers.0.conv.gate.weight",
        "layers.1.attention.query.bias",
    ):
        assert torch.equal(after[name], before[name]), name
    kernel = "layers.1.conv.kernel"
    assert torch.equal(after[kernel][:, 2:7], before[kernel][:, 2:7] + 1.0)
    assert torch.equal(after[kernel][:, :2], before[kernel][:, :2])
    assert torch.equal(after[kernel][:, 7:], before[kernel][:, 7:])


def test_the_seed_alone_decides_the_first_weights():
    torch.manual_seed(1)
    first = create(3)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1)), "creating a supernet must leave the global generator alone"
    second, other = create(3), create(4)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    name = "layers.1.attention.key.weight"
    assert not torch.equal(first.tensors[name], other.tensors[name])


def test_a_space_without_convolutions_has_one_branch():
    space = SearchSpace(
        layers=2, hidden_size=16, heads=4, ffn_size=24, kernel_sizes=(), conv_probability=0.0, max_nodes=8
    )
    assert not any(".conv." in name for name in create(space=space).tensors)


def test_one_step_of_warming_up_touches_only_the_path_that_was_drawn():
    supernet = create()
    before = state(supernet)
    seed = 5
    warm_up(supernet, SPACE, batches(), 1, seed)
    drawn = next(fair_backbones(random.Random(seed), SPACE))
    used = supernet.compile(drawn)
    names = {name for name, view in supernet.views(used).items() if view is not None}
    kinds = ["conv" if isinstance(layer, ConvLayer) else "attention" for layer in drawn.layers]
    for name, weight in supernet.tensors.items():
        parts = name.split(".")
        branch = parts[2] if parts[0] == "layers" and parts[2] in ("conv", "attention") else None
        if branch is None:
            continue
        on_path = (
            branch == kinds[int(parts[1])] and ".".join(["layers", parts[1], "mixer", *parts[3:]]) in names
        )
        if not on_path:
            assert torch.equal(weight, before[name]), name
    assert not torch.equal(supernet.tensors["head.bias"], before["head.bias"])


def test_warming_up_lowers_the_loss_of_backbones_that_were_never_drawn_alone():
    supernet = create()
    backbones = [random_backbone(random.Random(seed), SPACE) for seed in (101, 102, 103)]
    batch = next(batches(7))

    def mean_loss() -> float:
        total = 0.0
        for backbone in backbones:
            module = supernet.compile(backbone)
            with torch.no_grad():
                total += float(MaskedLoss(module)(batch))
        return total / len(backbones)

    before = mean_loss()
    steps: list[int] = []
    losses = warm_up(
        supernet,
        SPACE,
        batches(),
        60,
        0,
        recipe=Recipe(learning_rate=1e-2),
        on_step=lambda step, loss: steps.append(step),
    )
    assert steps == list(range(1, 61))
    assert len(losses) == 60
    assert mean_loss() < before - 0.1
    assert not any(weight.requires_grad for weight in supernet.tensors.values())


def test_warming_up_twice_with_one_seed_gives_the_same_weights():
    results = []
    for _ in range(2):
        supernet = create()
        warm_up(supernet, SPACE, batches(), 5, 2)
        results.append(state(supernet))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_a_saved_supernet_reads_the_same(tmp_path):
    supernet = create()
    supernet.save(tmp_path / "supernet.safetensors")
    again = Supernet.load(tmp_path / "supernet.safetensors")
    assert again.tensors.keys() == supernet.tensors.keys()
    assert all(torch.equal(again.tensors[name], weight) for name, weight in supernet.tensors.items())
    assert (again.vocab_size, again.max_positions) == (VOCAB_SIZE, SEQ_LEN)
    assert [path.name for path in tmp_path.iterdir()] == ["supernet.safetensors"]


def test_files_that_are_no_supernet_are_refused(tmp_path):
    path = tmp_path / "supernet.safetensors"
    for content in (b"", b"not safetensors", b"\x80\x04\x95pickle"):
        path.write_bytes(content)
        with pytest.raises(SupernetError, match="not a safetensors file"):
            Supernet.load(path)
    save_file({"weight": torch.zeros(2)}, path, metadata={"format": "opnas.supernet/9"})
    with pytest.raises(SupernetError, match=r"opnas.supernet/9.*reads 'opnas.supernet/1'"):
        Supernet.load(path)
    save_file({"weight": torch.zeros(2)}, path, metadata={"format": "opnas.supernet/1"})
    with pytest.raises(SupernetError, match=r"lacks embeddings.token.weight"):
        Supernet.load(path)


def test_a_module_that_does_not_fit_is_refused_with_the_weight_at_fault():
    supernet = create()
    deeper = compile_backbone(stack(PLAIN, PLAIN, PLAIN), VOCAB_SIZE, SEQ_LEN, 0.0)
    with pytest.raises(SupernetError, match=r"no weight layers.2"):
        supernet.inherit(deeper)
    wider = compile_backbone(Backbone((PLAIN,), 32, 4, 24), VOCAB_SIZE, SEQ_LEN, 0.0)
    with pytest.raises(SupernetError, match=r"\(300, 16\) in the supernet and \(300, 32\)"):
        supernet.inherit(wider)
    with pytest.raises(SupernetError, match="kernel"):
        supernet.compile(stack(ConvLayer(11), PLAIN))


def test_a_compiled_candidate_draws_no_weights_and_has_those_of_the_supernet():
    supernet = create()
    torch.manual_seed(1)
    module = supernet.compile(stack(PLAIN, ConvLayer(5)))
    drawn = torch.rand(1)
    views = supernet.views(module)
    for name, weight in module.named_parameters():
        assert torch.equal(weight, views[name]), name
        assert weight.requires_grad, name
        assert weight.untyped_storage().data_ptr() != views[name].untyped_storage().data_ptr(), name
    torch.manual_seed(1)
    kernel = nn.init.xavier_uniform_(torch.empty(SPACE.heads, 5))  # not a parameter when it is drawn
    assert kernel.isfinite().all()
    assert torch.equal(drawn, torch.rand(1)), "more than the kernel was drawn"


def test_without_initial_weights_buffers_still_have_their_values():
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((3,), 7.0))
            self.register_buffer("count", torch.ones(3).fill_(5.0))
            nn.init.zeros_(self.weight)

    with BlankWeights():
        module = Counted()
    assert module.count.tolist() == [5.0] * 3
    assert module.weight.tolist() == [7.0] * 3, "a fill of a parameter must be left out"
