"""Fine-tuning: what it learns, writes and refuses. The models are of width 16, and what they learn is easy."""

import json
import random
from dataclasses import replace

import pytest

from graphir import InputError
from runtime.finetuning_config import FineTuning
from runtime.run import FolderExistsError
from tests.runtime.tiny_model import MAX_POSITIONS, export_tiny
from tests.runtime.tiny_tasks import PLAIN, WORDS, sentence, write_questions, write_reviews

QUICK = FineTuning(learning_rate=1e-2, epochs=4, batch_size=16, device="cpu")


@pytest.fixture(scope="module", autouse=True)
def pytorch_form():
    """Models run without kernels: in Triton's interpreter a step would take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "0")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory, transformers):
    return export_tiny(tmp_path_factory.mktemp("models") / "model", [" ".join(WORDS)] * 5)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "SST-2")


@pytest.fixture(scope="module")
def tuned(model, reviews):
    """Two seeds on the reviews: the report, the folder, the lines of progress."""
    from runtime.finetuning import finetune

    lines = []
    out = reviews.parent / "tuned"
    report = finetune(model, "sst2", reviews, replace(QUICK, seeds=(3, 8)), out, lines.append)
    return report, out, lines


def test_what_can_be_learnt_is_learnt(tuned):
    # Six words tell the label in 240 sentences. Guessing is right in half of 60 sentences; 0.9 and more by guessing
    # has a probability below 1e-10.
    assert all(result.metrics["accuracy"] >= 0.9 for result in tuned[0].results)


def test_mean_and_deviation_are_those_of_the_seeds(tuned):
    report, out, _ = tuned
    one, other = (result.metrics["accuracy"] for result in report.results)
    assert report.mean["accuracy"] == pytest.approx((one + other) / 2)
    assert report.deviation["accuracy"] == pytest.approx(abs(one - other) / 2**0.5)
    written = json.loads((out / "results.json").read_text())
    assert written["seeds"][1]["metrics"] == report.results[1].metrics
    assert (written["mean"], written["deviation"]) == (report.mean, report.deviation)
    assert written["examples"] == {"train": 240, "dev": 60}
    assert written["settings"]["seeds"] == [3, 8]


def test_the_folder_is_a_model_with_its_code_and_tokenizer_and_no_more(tuned, model):
    _, out, _ = tuned
    names = {path.name for path in out.iterdir()}
    code = {path.name for path in model.glob("*.py")}
    assert names == code | {
        "README.md",
        "config.json",
        "model.safetensors",
        "predictions",
        "results.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not list(out.parent.glob(".*"))


def test_the_saved_model_makes_the_predictions_that_are_written(tuned, reviews, transformers):
    report, out, _ = tuned
    classify = transformers.pipeline(
        "text-classification", model=str(out), trust_remote_code=True, device="cpu"
    )
    header, *rows = (out / "predictions" / "SST-2.tsv").read_text().splitlines()
    assert header == "index\tprediction"
    sentences = [line.split("\t")[1] for line in (reviews / "test.tsv").read_text().splitlines()[1:]]
    labels = [classify(text)[0]["label"] for text in sentences]
    assert rows == [f"{number}\t{label}" for number, label in enumerate(labels)]
    # and it is the model of the seed that was kept
    dev = [line.split("\t") for line in (reviews / "dev.tsv").read_text().splitlines()[1:]]
    right = sum(classify(text)[0]["label"] == label for text, label in dev)
    (kept,) = (result for result in report.results if result.seed == report.kept_seed)
    assert right / len(dev) == pytest.approx(kept.metrics["accuracy"])
    assert kept.metrics["accuracy"] == max(result.metrics["accuracy"] for result in report.results)


def test_the_code_in_the_card_runs(tuned, monkeypatch):
    report, out, _ = tuned
    card = (out / "README.md").read_text()
    assert report.table() in card
    (code,) = (part.split("```")[0] for part in card.split("```python\n")[1:])
    monkeypatch.chdir(out)
    names = {}
    exec(code, names)
    assert names["label"] in ("0", "1")


def test_progress_is_told_in_lines(tuned):
    _, _, lines = tuned
    assert lines[0] == "SST-2: 240 examples to learn from, 60 to be judged on"
    assert sum("step" in line for line in lines) == 20
    assert any(line.startswith("seed 8: step 60 of 60, loss 0.") for line in lines)


@pytest.mark.long
def test_the_same_seed_gives_the_same_model_and_another_one_another(model, reviews):
    from runtime.finetuning import finetune

    short = replace(QUICK, epochs=0.4, seeds=(5, 6))
    losses = [
        [result.training_loss for result in finetune(model, "sst2", reviews, short).results] for _ in range(2)
    ]
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


def test_a_model_can_be_prepared_before_it_is_trained(model, reviews):
    from runtime.finetuning import finetune

    prepared = []

    def freeze(model):
        prepared.append(model)
        for weight in model.parameters():
            weight.requires_grad_(False)
        model.classifier.output.bias.requires_grad_(True)

    report = finetune(model, "sst2", reviews, replace(QUICK, epochs=0.4, seeds=(1, 2)), prepare=freeze)
    assert len({id(model) for model in prepared}) == 2
    # With a bias alone all sentences get the same label.
    assert all(result.metrics["accuracy"] == pytest.approx(0.5, abs=0.2) for result in report.results)


def test_pairs_with_scores_are_learnt_from(model, tmp_path):
    from runtime.finetuning import finetune

    rng = random.Random(0)
    columns = [*"abcdefg", "sentence1", "sentence2", "score"]  # seven of them are not needed
    for name, count in (("train", 240), ("dev", 60)):
        lines = ["\t".join(columns)]
        for _ in range(count):
            label = rng.choice("01")
            pair = f"{sentence(rng, label)}\t{rng.choice(PLAIN)}"
            lines.append("\t".join([*"0123456", pair, "4.0" if label == "1" else "1.0"]))
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    report = finetune(model, "stsb", tmp_path, replace(QUICK, epochs=8))
    # Scores are 1 or 4, told by one word; a model that has not learnt correlates by chance,
    # at about 1/sqrt(60) = 0.13: 0.7 is five times that.
    assert report.mean["pearson"] > 0.7


def test_questions_are_learnt_with_and_without_answers(model, tmp_path):
    from runtime.finetuning import finetune

    data = write_questions(tmp_path / "data")
    settings = replace(QUICK, epochs=4, max_length=32, n_best=3)
    report = finetune(model, "squad2", data, settings, tmp_path / "out")
    metrics = report.mean
    # The answer is one word of three to nine, or none: guessing is right for a quarter at best.
    assert metrics["f1"] > 80
    assert metrics["HasAns_f1"] > 70
    assert metrics["NoAns_f1"] > 50
    assert metrics["best_f1"] >= metrics["f1"] - 1e-9
    written = {
        path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / "predictions").iterdir()
    }
    dev = json.loads((data / "dev-v2.0.json").read_text())["data"][0]["paragraphs"]
    ids = [paragraph["qas"][0]["id"] for paragraph in dev]
    for name in ("predictions", "nbest_predictions", "null_odds"):
        assert list(written[name]) == ids
    for identity in ids:
        answer, odds = written["predictions"][identity], written["null_odds"][identity]
        best = written["nbest_predictions"][identity]
        assert answer == ("" if odds > 0 else next(entry["text"] for entry in best if entry["text"]))
        assert sum(entry["probability"] for entry in best) == pytest.approx(1)
    exact = sum(
        written["predictions"][p["qas"][0]["id"]] == (p["qas"][0]["answers"] or [{"text": ""}])[0]["text"]
        for p in dev
    )
    assert metrics["exact"] == pytest.approx(100 * exact / len(dev))


def test_version_1_of_squad_is_learnt(model, tmp_path):
    from runtime.finetuning import finetune

    data = write_questions(tmp_path / "data", "v1.1")
    report = finetune(model, "SQuAD", data, replace(QUICK, epochs=4, max_length=40))
    assert set(report.mean) == {"exact_match", "f1"}
    assert report.mean["f1"] > 80  # one word of four to nine


@pytest.fixture(scope="module")
def bert(tmp_path_factory, transformers, model):
    """A BERT of transformers' own, with a tokenizer that gives types of tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {word: number for number, word in enumerate([*names.values(), "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    folder = tmp_path_factory.mktemp("models") / "bert"
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, **names
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("task", "version"), [("squad", "v1.1"), ("squad2", "v2.0")])
def test_a_model_of_transformers_own_is_trained_too_in_16_bits(bert, tmp_path, task, version):
    from runtime.finetuning import finetune

    data, lines = write_questions(tmp_path / "data", version, train=32, dev=8), []
    settings = replace(QUICK, epochs=1, precision="bfloat16", max_length=40)
    report = finetune(bert, task, data, settings, tmp_path / "out", lines.append)
    assert 0 <= report.mean["f1"] <= 100
    # BERT's masked language model has all that this needs but the head.
    assert not any("drawn anew" in line for line in lines)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["architectures"] == ["BertForQuestionAnswering"]


def test_types_of_tokens_reach_the_model(bert, tmp_path):
    from runtime.finetuning import finetune

    for name in ("train", "dev"):
        rows = ["0\tfilm plot\tactor\tentailment", "1\tscene\tmusic ending\tnot_entailment"] * 4
        (tmp_path / f"{name}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n")
    types = []

    def watch(model):
        model.register_forward_pre_hook(
            lambda module, _, given: types.append(given["token_type_ids"].max().item()), with_kwargs=True
        )

    finetune(bert, "rte", tmp_path, replace(QUICK, epochs=1), prepare=watch)
    assert set(types) == {1}


def test_a_tuned_model_can_learn_another_task(tuned, tmp_path):
    from runtime.finetuning import finetune

    rng = random.Random(0)
    for file in ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"):
        rows = [f"{rng.choice(PLAIN)}\t{rng.choice(PLAIN)}\tneutral" for _ in range(16)]
        (tmp_path / file).write_text("\n".join(["sentence1\tsentence2\tgold_label", *rows]) + "\n")
    report = finetune(tuned[1], "mnli", tmp_path, replace(QUICK, epochs=1))
    assert set(report.mean) == {"accuracy_matched", "accuracy_mismatched"}


def test_what_is_there_is_not_overwritten(model, reviews, tmp_path):
    from runtime.finetuning import finetune

    with pytest.raises(FolderExistsError, match="exists already"):
        finetune(tmp_path / "no model", "sst2", tmp_path / "no data", QUICK, tmp_path)


def test_a_training_that_diverges_writes_nothing(model, reviews, tmp_path):
    from runtime.finetuning import finetune
    from runtime.training import TrainingDiverged

    def break_it(model):
        model.classifier.output.bias.data.fill_(float("nan"))

    with pytest.raises(
        TrainingDiverged, match=r"seed 0 diverged: its loss is nan; a learning rate below 0.01"
    ):
        finetune(model, "sst2", reviews, QUICK, tmp_path / "out", prepare=break_it)
    assert not list(tmp_path.iterdir())


def test_the_command_tells_what_came_of_it(opnas, model, reviews, tmp_path):
    options = ["--task", "sst2", "--data", reviews, "--seeds", "0,1", "--epochs", "0.5", "--keep", "median"]
    code, printed, _ = opnas("finetune", model, *options, "--device", "cpu", "--out", tmp_path / "out")
    assert code == 0
    (header,) = (line.split() for line in printed.splitlines() if line.startswith("metric"))
    assert header == ["metric", "seed", "0", "seed", "1", "mean", "deviation"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    worst = min(report["seeds"], key=lambda result: result["metrics"]["accuracy"])
    assert report["kept_seed"] == worst["seed"]  # the lower of two is their median


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--data", "{tmp}/none", "is no folder"),
        ("--task", "sst3", "unknown task 'sst3'"),
        ("--seeds", "0,x", "--seeds must be whole numbers"),
        ("--seeds", "1,1", "seeds must differ"),
        ("--epochs", "0", "epochs must be a number above 0"),
        ("--max-length", "65", f"the model takes {MAX_POSITIONS} tokens"),
        ("--precision", "float16", "float16 needs a GPU"),
        ("--data", "{tmp}", "has no train.tsv"),
    ],
)
def test_mistakes_are_told_on_one_line_and_nothing_is_written(
    opnas, model, reviews, tmp_path, option, value, problem
):
    given = {"--task": "sst2", "--data": str(reviews), "--device": "cpu", "--out": str(tmp_path / "out")}
    given[option] = value.format(tmp=tmp_path)
    code, _, error = opnas("finetune", model, *(part for pair in given.items() for part in pair))
    assert code == 2
    assert len(error.splitlines()) == 1
    assert problem in error
    assert not list(tmp_path.iterdir())


def test_malformed_data_is_told_with_its_line_and_nothing_is_written(opnas, model, tmp_path):
    data = write_reviews(tmp_path / "data", train=4, dev=4)
    with (data / "dev.tsv").open("a") as file:
        file.write("an ending without a label\n")
    code, _, error = opnas("finetune", model, "--task", "sst2", "--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert f"{data / 'dev.tsv'}, line 6: it has 1 fields" in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_without_a_model_or_a_tokenizer_is_told(model, reviews, tmp_path):
    import shutil

    from runtime.finetuning import finetune

    with pytest.raises(InputError, match=r"holds no model: it has no config\.json"):
        finetune(tmp_path, "sst2", reviews, QUICK)
    (tmp_path / "config.json").write_text("{}")  # as that of a search
    with pytest.raises(InputError, match="has no tokenizer"):
        finetune(tmp_path, "sst2", reviews, QUICK)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded with AutoConfig: "):
        finetune(tmp_path, "sst2", reviews, QUICK)
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be loaded with AutoModelForSequenceClassification"):
        finetune(copy, "sst2", reviews, QUICK)


def test_weights_of_another_model_are_refused(model, reviews, tmp_path):
    import shutil

    import torch
    from safetensors.torch import save_file

    from runtime.finetuning import finetune

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    save_file({"other.weight": torch.zeros(2)}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"its weights are those of another model; none begins with backbone\."
    ):
        finetune(copy, "sst2", reviews, QUICK)
