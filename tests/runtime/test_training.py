"""Training and judging, on a model small enough to check by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runtime.masking import IGNORED, MaskedBatch, training_batches
from runtime.tokenizer import CLS, Sequences
from runtime.training import MaskedLoss, Recipe, TrainingDiverged, evaluate_mlm, train

VOCAB_SIZE, HIDDEN_SIZE, SEQ_LEN = 24, 16, 12


class Neighbour(nn.Module):
    """Predicts a token from the one before it."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.token = nn.Embedding(VOCAB_SIZE, HIDDEN_SIZE)
        self.out = nn.Linear(HIDDEN_SIZE, VOCAB_SIZE)

    def hidden(self, input_ids, key_mask):
        return self.token(input_ids.roll(1, dims=1))

    def logits(self, hidden):
        return self.out(hidden)


def counting_sequences(seed: int, rows: int = 64) -> Sequences:
    """Each token is the one before plus one: what `Neighbour` can learn."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 19, (rows, 1), generator=generator)
    ids = 5 + (start + torch.arange(SEQ_LEN)) % 19
    ids[:, 0] = CLS
    return Sequences(ids, torch.ones_like(ids, dtype=torch.bool))


def batches(seed: int = 0):
    return training_batches(counting_sequences(0), 16, VOCAB_SIZE, seed)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_the_loss_is_that_of_the_whole_logits_at_the_hidden_tokens():
    model, batch = Neighbour(), next(batches())
    logits = model.logits(model.hidden(batch.input_ids, batch.key_mask))
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
    # The same float32 sums in another order.
    torch.testing.assert_close(MaskedLoss(model)(batch), expected, rtol=1e-5, atol=1e-6)


def test_training_learns_what_can_be_learned():
    model = Neighbour()
    held_out = [next(training_batches(counting_sequences(1), 64, VOCAB_SIZE, 1))]
    before = evaluate_mlm(model, held_out)
    report = train(model, batches(), 200, Recipe(learning_rate=3e-2))
    after = evaluate_mlm(model, held_out)
    assert before["accuracy"] < 0.3
    # One predecessor in six is hidden itself or is [CLS]; the rest can be known.
    assert after["accuracy"] > 0.6
    assert after["loss"] < before["loss"]
    assert len(report.losses) == 200
    assert report.tokens == 200 * 16 * SEQ_LEN
    assert report.tokens_per_second > 0


def test_the_same_seed_gives_the_same_weights_whatever_the_global_generator_holds():
    first, second, other = Neighbour(), Neighbour(), Neighbour()
    train(first, batches(3), 10)
    torch.manual_seed(12345)
    train(second, batches(3), 10)
    train(other, batches(4), 10)
    assert torch.equal(first.out.weight, second.out.weight)
    assert not torch.equal(first.out.weight, other.out.weight)


def test_no_steps_change_nothing():
    model, untouched = Neighbour(), Neighbour()
    report = train(model, batches(), 0)
    assert report.losses == ()
    assert report.tokens_per_second == 0.0
    assert torch.equal(model.out.weight, untouched.out.weight)


def test_the_learning_rate_rises_and_falls_linearly():
    # With one weight, a gradient of constant sign and no decay, Adam moves by the learning rate.
    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.seen: list[float] = []

        def hidden(self, input_ids, key_mask):
            self.seen.append(self.weight.item())
            return self.weight.expand(*input_ids.shape, 1)

        def logits(self, hidden):
            return torch.cat([hidden, -hidden], dim=-1)

    ids = torch.zeros(1, 3, dtype=torch.int64)
    batch = MaskedBatch(ids, torch.ones_like(ids, dtype=torch.bool), ids)
    model = Slope()
    train(model, iter([batch] * 10), 10, Recipe(learning_rate=1e-3, warm_up=0.4))
    moves = [b - a for a, b in zip(model.seen, model.seen[1:], strict=False)]
    moves.append(model.weight.item() - model.seen[-1])
    expected = [1e-3 * min((i + 1) / 4, (10 - i) / 6) for i in range(10)]
    # Adam divides by the root of its second moment, which lags where the gradient shrinks: within 1 percent.
    assert moves == pytest.approx(expected, rel=1e-2)


def test_a_loss_that_is_not_finite_raises_with_the_step_and_leaves_the_weights():
    model = Neighbour()
    with torch.no_grad():
        model.token.weight[7] = math.nan
    before = model.out.weight.clone()
    with pytest.raises(TrainingDiverged, match=r"step 1 of 5: the loss is nan"):
        train(model, batches(), 5)
    assert torch.equal(model.out.weight, before)


def test_a_gradient_that_is_not_finite_raises():
    class Root(Neighbour):
        def hidden(self, input_ids, key_mask):
            # The root of zero: its value is finite and its slope is not.
            return super().hidden(input_ids, key_mask) + (self.out.bias[:HIDDEN_SIZE] * 0.0).sqrt()

    with pytest.raises(TrainingDiverged, match="gradient's norm"):
        train(Root(), batches(), 1)


def test_accuracy_and_loss_are_means_over_hidden_tokens_not_over_batches():
    model = Neighbour()
    whole = next(training_batches(counting_sequences(2), 64, VOCAB_SIZE, 2))
    parts = [
        MaskedBatch(whole.input_ids[rows], whole.key_mask[rows], whole.labels[rows])
        for rows in (slice(0, 5), slice(5, 64))
    ]
    logits = model.logits(model.hidden(whole.input_ids, whole.key_mask)).detach()
    hidden = whole.labels != IGNORED
    log_probability = logits.double().log_softmax(-1)[hidden].gather(1, whole.labels[hidden][:, None])
    accuracy = (logits.argmax(-1) == whole.labels)[hidden].double().mean()
    metrics = evaluate_mlm(model, parts)
    assert metrics["accuracy"] == pytest.approx(float(accuracy), abs=1e-12)
    # float32 against float64.
    assert metrics["loss"] == pytest.approx(-float(log_probability.mean()), rel=1e-5)


def test_judging_a_broken_model_or_on_nothing_is_refused():
    model = Neighbour()
    batch = next(batches())
    nothing = MaskedBatch(batch.input_ids, batch.key_mask, torch.full_like(batch.labels, IGNORED))
    with pytest.raises(ValueError, match="no hidden token"):
        evaluate_mlm(model, [nothing])
    with torch.no_grad():
        model.out.bias[0] = math.nan
    with pytest.raises(TrainingDiverged, match="held-out loss is nan"):
        evaluate_mlm(model, [batch])
