"""`pretrain`: from a backbone and a text to a folder that transformers loads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from graphir.files import TEMPORARY_SUFFIX, read_json, write_json
from runtime.pretraining.batches import Batches, held_out_batches, make_masking
from runtime.pretraining.checkpoint import restore_newest
from runtime.pretraining.devices import open_accelerator
from runtime.pretraining.loop import Loop
from runtime.pretraining.metric_log import MetricLog
from runtime.pretraining.plan import make_plan, refuse_other_plan
from runtime.pretraining.report import REPORT_FILE, PretrainingReport, make_report, read_report, write_report
from runtime.pretraining.reporter import PretrainingReporter, Silent
from runtime.pretraining.settings import Pretraining
from runtime.pretraining.starting_point import (
    FreshOrTrained,
    StartingPoint,
    choose_tokenizer,
    find_start,
    make_model,
    trained_model,
)
from runtime.pretraining.text_source import TextSource, open_text
from runtime.pretraining.token_file import Blocks
from runtime.pretraining.tokenised_text import TokenisedText, tokenise_text
from runtime.pretraining.update import Update
from runtime.run import RunError, new_folder, refuse_existing
from runtime.transformers_folder import save_for_transformers

if TYPE_CHECKING:
    from accelerate import Accelerator

WORK_FOLDER = ".pretraining"
"""Below the folder of a pretraining, until it is finished: plan, tokens, checkpoints."""

LOG_FOLDER = "logs"


@dataclass(frozen=True)
class _Job:
    """What was asked for.

    Attributes:
        tokens: where token files are kept; None for the working folder.
    """

    out: Path
    settings: Pretraining
    start: StartingPoint
    text: TextSource
    held_out: TextSource | None
    tokenizer: Tokenizer | int
    tokens: Path | None

    @property
    def work(self) -> Path:
        return self.out / WORK_FOLDER


def pretrain(
    target: FreshOrTrained,
    text: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: Pretraining | None = None,
    *,
    size: str | None = None,
    held_out: str | Path | Sequence[str | Path] | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    tokens: str | Path | None = None,
    resume: bool = False,
    reporter: PretrainingReporter | None = None,
    log: bool = True,
) -> PretrainingReport:
    """Pretrain a masked language model, and write a folder that the Auto classes of transformers load.

    The text is tokenised once, into a file; neither it nor the text is ever in memory as a whole. Training can be
    killed at any time and gone on with (``resume``); on a CPU the losses and weights in the end are then those of
    a training that was never interrupted, to the last bit (with the same number of threads).

    Args:
        target: a backbone or the name of one, for new weights; or a folder with a model that goes on learning (see
            `runtime.pretraining.starting_point.find_start`).
        text: what to learn from (see `runtime.pretraining.text_source.open_text`).
        out: the folder to make. While it lasts, what a pretraining needs to go on is kept in it.
        settings: `Pretraining()` by default.
        size: ``"small"``, ``"base"`` or ``"large"``, for a backbone in another size than its own.
        held_out: text to judge the model on; without it nothing is judged.
        tokenizer: one made before, its file or its folder; by default that of ``target``, or one trained on the text.
        tokens: folder to keep token files and tokenizers in. Pretrainings on the same text that name the same folder
            make them once. By default they are made in ``out``, and removed in the end.
        resume: go on with a pretraining in ``out`` that was interrupted. Where there is none, it begins; where it is
            finished, its report is read.
        reporter: told of progress; by default nobody.
        log: whether to write a log for TensorBoard into ``out/logs``.

    Raises:
        InputError: for text that cannot be read, naming file and line, and for settings that do not fit.
        RunError: where ``out`` exists, or was begun with something else.
        TargetError: where ``target`` is no backbone and no model.
        TrainingDiverged: where a loss is not finite. Checkpoints from before it are kept.
    """
    out, settings = Path(out), settings or Pretraining()
    start = find_start(target, size)
    job = _Job(
        out,
        settings,
        start,
        open_text(text),
        None if held_out is None else open_text(held_out),
        choose_tokenizer(start, tokenizer, settings.vocab_size),
        None if tokens is None else Path(tokens),
    )
    with open_accelerator(settings) as accelerator:
        told = reporter if reporter is not None and accelerator.is_main_process else Silent()
        with accelerator.main_process_first():  # the others find what it makes
            if accelerator.is_main_process and not resume:
                refuse_existing(out)
            plan = make_plan(
                settings, start, job.text, job.held_out, job.tokenizer, accelerator.num_processes
            )
            finished = (out / REPORT_FILE).exists()
            prepared = None if finished else _prepare(job, plan, told)
        if prepared is None:
            return _finished(job, plan, told)
        return _learn(job, plan, *prepared, accelerator, told, log)


def _summary(report: PretrainingReport) -> str:
    told = f"pretrained in {report.folder}: {report.parameters:,} parameters, {report.tokens:,} tokens"
    if report.held_out is None:
        return told
    return f"{told}, held-out loss {report.held_out['loss']:.4f}, accuracy {report.held_out['accuracy']:.4f}"


def _finished(job: _Job, plan: dict[str, Any], reporter: PretrainingReporter) -> PretrainingReport:
    report, before = read_report(job.out)
    refuse_other_plan(before, plan, job.out)
    shutil.rmtree(job.work, ignore_errors=True)  # where the end itself was interrupted
    reporter.note(_summary(report))
    return report


def _prepare(
    job: _Job, plan: dict[str, Any], reporter: PretrainingReporter
) -> tuple[TokenisedText, TokenisedText | None]:
    """The text as tokens; made, together with the folder, where they are not there yet."""
    path = job.work / "plan.json"
    if not job.out.exists():
        with new_folder(job.out) as temporary:
            work = temporary / WORK_FOLDER
            work.mkdir()
            _tokenise(job, work, reporter)
            write_json(work / "plan.json", plan)
    elif not path.is_file():
        raise RunError(f"{job.out} is not the folder of a pretraining: choose another --out")
    else:
        for leftover in job.work.glob(f".*{TEMPORARY_SUFFIX}"):  # of a killed process
            shutil.rmtree(leftover, ignore_errors=True)
    refuse_other_plan(read_json(path), plan, job.out)
    return _tokenise(job, job.work, reporter)


def _tokenise(
    job: _Job, work: Path, reporter: PretrainingReporter
) -> tuple[TokenisedText, TokenisedText | None]:
    folder = job.tokens or work / "tokens"
    learnt = tokenise_text(job.text, folder, job.tokenizer, reporter.note)
    Blocks(
        learnt.file, job.settings.seq_len, job.text.name
    )  # refuses too little of it before anything is made
    if job.held_out is None:
        return learnt, None
    judged = tokenise_text(job.held_out, folder, learnt.tokenizer, reporter.note)
    Blocks(judged.file, job.settings.seq_len, job.held_out.name)
    return learnt, judged


def _learn(
    job: _Job,
    plan: dict[str, Any],
    learnt: TokenisedText,
    judged: TokenisedText | None,
    accelerator: Accelerator,
    reporter: PretrainingReporter,
    log: bool,
) -> PretrainingReport:
    settings = job.settings
    masking = make_masking(settings.masking, learnt.tokenizer)
    blocks = Blocks(learnt.file, settings.seq_len, job.text.name)
    batches = Batches(blocks, masking, settings, accelerator.process_index, accelerator.num_processes)
    held_out = []
    if judged is not None and job.held_out is not None:
        held_out = held_out_batches(
            Blocks(judged.file, settings.seq_len, job.held_out.name), masking, settings
        )
    model = make_model(job.start, settings, learnt.tokenizer.get_vocab_size())
    update = Update(model, settings, accelerator)
    progress, complaints = restore_newest(job.work, update)
    for complaint in complaints:
        reporter.note(complaint)
    if accelerator.scaler is not None and progress.scaler:
        accelerator.scaler.load_state_dict(progress.scaler)
    epochs = settings.steps * settings.batch_size / len(blocks)
    reporter.note(
        f"{learnt.file.tokens:,} tokens, {len(blocks):,} sequences, {epochs:.1f} epochs of them; "
        + (f"going on after step {progress.steps}" if progress.steps else f"{settings.steps} steps to do")
    )
    with ExitStack() as opened:
        if log and accelerator.is_main_process:
            reporter = MetricLog(job.out / LOG_FOLDER, progress.steps + 1, reporter)
            opened.callback(reporter.close)
        Loop(update, batches, held_out, progress, job.work, reporter).run()
    parameters = sum(weight.numel() for weight in update.weights)
    report = make_report(job.out, settings, progress, parameters)
    if accelerator.is_main_process:
        _publish(job, plan, update, report, learnt.tokenizer)
    accelerator.wait_for_everyone()
    reporter.note(_summary(report))
    return report


def _publish(
    job: _Job, plan: dict[str, Any], update: Update, report: PretrainingReport, tokenizer: Tokenizer
) -> None:
    """Write the model beside what is being worked with, and move it file by file; the report comes last and says that
    all are there. Who is interrupted here does it again."""
    held_out = report.held_out or {}
    model = trained_model(
        job.start,
        update.model,
        {f"held-out {name}": held_out[name] for name in ("accuracy", "loss") if name in held_out},
        f"{job.start.origin}, pretrained for {job.settings.steps:,} steps of masked language modelling on "
        f"{job.settings.batch_size} sequences of {job.settings.seq_len} tokens.",
    )
    written = job.work / "model"
    with new_folder(written, replace_old=True) as temporary:
        save_for_transformers(model, temporary, tokenizer)
        write_report(report, plan, str(update.accelerator.device), temporary / REPORT_FILE)
    for path in sorted(written.iterdir(), key=lambda path: path.name == REPORT_FILE):
        path.replace(job.out / path.name)
    shutil.rmtree(job.work)
