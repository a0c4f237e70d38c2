"""A task of GLUE: sentences, or pairs of them, to a class or a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from runtime.finetuning_config import FineTuning
from runtime.tasks.features import Features, Predict, encode_texts
from runtime.tasks.glue import Examples, GlueData, GlueTask
from runtime.tasks.glue_scores import METRICS, predicted, submission
from runtime.tasks.task import EncodedTask, Evaluation


@dataclass(frozen=True)
class SentenceTask:
    """See `runtime.tasks.task.Task`."""

    glue: GlueTask
    data: GlueData

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    max_length: ClassVar[int] = 128

    @property
    def title(self) -> str:
        return self.glue.title

    @property
    def model_settings(self) -> dict[str, Any]:
        names = self.glue.labels
        if not names:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(names),
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
        }

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.data.train), sum(map(len, self.data.dev.values()))

    @property
    def ranked_by(self) -> tuple[str, ...]:
        return tuple(f"{metric}{suffix}" for suffix in self.data.dev for metric in self.glue.metrics)

    @property
    def example(self) -> tuple[str, ...]:
        return ("The first sentence.", "The second sentence.")[: len(self.glue.texts)]

    def encode(self, tokenizer: Any, max_length: int, settings: FineTuning) -> EncodedTask:
        def features(examples: Examples) -> Features:
            return Features(encode_texts(tokenizer, examples.texts, max_length), {"labels": examples.labels})

        dev = {suffix: features(examples) for suffix, examples in self.data.dev.items()}

        def evaluate(predict: Predict) -> Evaluation:
            metrics: dict[str, float] = {}
            for suffix, examples in self.data.dev.items():
                predictions = predicted(self.glue, predict(dev[suffix])[0])
                for metric in self.glue.metrics:
                    metrics[f"{metric}{suffix}"] = METRICS[metric](predictions, examples.labels)
            return Evaluation(metrics, lambda: self._submissions(tokenizer, max_length, predict))

        return EncodedTask(features(self.data.train), evaluate)

    def _submissions(self, tokenizer: Any, max_length: int, predict: Predict) -> dict[str, str]:
        files = {}
        for name, examples in self.data.tests.items():
            (logits,) = predict(Features(encode_texts(tokenizer, examples.texts, max_length)))
            files[name] = submission(self.glue, examples.indices, predicted(self.glue, logits))
        return files
