"""`finetune`: a pretrained model learns a task of GLUE or SQuAD, once for each of several seeds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from codegen.rendering import render
from graphir import InputError
from graphir.files import write_json
from runtime.auto_classes import load_by, quiet_transformers
from runtime.finetuning_config import FineTuning
from runtime.finetuning_report import FineTuningReport, SeedResult, seed_to_keep
from runtime.quiet_trainer import check_loss, make_trainer, predict, uses_gpu
from runtime.run import new_folder, refuse_existing
from runtime.tasks.features import Features
from runtime.tasks.task import EncodedTask, Evaluation, Task, open_task

__all__ = ["FineTuning", "FineTuningReport", "finetune"]

PREDICTIONS = "predictions"
"""The folder of predictions within the one that is written."""


def finetune(
    folder: str | Path,
    task: str,
    data: str | Path,
    settings: FineTuning | None = None,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> FineTuningReport:
    """Train a model on a task and judge it on the development data, once for each seed.

    The same seed gives the same model on a CPU with the same number of threads. Code in ``folder`` is run: it is what
    defines the model.

    Args:
        folder: what ``AutoModel.from_pretrained`` loads, with its tokenizer: an export, or a model of the ecosystem
            with safetensors.
        task: ``cola``, ``sst2``, ``mrpc``, ``stsb``, ``qqp``, ``mnli``, ``qnli``, ``rte``, ``wnli``, ``squad`` or
            ``squad2``.
        data: the folder with the benchmark's own files.
        settings: `FineTuning` by default.
        out: a folder to make with the model of one seed, its tokenizer, its code, a card, ``results.json`` and
            ``predictions/``: the submission files of GLUE for the files without labels that ``data`` has, or the
            answers of SQuAD to the development data. None: nothing is written.
        progress: is called with lines that tell how far the work is.
        prepare: is called with each seed's model before it is trained, to change it for an experiment.

    Returns:
        The metrics of every seed, with mean and deviation.

    Raises:
        InputError: for data that cannot be used (with file, line and what is expected), a folder that holds no model,
            or settings that do not fit; before anything is trained.
        FolderExistsError: where ``out`` exists.
        TrainingDiverged: where a loss is not finite.
        OSError: where a file cannot be read or written.
    """
    settings, tell = settings or FineTuning(), progress or (lambda line: None)
    if out is not None:
        refuse_existing(Path(out))
    uses_gpu(settings)  # refuses what is not to be had, before the work begins
    opened = open_task(task, data)
    learnt, judged = opened.sizes
    tell(f"{opened.title}: {learnt:,} examples to learn from, {judged:,} to be judged on")
    with quiet_transformers(), nullcontext() if out is None else new_folder(Path(out)) as written:
        session = _Session(Path(folder), opened, settings, tell, prepare, written)
        return session.run()


@dataclass
class _Session:
    """All seeds of one task."""

    folder: Path
    task: Task
    settings: FineTuning
    tell: Callable[[str], None]
    prepare: Callable[[Any], None] | None
    out: Path | None
    results: list[SeedResult] = field(default_factory=list)

    def run(self) -> FineTuningReport:
        tokenizer, max_length = _load_tokenizer(self.folder, self.task, self.settings)
        encoded = self.task.encode(tokenizer, max_length, self.settings)
        for seed in self.settings.seeds:
            self._train(seed, tokenizer, encoded)
        kept = self._kept()
        report = FineTuningReport(self.task.title, self.settings, tuple(self.results), kept, self.task.sizes)
        if self.out is not None:
            for path in self._seed_folder(kept).iterdir():
                path.rename(self.out / path.name)
            for result in self.results:
                shutil.rmtree(self._seed_folder(result.seed), ignore_errors=True)
            write_json(self.out / "results.json", report.to_dict())
            name = self.folder.resolve().name
            card = render("transformers/finetuned_card.md.jinja", report=report, task=self.task, name=name)
            (self.out / "README.md").write_text(card, encoding="utf-8")
        return report

    def _train(self, seed: int, tokenizer: Any, encoded: EncodedTask) -> None:
        model = _load_model(self.folder, self.task, seed, self.tell)
        if self.prepare is not None:
            self.prepare(model)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = make_trainer(model, tokenizer, encoded.train, self.settings, seed, scratch, self.tell)
            done = trainer.train()
            check_loss(done.training_loss, seed, self.settings.learning_rate)

            def outputs(features: Features) -> tuple[NDArray[np.float32], ...]:
                return predict(trainer, features)

            evaluation = encoded.evaluate(outputs)
            self.results.append(
                SeedResult(
                    seed,
                    evaluation.metrics,
                    done.training_loss,
                    done.global_step,
                    done.metrics["train_runtime"],
                )
            )
            shown = ", ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items())
            self.tell(f"seed {seed}: {shown}")
            self._save(seed, model, tokenizer, evaluation)

    def _save(self, seed: int, model: Any, tokenizer: Any, evaluation: Evaluation) -> None:
        """Keep a model that may still be chosen; drop those that cannot be chosen any more."""
        if self.out is None:
            return
        if self.settings.keep == "best":
            if self._kept() != seed:
                return
            for result in self.results:
                shutil.rmtree(self._seed_folder(result.seed), ignore_errors=True)
        folder = self._seed_folder(seed)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / PREDICTIONS).mkdir()
        for name, text in evaluation.predictions().items():
            (folder / PREDICTIONS / name).write_text(text, encoding="utf-8")

    def _kept(self) -> int:
        return seed_to_keep(self.results, self.task.ranked_by, self.settings.keep)

    def _seed_folder(self, seed: int) -> Path:
        assert self.out is not None
        return self.out / f".seed-{seed}"


def _load_tokenizer(folder: Path, task: Task, settings: FineTuning) -> tuple[Any, int]:
    """The tokenizer, and how many tokens a sequence may have."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no model: it has no config.json; make one with opnas export")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise InputError(f"{folder} has no tokenizer: tokenizer.json is expected beside the model")
    config = load_by(folder, "AutoConfig")
    tokenizer = load_by(folder, "AutoTokenizer")
    if task.auto_class == "AutoModelForQuestionAnswering" and not tokenizer.is_fast:
        raise InputError(f"{folder}: its tokenizer knows no offsets; a fast one is expected (tokenizer.json)")
    positions = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 65_536))
    if settings.max_length is not None and settings.max_length > positions:
        raise InputError(
            f"max_length {settings.max_length:,} is too long: the model takes {positions:,} tokens"
        )
    return tokenizer, settings.max_length or min(task.max_length, positions)


def _load_model(folder: Path, task: Task, seed: int, tell: Callable[[str], None]) -> Any:
    """The model with a new head, drawn with ``seed``."""
    transformers.set_seed(seed)
    model, info = load_by(
        folder,
        task.auto_class,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # the head may be that of another task
        output_loading_info=True,
        **task.model_settings,
    )
    prefix = f"{model.base_model_prefix}."
    expected = {name for name in model.state_dict() if name.startswith(prefix)}
    missing = expected & {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if missing == expected:
        raise InputError(f"{folder}: its weights are those of another model; none begins with {prefix}")
    if missing:
        shown = ", ".join(sorted(missing)[:3])
        tell(f"{len(missing)} weights of the model are not in {folder} and are drawn anew: {shown} ...")
    return model
