"""A whole pretraining, from a text to a folder that transformers loads."""

import json
import math
import os
import signal

import pytest
import torch
from torch.nn import functional as F

from graphir import Backbone, ConvLayer, InputError, presets
from runtime.masking import IGNORED
from runtime.pretraining.batches import held_out_batches, make_masking
from runtime.pretraining.display import PlainDisplay
from runtime.pretraining.pretrain import pretrain
from runtime.pretraining.report import read_report
from runtime.pretraining.settings import Pretraining
from runtime.pretraining.text_source import open_text
from runtime.pretraining.token_file import Blocks
from runtime.pretraining.tokenised_text import tokenise_text
from runtime.pretraining.update import Update
from runtime.run import RunError
from runtime.targets import TargetError
from runtime.tokenizer import load_tokenizer
from runtime.training import TrainingDiverged

BACKBONE = Backbone((ConvLayer(3), presets.get("bert").layers[0]), 16, 2, 32, name="tiny")
SETTINGS = Pretraining(
    steps=30,
    seq_len=32,
    batch_size=8,
    learning_rate=1e-2,
    vocab_size=300,
    checkpoint_every=8,
    evaluate_every=10,
    held_out_sequences=20,
    device="cpu",
)


@pytest.fixture(scope="module", autouse=True)
def no_drawings():
    """Drawings of the same backbone again and again would take half of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.model_folder._draw", lambda backbone, folder: False)
        yield


def changed(**changes):
    return Pretraining(**SETTINGS.to_dict() | changes)


@pytest.fixture(scope="module")
def held_out_file(corpus_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("held-out") / "text.txt"
    path.write_text("\n\n".join(corpus_file.read_text().split("\n\n")[::-1][:60]))
    return path


@pytest.fixture(scope="module")
def token_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, corpus_file, held_out_file, token_folder):
    """The folder, not to be written, and the report."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("pretrained") / "model"
    report = pretrain(BACKBONE, corpus_file, out, SETTINGS, held_out=held_out_file, tokens=token_folder)
    return out, report


def test_the_loss_falls(pretrained):
    _, report = pretrained
    assert len(report.losses) == 30
    assert report.losses[0] == pytest.approx(math.log(300), abs=0.3)  # nothing is known yet
    assert sum(report.losses[-5:]) / 5 < report.losses[0] - 1
    assert [evaluation["steps"] for evaluation in report.evaluations] == [10, 20, 30]
    assert report.tokens == 30 * 8 * 32


def test_the_auto_classes_load_it_and_find_the_same_held_out_loss(
    pretrained, transformers, held_out_file, tmp_path
):
    out, report = pretrained
    model = transformers.AutoModelForMaskedLM.from_pretrained(out, trust_remote_code=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer("the graph")["input_ids"][0] == tokenizer.cls_token_id
    own = load_tokenizer(out / "tokenizer.json")
    text = tokenise_text(open_text(held_out_file), tmp_path, own)
    batches = held_out_batches(Blocks(text.file, 32, "held out"), make_masking("token", own), SETTINGS)
    losses = []
    with torch.no_grad():
        for batch in batches:
            logits = model(batch.input_ids).logits
            flat = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="none")
            losses.append(flat[batch.labels.flatten() != IGNORED])
    # float32 sums of another order.
    assert torch.cat(losses).mean().item() == pytest.approx(report.held_out["loss"], rel=1e-4)


def test_the_folder_holds_a_report_and_nothing_to_work_with(pretrained):
    out, report = pretrained
    names = {path.name for path in out.iterdir()}
    assert not [name for name in names if name.startswith(".")]
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "pretraining.json",
        "README.md",
        "logs",
    } <= names
    again, plan = read_report(out)
    assert again == report
    assert plan["settings"]["learning_rate"] == 0.01
    written = json.loads((out / "pretraining.json").read_text())
    assert written["held_out"] == report.held_out
    assert {"torch", "tokenizers", "python"} <= written["versions"].keys()
    assert "held-out" in (out / "README.md").read_text()


def test_tensorboard_reads_the_log(pretrained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, report = pretrained
    events = EventAccumulator(str(out / "logs"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("train/loss")}
    assert sorted(logged) == [1, 10, 20, 30]
    assert logged[20] == pytest.approx(report.losses[19], rel=1e-6)
    assert [event.step for event in events.Scalars("held-out/accuracy")] == [10, 20, 30]


def test_the_same_seed_gives_the_same_model_and_another_one_another(
    pretrained, corpus_file, held_out_file, token_folder, tmp_path
):
    out, report = pretrained
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    shared = {"held_out": held_out_file, "tokens": token_folder, "log": False}
    again = pretrain(BACKBONE, corpus_file, tmp_path / "again", SETTINGS, **shared)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random numbers were disturbed"
    assert again.losses == report.losses
    weights = "model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (out / weights).read_bytes()
    other = pretrain(BACKBONE, corpus_file, tmp_path / "other", changed(seed=1, steps=2), tokens=token_folder)
    assert other.losses[0] != report.losses[0]
    assert other.held_out is None
    assert len(list(token_folder.glob("*.tokens"))) == 2, "the text was tokenised more than once"


def test_a_finished_pretraining_is_not_done_again(pretrained, corpus_file, held_out_file):
    out, report = pretrained
    assert pretrain(BACKBONE, corpus_file, out, SETTINGS, held_out=held_out_file, resume=True) == report
    with pytest.raises(RunError, match="exists already"):
        pretrain(BACKBONE, corpus_file, out, SETTINGS, held_out=held_out_file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": changed(steps=31)}, "begun with steps 30, not 31"),
        ({"settings": changed(masking="word")}, "begun with masking 'token', not 'word'"),
        ({"held_out": None}, "another held-out text"),
        ({"text": "held_out"}, "another text"),
        ({"target": Backbone((ConvLayer(3),), 16, 2, 32, name="other")}, "another backbone"),
    ],
)
def test_going_on_with_something_else_is_refused(pretrained, corpus_file, held_out_file, changes, message):
    out, _ = pretrained
    asked = {
        "target": BACKBONE,
        "text": corpus_file,
        "settings": SETTINGS,
        "held_out": held_out_file,
    } | changes
    asked["text"] = held_out_file if asked["text"] == "held_out" else asked["text"]
    with pytest.raises(RunError, match=message):
        pretrain(out=out, resume=True, **asked)
    # What no weight depends on may change.
    free = {**asked, "target": BACKBONE, "text": corpus_file, "held_out": held_out_file}
    pretrain(out=out, resume=True, **free | {"settings": changed(checkpoint_every=3, evaluate_every=0)})


def test_a_model_goes_on_learning_with_its_own_tokenizer(pretrained, corpus_file, tmp_path):
    out, report = pretrained
    more = pretrain(out, corpus_file, tmp_path / "more", changed(steps=3, learning_rate=1e-4), log=False)
    assert more.losses[0] < report.losses[0] - 1
    assert (tmp_path / "more" / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="seq_len 64 is too long: this model has 32 positions"):
        pretrain(out, corpus_file, tmp_path / "long", changed(seq_len=64))
    with pytest.raises(TargetError, match="without a size"):
        pretrain(out, corpus_file, tmp_path / "small", SETTINGS, size="small")


def test_a_plain_torch_folder_goes_on_learning_too(finished_run, corpus_file, tmp_path):
    settings = changed(steps=2)
    report = pretrain(finished_run / "best", corpus_file, tmp_path / "out", settings, log=False)
    assert report.parameters > 0
    fresh = pretrain(str(finished_run), corpus_file, tmp_path / "fresh", settings, log=False)
    assert fresh.losses[0] != report.losses[0]


def test_divergence_is_an_error_and_no_checkpoint_holds_it(corpus_file, tmp_path, token_folder):
    settings = changed(checkpoint_every=1, steps=10)

    step = Update.step

    def poisoned(self, number, parts):
        if number == 3:
            with torch.no_grad():
                self.weights[0].fill_(float("inf"))
        return step(self, number, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Update, "step", poisoned)
        with pytest.raises(TrainingDiverged, match="diverged at step 4 of 10"):
            pretrain(BACKBONE, corpus_file, tmp_path / "out", settings, tokens=token_folder, log=False)
    kept = sorted(path.name for path in (tmp_path / "out" / ".pretraining").glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-3"]
    report = pretrain(
        BACKBONE, corpus_file, tmp_path / "out", settings, tokens=token_folder, log=False, resume=True
    )
    assert len(report.losses) == 10


def test_a_checkpoint_that_cannot_be_read_is_passed_over(corpus_file, tmp_path, token_folder):
    class Stop(Exception):
        pass

    class Stopper(PlainDisplay):
        def __init__(self, at):
            self.at, self.notes = at, []

        def note(self, text):
            self.notes.append(text)

        def step(self, record):
            if record.step == self.at:
                raise Stop

    shared = {"settings": changed(steps=12, checkpoint_every=4), "tokens": token_folder, "log": False}
    whole = pretrain(BACKBONE, corpus_file, tmp_path / "whole", **shared)
    with pytest.raises(Stop):
        pretrain(BACKBONE, corpus_file, tmp_path / "out", **shared, reporter=Stopper(10))
    newest = tmp_path / "out" / ".pretraining" / "checkpoint-8" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    reporter = Stopper(99)
    again = pretrain(BACKBONE, corpus_file, tmp_path / "out", **shared, reporter=reporter, resume=True)
    assert any("checkpoint-8 cannot be read" in note for note in reporter.notes)
    assert any("going on after step 4" in note for note in reporter.notes)
    assert again.losses == whole.losses


def test_who_is_interrupted_at_the_very_end_need_not_learn_again(corpus_file, tmp_path, token_folder):
    shared = {"settings": changed(steps=4), "tokens": token_folder, "log": False}
    write = "runtime.pretraining.pretrain.write_report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            pretrain(BACKBONE, corpus_file, tmp_path / "out", **shared)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".pretraining"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Update, "step", lambda *arguments: pytest.fail("a step was done again"))
        report = pretrain(BACKBONE, corpus_file, tmp_path / "out", **shared, resume=True)
    assert len(report.losses) == 4


def test_nothing_is_left_of_a_text_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(InputError, match=r"bad\.txt, line 2: it is not UTF-8"):
        pretrain(BACKBONE, tmp_path / "bad.txt", tmp_path / "out", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]


@pytest.fixture
def command(corpus_file, tmp_path, token_folder):
    BACKBONE.save(tmp_path / "tiny.json")
    return [
        *("pretrain", tmp_path / "tiny.json", "--text", corpus_file, "--out", tmp_path / "out"),
        *("--steps", 6, "--seq-len", 32, "--batch-size", 4, "--vocab-size", 300, "--checkpoint-every", 2),
        *("--device", "cpu", "--tokens", token_folder),
    ]


def test_the_command_shows_progress_and_says_what_came_of_it(opnas, command, held_out_file, tmp_path):
    code, out, err = opnas(
        *command, "--held-out", held_out_file, *("--masking", "word", "--precision", "bfloat16")
    )
    assert code == 0, err
    assert "step 6/6, loss " in out
    assert "tokens/s" in out
    assert "left" in out
    assert "held-out loss" in out.splitlines()[-1]
    assert str(tmp_path / "out") in out.splitlines()[-1]


def test_a_signal_ends_the_command_with_a_line_that_says_how_to_go_on(opnas, command, monkeypatch, tmp_path):
    step = PlainDisplay.step

    def killed(self, record):
        step(self, record)
        if record.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(PlainDisplay, "step", killed)
        code, _, err = opnas(*command)
    assert code == 128 + signal.SIGTERM
    assert err == "opnas: stopped by SIGTERM; go on with the same command and --resume\n"
    code, out, err = opnas(*command, "--resume")
    assert code == 0, err
    assert "going on after step 2" in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--text", "none.txt"], "none.txt"),
        (["--steps", "0"], "steps"),
        (["--tokenizer", "none.json"], "none.json"),
        (["--held-out", "none.txt"], "none.txt"),
    ],
)
def test_the_command_refuses_on_one_line_and_writes_nothing(opnas, command, tmp_path, options, word):
    code, _, err = opnas(*command, *options)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert word in err
    assert not (tmp_path / "out").exists()
