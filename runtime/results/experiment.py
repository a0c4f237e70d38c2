"""The comparison of `make results`, stage by stage. What is finished is not done again."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphir import Backbone, InputError
from graphir.files import write_json
from runtime.jobs import Job, Tell, carry_out
from runtime.machine import installed_versions
from runtime.results.settings import (
    ABLATIONS,
    AUTOBERT_ZERO,
    BERT,
    COMPARED,
    LONG,
    SEARCHED,
    ResultsSettings,
    known_backbones,
)
from runtime.results.work import finetune_model, pretrain_backbone, search_backbone

TRAIN, HELD_OUT = "wikitext-2/valid.txt", "wikitext-2/test.txt"
TASK_FOLDER = "glue"
LAYERS = 12


class Experiment:
    """Everything that is asked of one folder of data.

    Args:
        data: holds ``wikitext-2/valid.txt`` (learnt from), ``wikitext-2/test.txt`` (held out) and ``glue/SST-2`` and
            ``glue/MRPC`` in the benchmark's own form.
        out: where models and numbers are put; a folder of an experiment that was stopped goes on.
        settings: sizes and times.
        workers: processes at a time; 0 works in this one.
        tell: told of each result.

    Raises:
        InputError: where a file is missing, or ``out`` is of other settings.
    """

    def __init__(self, data: Path, out: Path, settings: ResultsSettings, workers: int, tell: Tell) -> None:
        self.data, self.out, self.settings, self.workers, self.tell = data, out, settings, workers, tell
        self.text, self.held_out = data / TRAIN, data / HELD_OUT
        tasks = [data / TASK_FOLDER / task / "train.tsv" for task, _ in settings.epochs]
        for path in (self.text, self.held_out, *tasks):
            if not path.is_file():
                raise InputError(f"{path} is missing: the folder of data must hold it")
        _refuse_other_settings(out, settings)
        self.backbones = known_backbones(settings)
        self.seconds: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """All stages; what the last of `stages` has."""
        *_, results = self.stages()
        return results

    def stages(self) -> Iterator[dict[str, Any]]:
        """The results after each stage, which are also in ``out/results.json``; a later one has all of an earlier."""
        self._tokenise()
        searched = self._search()
        tuning = self._tune()
        chosen = {model: min(trials, key=lambda trial: trial["loss"]) for model, trials in tuning.items()}
        settings = {model: trial["setting"] for model, trial in chosen.items()}
        results = {
            "settings": asdict(self.settings),
            "workers": max(1, self.workers),
            "machine": f"{platform.machine()}, {platform.system()}",
            "versions": installed_versions(("torch", "transformers", "scikit-learn")),
            "data": self._data_facts(),
            "searched": {name: searched[name] for name in ("summary", "candidates", "backbone")},
            "tuning": tuning,
            "chosen": settings,
            "pretraining": self._pretrain(COMPARED, settings),
        }
        yield self._written(results)
        results["tasks"] = self._finetune(settings)
        yield self._written(results)
        results["masks"] = self._compare_masks(settings[AUTOBERT_ZERO])
        yield self._written(results)
        results["ablations"] = self._pretrain(ABLATIONS, dict.fromkeys(ABLATIONS, settings[AUTOBERT_ZERO]))
        yield self._written(results)
        results["long"] = self._pretrain_long(settings)
        yield self._written(results)

    def _written(self, results: dict[str, Any]) -> dict[str, Any]:
        results["core_minutes"] = sum(self.seconds.values()) / 60
        write_json(self.out / "results.json", results)
        return results

    def _tokenise(self) -> None:
        """Make what all pretrainings share before several processes want it."""
        from runtime.pretraining.text_source import open_text
        from runtime.pretraining.tokenised_text import tokenise_text

        learnt = tokenise_text(open_text(self.text), self.tokens, self.settings.vocab_size)
        tokenise_text(open_text(self.held_out), self.tokens, learnt.tokenizer)
        self.vocab_size = learnt.tokenizer.get_vocab_size()

    @property
    def tokens(self) -> Path:
        """Where tokenizer and token files are."""
        return self.out / "tokens"

    def _do(self, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
        done = carry_out(jobs, self.out, self.workers, self.tell)
        self.seconds |= {key: result["seconds"] for key, result in done.items()}
        return done

    def _search(self) -> dict[str, Any]:
        settings = self.settings
        job = Job(
            "search",
            search_backbone,
            {
                "text": self.text,
                "layers": LAYERS,
                "sizes": {n: getattr(settings, n) for n in ("hidden_size", "heads", "ffn_size")},
                "proxy": {
                    n: getattr(settings, n)
                    for n in ("vocab_size", "seq_len", "batch_size", "warm_up_steps", "candidate_steps")
                },
                "candidates": settings.candidates,
            },
        )
        # The trials of models that are known fill the other cores in the meantime.
        found = self._do([job, *(job for model in COMPARED[:2] for job in self._trials(model))])["search"]
        self.backbones[SEARCHED] = settings.sized(Backbone.from_dict(found["backbone"]))
        return found

    def _trials(self, model: str) -> list[Job]:
        first, warm_up = self.settings.seeds[0], self.settings.warm_up
        return [self._job(model, rate, warm_up, first) for rate in self.settings.learning_rates]

    def _tune(self) -> dict[str, list[dict[str, Any]]]:
        jobs = {model: self._trials(model) for model in COMPARED}
        done = self._do([job for trials in jobs.values() for job in trials])
        tuning = {model: [done[job.key] for job in trials] for model, trials in jobs.items()}
        rate = min(tuning[BERT], key=lambda trial: trial["loss"])["setting"]["learning_rate"]
        more = [
            self._job(BERT, rate, warm_up, self.settings.seeds[0]) for warm_up in self.settings.other_warm_ups
        ]
        tuning[BERT] += self._do(more).values()
        return tuning

    def _pretrain(
        self, models: Sequence[str], settings: dict[str, dict[str, float]]
    ) -> dict[str, list[dict[str, Any]]]:
        jobs = {
            model: [self._job(model, **_pair(settings[model]), seed=seed) for seed in self.settings.seeds]
            for model in models
        }
        done = self._do([job for runs in jobs.values() for job in runs])
        return {model: [done[job.key] for job in runs] for model, runs in jobs.items()}

    def _pretrain_long(self, settings: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
        seed, factor = self.settings.seeds[0], self.settings.long
        jobs = {model: self._job(model, **_pair(settings[model]), seed=seed, times=factor) for model in LONG}
        done = self._do(list(jobs.values()))
        return {model: done[job.key] for model, job in jobs.items()}

    def _job(self, model: str, rate: float, warm_up: float, seed: int, times: int = 1) -> Job:
        return Job(
            f"pretraining/{model}/rate-{rate:g}-warm-up-{warm_up:g}-times-{times}-seed-{seed}",
            pretrain_backbone,
            {
                "backbone": self.backbones[model].to_dict(),
                "text": self.text,
                "held_out": self.held_out,
                "tokens": self.tokens,
                "settings": {
                    "steps": self.settings.steps * times,
                    "seq_len": self.settings.seq_len,
                    "batch_size": self.settings.batch_size,
                    "vocab_size": self.settings.vocab_size,
                    "learning_rate": rate,
                    "warm_up": warm_up,
                    "dropout": 0.0,
                    "seed": seed,
                },
            },
        )

    def _finetune(self, settings: dict[str, dict[str, float]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
        jobs = {
            (model, task, seed): self._task_job(model, settings[model], seed, task, (seed,))
            for model in COMPARED
            for task, _ in self.settings.epochs
            for seed in self.settings.seeds
        }
        done = self._do(list(jobs.values()))
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for (model, task, _), job in jobs.items():
            found.setdefault(model, {}).setdefault(task, []).extend(done[job.key]["seeds"])
        return found

    def _compare_masks(self, setting: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
        jobs = {
            (name, seed): self._task_job(
                AUTOBERT_ZERO, setting, self.settings.seeds[0], "MRPC", (seed,), name == "query_rows"
            )
            for name in ("keys", "query_rows")
            for seed in self.settings.mask_seeds
        }
        done = self._do(list(jobs.values()))
        found: dict[str, list[dict[str, Any]]] = {}
        for (name, _), job in jobs.items():
            found.setdefault(name, []).extend(done[job.key]["seeds"])
        return found

    def _task_job(
        self,
        model: str,
        setting: dict[str, float],
        pretrained: int,
        task: str,
        seeds: tuple[int, ...],
        query_rows: bool = False,
    ) -> Job:
        """Fine-tune the checkpoint of ``model`` that was pretrained with the seed ``pretrained``."""
        checkpoint = self.out / self._job(model, **_pair(setting), seed=pretrained).key
        mask = "-query-rows" if query_rows else ""
        return Job(
            f"tasks/{task}/{model}/pretrained-{pretrained}-seed-{'-'.join(map(str, seeds))}{mask}",
            finetune_model,
            {
                "model": checkpoint,
                "task": task,
                "data": self.data / TASK_FOLDER / task,
                "settings": {
                    "learning_rate": self.settings.task_learning_rate,
                    "epochs": dict(self.settings.epochs)[task],
                    "batch_size": self.settings.task_batch_size,
                    "max_length": self.settings.seq_len,
                    "seeds": seeds,
                },
                "query_rows": query_rows,
            },
        )

    def _data_facts(self) -> dict[str, Any]:
        return {
            "train": TRAIN,
            "held_out": HELD_OUT,
            "train_bytes": self.text.stat().st_size,
            "vocab_size": self.vocab_size,
            "majority": {task: self._majority(task) for task, _ in self.settings.epochs},
        }

    def _majority(self, task: str) -> float:
        """The accuracy of always answering the commonest label of the training data, on the dev set."""
        from runtime.tasks.glue import GLUE, read_glue

        read = read_glue(GLUE[task.lower().replace("-", "")], self.data / TASK_FOLDER / task)
        (commonest, _), *_ = Counter(read.train.labels).most_common(1)
        (dev,) = read.dev.values()
        return sum(label == commonest for label in dev.labels) / len(dev)


_FREE = ("learning_rates", "other_warm_ups", "seeds", "mask_seeds", "long")
"""Settings that decide which jobs there are, and not what one of them does."""


def _refuse_other_settings(out: Path, settings: ResultsSettings) -> None:
    """Results of other sizes and times must not be taken for those that are asked for."""
    wanted = json.loads(json.dumps({n: v for n, v in asdict(settings).items() if n not in _FREE}))
    file = out / "settings.json"
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)
    found = json.loads(file.read_text(encoding="utf-8"))
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        raise InputError(f"{out} was begun with another {different[0]}: choose another folder")


def _pair(setting: dict[str, float]) -> dict[str, Any]:
    return {"rate": setting["learning_rate"], "warm_up": setting["warm_up"]}
