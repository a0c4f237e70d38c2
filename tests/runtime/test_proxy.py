"""The evaluator: reproducible, independent of order, and judged on text it never saw."""

import math
import random
from dataclasses import replace

import pytest
import torch

from evolution import Evaluator, SearchSpace, random_backbone
from graphir import AttentionLayer, Backbone, InputError, presets
from runtime.corpus import split_corpus
from runtime.masking import IGNORED
from runtime.proxy import PROXY_SPACE, MaskedLanguageModelEvaluator, ProxyConfig, prepare
from runtime.run import RunError
from runtime.search import search
from runtime.supernet import Supernet, SupernetError, warm_up
from runtime.training import MaskedLoss, Recipe, TrainingDiverged, evaluate_mlm

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=32, kernel_sizes=(3, 5), max_nodes=8)
CONFIG = ProxyConfig(vocab_size=300, seq_len=16, batch_size=8, held_out_sequences=24, warm_up_steps=60)
WORDS = ("river", "stone", "quick", "lantern", "green", "whisper", "copper", "orbit")


def random_corpus(seed: int):
    rng = random.Random(seed)
    return split_corpus("words", [" ".join(rng.choices(WORDS, k=30)) for _ in range(120)], 0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data():
    return prepare(random_corpus(0), CONFIG)


@pytest.fixture(scope="module")
def evaluator(data):
    supernet = Supernet.create(SPACE, data.vocab_size, CONFIG.seq_len, seed=0)
    untrained = MaskedLanguageModelEvaluator(supernet, data, CONFIG)
    warm_up(supernet, SPACE, untrained.batches(0), CONFIG.warm_up_steps, 0, recipe=Recipe(learning_rate=1e-2))
    return untrained


def backbones(count: int):
    return [random_backbone(random.Random(seed), SPACE) for seed in range(count)]


def test_an_evaluation_has_the_promised_numbers(evaluator):
    judge: Evaluator = evaluator
    backbone = backbones(1)[0]
    evaluation = judge.evaluate(backbone, seed=0, budget=3)
    assert set(evaluation.metrics) == {"accuracy", "loss", "tokens_per_second", "parameters", "operations"}
    assert evaluation.score == -evaluation.metrics["loss"]
    assert 0.0 <= evaluation.metrics["accuracy"] <= 1.0
    assert evaluation.metrics["tokens_per_second"] > 0
    assert evaluation.seconds > 0
    model, _ = evaluator.train_candidate(backbone, seed=0, budget=0)
    assert evaluation.metrics["parameters"] == sum(weight.numel() for weight in model.parameters())


def test_scores_do_not_depend_on_what_was_evaluated_before(evaluator):
    first, second = backbones(2)
    alone = [(e.score, e.metrics["loss"]) for e in (evaluator.evaluate(b, 7, 4) for b in (first, second))]
    torch.manual_seed(99)
    turned = [(e.score, e.metrics["loss"]) for e in (evaluator.evaluate(b, 7, 4) for b in (second, first))]
    assert alone == turned[::-1]


def test_a_reloaded_supernet_gives_the_same_scores(evaluator, data, tmp_path):
    evaluator.supernet.save(tmp_path / "supernet.safetensors")
    again = MaskedLanguageModelEvaluator(Supernet.load(tmp_path / "supernet.safetensors"), data, CONFIG)
    backbone = backbones(1)[0]
    assert (
        again.evaluate(backbone, 1, 4).metrics["loss"] == evaluator.evaluate(backbone, 1, 4).metrics["loss"]
    )


def test_the_seed_and_the_budget_count(evaluator):
    backbone = backbones(1)[0]
    losses = {evaluator.evaluate(backbone, *call).metrics["loss"] for call in ((0, 4), (1, 4), (0, 5))}
    assert len(losses) == 3


def test_score_and_accuracy_are_those_of_the_trained_model_over_whole_logits(evaluator, data):
    backbone = backbones(3)[2]
    model, _ = evaluator.train_candidate(backbone, seed=3, budget=5)
    right = hidden = 0
    loss = 0.0
    with torch.no_grad():
        for batch in data.held_out:
            chosen = batch.labels != IGNORED
            logits = model.eval()(batch.input_ids, batch.key_mask)
            right += int((logits.argmax(-1) == batch.labels)[chosen].sum())
            likely = logits.double().log_softmax(-1).gather(-1, batch.labels.clamp(min=0)[..., None])[..., 0]
            loss -= float(likely[chosen].sum())
            hidden += int(chosen.sum())
    evaluation = evaluator.evaluate(backbone, 3, 5)
    assert evaluation.metrics["accuracy"] == pytest.approx(right / hidden, abs=1e-12)
    # Logits of other shapes are rounded otherwise: a few float32 roundings of a number near 2.
    assert evaluation.score == pytest.approx(-loss / hidden, rel=1e-5)


def test_warm_weights_are_better_than_fresh_ones_and_than_the_commonest_token(evaluator, data):
    fresh = MaskedLanguageModelEvaluator(
        Supernet.create(SPACE, data.vocab_size, CONFIG.seq_len, seed=0), data, CONFIG
    )
    for number, backbone in enumerate(backbones(3)):
        warm_loss = evaluator.evaluate(backbone, 0, 0).metrics["loss"]
        assert warm_loss < fresh.evaluate(backbone, 0, 0).metrics["loss"] - 0.3, f"backbone {number}"


def test_weights_that_are_not_finite_end_the_evaluation_with_the_reason(evaluator, data):
    tensors = {name: weight.clone() for name, weight in evaluator.supernet.tensors.items()}
    tensors["head.bias"][0] = math.nan
    broken = MaskedLanguageModelEvaluator(Supernet(tensors), data, CONFIG)
    with pytest.raises(TrainingDiverged, match="step 1 of 4"):
        broken.evaluate(backbones(1)[0], 0, 4)


def test_a_backbone_of_another_space_is_refused(evaluator):
    other = random_backbone(random.Random(0), SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=32))
    with pytest.raises(SupernetError, match=r"no weight layers\.2"):
        evaluator.evaluate(other, 0, 1)


def test_held_out_text_is_not_what_the_tokenizer_and_training_saw():
    corpus = random_corpus(1)
    data = prepare(corpus, CONFIG)
    again = prepare(corpus, CONFIG)
    assert data.tokenizer.to_str() == again.tokenizer.to_str()
    changed = type(corpus)(corpus.name, corpus.train, ("zebra quilt " * 40,), corpus.size)
    assert prepare(changed, CONFIG).tokenizer.to_str() == data.tokenizer.to_str()
    assert torch.equal(prepare(changed, CONFIG).train.ids, data.train.ids)
    assert sum(len(batch.input_ids) for batch in data.held_out) <= CONFIG.held_out_sequences


def test_the_baseline_is_what_a_constant_model_scores(data):
    class Constant(torch.nn.Module):
        def __init__(self, token: int) -> None:
            super().__init__()
            self.answer = torch.nn.functional.one_hot(torch.tensor(token), data.vocab_size).float()

        def hidden(self, input_ids, key_mask):
            return input_ids[..., None].float()

        def logits(self, hidden):
            return self.answer.expand(*hidden.shape[:-1], -1)

    ids = data.train.ids[data.train.key_mask]
    commonest = ids[ids >= 5].mode().values.item()
    assert evaluate_mlm(Constant(commonest), data.held_out)["accuracy"] == pytest.approx(data.baseline)
    # A constant model that is sure of nothing has the loss of that; the loss module agrees.
    model = Constant(commonest)
    assert float(MaskedLoss(model)(data.held_out[0])) > 0


def test_the_configuration_survives_json():
    config = ProxyConfig(vocab_size=500, candidate_rate=5e-4)
    assert ProxyConfig.from_dict(config.to_dict()) == config
    assert ProxyConfig.from_dict({"seq_len": 32}) == ProxyConfig(seq_len=32)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"vocab_size": 10}, "vocab_size must be a whole number from 261"),
        ({"seq_len": 2.5}, "seq_len must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"candidate_rate": 0}, "candidate_rate must be a number above 0"),
        ({"warm_up_rate": math.nan}, "warm_up_rate must be a number above 0"),
        ({"batchsize": 3}, "unknown field 'batchsize'; did you mean batch_size"),
        ([], "not a list"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_field(fields, reason):
    with pytest.raises(ValueError, match=reason):
        ProxyConfig.from_dict(fields)


def test_the_default_space_is_small_and_has_the_paper_s_layers():
    assert PROXY_SPACE.kernel_sizes == SearchSpace().kernel_sizes
    assert PROXY_SPACE.operations == SearchSpace().operations
    assert PROXY_SPACE.hidden_size * PROXY_SPACE.layers <= 1_024


@pytest.mark.long
def test_candidates_train_on_kernels_as_on_the_torch_form(data):
    # Both layers of this space may hold attention; the interpreter is slow, so the budget is two steps.
    supernet = Supernet.create(SPACE, data.vocab_size, CONFIG.seq_len, seed=0)
    graph = AttentionLayer(presets.get("autobert-zero/12"))
    backbone = Backbone((graph,) * SPACE.layers, SPACE.hidden_size, SPACE.heads, SPACE.ffn_size)
    few = replace(data, held_out=data.held_out[:1])
    scores = {}
    for backend in ("torch", "triton"):
        evaluator = MaskedLanguageModelEvaluator(supernet.placed("cpu", backend), few, CONFIG)
        model, _ = evaluator.train_candidate(backbone, seed=1, budget=2)
        assert len(model.kernel_sources) == 2 * (backend == "triton")  # of the graph and of the blocks
        scores[backend] = evaluator.evaluate(backbone, seed=1, budget=2).score
    # Two steps of Adam, whose sign turns where a gradient is nothing but rounding.
    assert scores["triton"] == pytest.approx(scores["torch"], abs=1e-3)


def test_a_device_that_is_not_there_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(RunError, match="the device 'cuda:77' cannot be used"):
        search(tmp_path / "run", proxy=replace(CONFIG, device="cuda:77"))
    with pytest.raises(InputError, match="device must be"):
        replace(CONFIG, device="the fast one")
    with pytest.raises(InputError, match="backend must be auto, torch, triton"):
        replace(CONFIG, backend="cuda")
    assert not list(tmp_path.iterdir())
