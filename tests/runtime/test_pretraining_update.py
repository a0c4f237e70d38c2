"""One step, against a training loop written by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codegen import compile_backbone
from graphir import Backbone, ConvLayer, InputError, presets
from runtime.masking import IGNORED, MaskedBatch, mask_tokens
from runtime.pretraining.batches import split_batch
from runtime.pretraining.devices import open_accelerator
from runtime.pretraining.settings import Pretraining
from runtime.pretraining.update import Update

VOCAB_SIZE = 60
BACKBONE = Backbone((ConvLayer(3), presets.get("bert").layers[0]), 16, 2, 32, name="tiny")


def make_model(dropout=0.0):
    torch.manual_seed(3)
    return compile_backbone(BACKBONE, VOCAB_SIZE, 12, dropout)


def double(model):
    """In float64 nothing but a real difference shows: Adam divides gradients that are rounding alone by themselves."""
    return model.double()


def batches(steps, rows=8):
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        ids = torch.randint(5, VOCAB_SIZE, (rows, 12), generator=generator)
        yield mask_tokens(ids, None, VOCAB_SIZE, generator)


def trained(settings, steps=4, parts=1, cast=nn.Module.float):
    with open_accelerator(settings) as accelerator:
        model = cast(make_model(settings.dropout))
        update = Update(model, settings, accelerator)
        results = []
        for step, batch in enumerate(batches(steps)):
            torch.manual_seed(step)
            results.append(update.step(step, split_batch(batch, 8 // parts)))
    return model, [(result.loss.item(), result.norm.item()) for result in results]


def trained_by_hand(settings, steps=4):
    """All logits, AdamW written out (Loshchilov and Hutter 2019, algorithm 2, as in PyTorch), clipping written out."""
    model = double(make_model())
    weights = dict(model.named_parameters())
    first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    results = []
    for step, batch in enumerate(batches(steps)):
        logits = model(batch.input_ids)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))
        results.append((loss.item(), norm))
        rate = settings.learning_rate_at(step)
        with torch.no_grad():
            for name, weight in weights.items():
                gradient = gradients[name] * min(1.0, settings.clip / (norm + 1e-6))
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = settings.beta2 * second[name] + (1 - settings.beta2) * gradient**2
                if weight.ndim >= 2:
                    weight *= 1 - rate * settings.weight_decay
                mean = first[name] / (1 - 0.9 ** (step + 1))
                spread = (second[name] / (1 - settings.beta2 ** (step + 1))).sqrt()
                weight -= rate * mean / (spread + 1e-8)
    return model, results


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_a_step_is_that_of_a_loop_written_by_hand_in_however_many_parts(parts):
    settings = Pretraining(steps=4, learning_rate=1e-2, weight_decay=0.1, clip=0.5, dropout=0.0, device="cpu")
    model, results = trained(settings, parts=parts, cast=double)
    by_hand, expected = trained_by_hand(settings)
    # float64 sums in another order, through four steps.
    assert sum(results, ()) == pytest.approx(sum(expected, ()), rel=1e-9)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, by_hand.get_parameter(name), rtol=1e-7, atol=1e-9)


def test_gradient_checkpointing_changes_nothing_dropout_included():
    settings = Pretraining(dropout=0.2, learning_rate=1e-2, device="cpu")
    model, results = trained(settings)
    again, checkpointed = trained(Pretraining(**settings.to_dict() | {"gradient_checkpointing": True}))
    assert results == checkpointed
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_bfloat16_is_used_and_weights_stay_in_float32():
    settings = Pretraining(dropout=0.0, learning_rate=1e-2, device="cpu")
    _, exact = trained(settings)
    model, rounded = trained(Pretraining(**settings.to_dict() | {"precision": "bfloat16"}))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert exact != rounded
    # bfloat16 has 8 bits: a loss near 4 is right to some hundredths.
    assert [loss for loss, _ in rounded] == pytest.approx([loss for loss, _ in exact], abs=0.05)


def test_float16_is_refused_without_a_gpu():
    settings = Pretraining(precision="float16", device="cpu")
    with pytest.raises(InputError, match="precision float16"), open_accelerator(settings):
        pytest.fail("opened")


def test_restored_moments_go_on_as_if_nothing_had_happened():
    settings = Pretraining(learning_rate=1e-2, dropout=0.0, device="cpu")
    with open_accelerator(settings) as accelerator:
        one, other = (Update(make_model(), settings, accelerator) for _ in range(2))
        first, second = ([batch] for batch in batches(2))
        one.step(0, first)
        other.restore(one.model.state_dict(), one.moments())
        for update in (one, other):
            update.step(1, second)
    assert all(map(torch.equal, one.weights, other.weights))


def test_a_batch_knows_its_tokens():
    ids = torch.zeros(2, 3, dtype=torch.int64)
    assert MaskedBatch(ids, None, ids).tokens == 6
    assert MaskedBatch(ids, torch.tensor([[True, False, False]] * 2), ids).tokens == 2


def test_an_accelerator_that_was_there_before_has_its_own_precision_and_keeps_it():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        theirs = Accelerator(cpu=True)  # as a fine-tuning in the same process leaves one
        with open_accelerator(Pretraining(precision="bfloat16", device="cpu")) as ours:
            assert ours.mixed_precision == "bf16"
        assert theirs.mixed_precision == "no"
        assert theirs.device.type == "cpu"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
