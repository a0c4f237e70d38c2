"""The benchmark of a whole model: what it counts, what it compares, and what it charges to which part."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from graphir import AttentionLayer, Backbone, ConvLayer, presets
from runtime.model_bench import (
    BERT,
    FORWARD,
    GENERATED,
    TRAINING,
    ModelRow,
    ModelSetting,
    WrongModelError,
    benchmark_model,
    check_model,
    draw_batch,
    make_bert,
)
from runtime.model_bench_table import format_model_table
from runtime.model_parts import OPTIMIZER, REST, PartTimes, parts_of, time_parts
from runtime.timing import Timing

LAYERS = (ConvLayer(3), AttentionLayer(presets.get("bert/1")))
BACKBONE = Backbone(LAYERS, 16, 2, 24, name="benchmarked")
TINY = ModelSetting(batch=3, seq_lens=(8,), vocab_size=30, rounds=1, part_rounds=1)


def test_tokens_a_second_are_real_tokens_by_the_median():
    times = {BERT: Timing((4.0, 2.0, 30.0)), GENERATED: Timing((2.0, 1.0, 2.5))}
    row = ModelRow(FORWARD, 8, "padded", 100, times)
    assert row.tokens_per_second(BERT) == 25.0
    assert row.tokens_per_second(GENERATED) == 50.0
    assert row.ratio == 2.0


def test_a_padded_batch_has_sequences_from_a_quarter_of_the_length_to_all_of_it():
    batch = draw_batch(ModelSetting(batch=4), 128, "padded")
    assert batch["attention_mask"].sum(1).tolist() == [128, 96, 64, 32]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 0).all()
    assert (batch["input_ids"][batch["attention_mask"] == 1] >= 5).all()
    assert draw_batch(ModelSetting(batch=4), 128, "full")["attention_mask"].all()


@pytest.fixture(autouse=True)
def no_drawings(monkeypatch):
    """They take longer than everything else here."""
    monkeypatch.setattr(Backbone, "draw", lambda self, path: None)


@pytest.mark.long
def test_both_models_are_measured_at_every_length_and_mask(transformers):
    told = []
    result = benchmark_model(BACKBONE, replace(TINY, seq_lens=(8, 12)), told.append)
    assert [(row.what, row.seq_len, row.mask) for row in result.rows] == [
        (what, seq_len, mask)
        for seq_len in (8, 12)
        for mask in ("full", "padded")
        for what in (FORWARD, TRAINING)
    ]
    assert all(set(row.times) == {BERT, GENERATED} for row in result.rows)
    assert result.rows[0].tokens == 24
    for part in ("convolution and gate", "attention", "feed-forward", "LayerNorm", "embeddings", OPTIMIZER):
        assert result.parts[0].times[GENERATED].of(part) > 0.0
    written = json.loads(json.dumps(result.to_dict()))
    assert written["rows"][0]["ratio"] == result.rows[0].ratio
    assert "training step, 12 tokens, padded mask" in format_model_table(result)
    assert told[:3] == ["8 tokens, full mask", "8 tokens, padded mask", "8 tokens, by part"]


def test_with_the_heads_their_work_is_measured_on_both_sides(transformers):
    result = benchmark_model(BACKBONE, replace(TINY, head=True, masks=("full",)))
    (row,) = result.parts
    assert all(row.times[model].of("head") > 0.0 for model in (BERT, GENERATED))


def test_bert_has_the_sizes_of_the_backbone_and_takes_the_fused_call(transformers):
    bert = make_bert(BACKBONE, TINY)
    config = bert.config
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (16, 2, 2)
    assert (config.intermediate_size, config.vocab_size) == (24, 30)
    assert config._attn_implementation == "sdpa"
    assert bert.pooler is None


class Leaky(nn.Module):
    """Padded tokens reach real ones."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 4)

    def forward(self, input_ids, attention_mask):
        hidden = self.table(input_ids)
        return (hidden + hidden.mean(1, keepdim=True),)


def test_a_model_that_sees_padding_is_not_timed():
    with pytest.raises(WrongModelError, match="it is not timed"):
        check_model(Leaky(), TINY)


# -- parts


class Time:
    """A clock that stands still unless it is moved."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Work(torch.autograd.Function):
    """Takes some time forward, and ten times that backward."""

    @staticmethod
    def forward(ctx, x, time, seconds):
        ctx.time, ctx.seconds = time, seconds
        time.now += seconds
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.time.now += 10.0 * ctx.seconds
        return grad, None, None


class Busy(nn.Module):
    """Works, then what is inside works."""

    def __init__(self, time, seconds, *inside):
        super().__init__()
        self.time, self.seconds, self.inside = time, seconds, nn.ModuleList(inside)

    def forward(self, x):
        x = Work.apply(x, self.time, self.seconds)
        for module in self.inside:
            x = module(x)
        return x


class FeedForward(Busy):
    """Known by its name."""


class Dropout(Busy):
    """Known by its name."""


class Layer(Busy):
    """Of no part."""


def test_each_moment_is_charged_to_the_innermost_part():
    time = Time()
    model = Layer(
        time, 1.0, FeedForward(time, 2.0, Layer(time, 4.0), Dropout(time, 8.0)), Dropout(time, 16.0)
    )
    weight = torch.ones(3, requires_grad=True)

    def update():
        time.now += 0.5

    found = time_parts(model, lambda: model(weight * 1.0).sum(), update, rounds=2, clock=time)
    assert found == PartTimes(
        {"feed-forward": 6.0, "dropout": 24.0, REST: 1.0},
        {"feed-forward": 60.0, "dropout": 240.0, REST: 10.0, OPTIMIZER: 0.5},
    )
    assert found.total == 341.5
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_linear_maps_belong_to_what_they_stand_in():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(2, 2)

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(2, 2)

    model = nn.Sequential(Attention(), Head(), nn.Linear(2, 2))
    assert list(parts_of(model).values()) == ["attention", "attention projections", "head"]


@pytest.mark.long
def test_the_command_prints_the_table_and_writes_everything(opnas, transformers, tmp_path):
    BACKBONE.save(tmp_path / "backbone.json")
    code, out, _ = opnas(
        "bench", "--model", tmp_path / "backbone.json", "--seq-len", 8, "--batch", 2, "--rounds", 1,
        "--json", tmp_path / "bench.json",
    )  # fmt: skip
    assert code == 0
    assert "tokens a second" in out
    assert json.loads((tmp_path / "bench.json").read_text())["name"] == "benchmarked"
    code, _, err = opnas("bench", "--model", "bert/1")
    assert code == 2
    assert "backbone" in err
    code, _, err = opnas("bench", "--model", "bert", "autobert-zero")
    assert code == 2
    assert "one backbone" in err
