"""SQuAD as a task: a question and a paragraph to the part of the paragraph that answers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from runtime.finetuning_config import FineTuning
from runtime.tasks.features import Predict
from runtime.tasks.squad import SquadData, SquadVersion
from runtime.tasks.squad_answers import Answers, answer_questions
from runtime.tasks.squad_features import encode_questions
from runtime.tasks.squad_scores import squad_1_metrics, squad_2_metrics
from runtime.tasks.task import EncodedTask, Evaluation


@dataclass(frozen=True)
class QuestionTask:
    """See `runtime.tasks.task.Task`."""

    version: SquadVersion
    data: SquadData

    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    max_length: ClassVar[int] = 384
    model_settings: ClassVar[dict[str, Any]] = {}
    ranked_by: ClassVar[tuple[str, ...]] = ("f1",)
    example: ClassVar[tuple[str, ...]] = ("When was it finished?", "The tower was finished in 1889.")

    @property
    def title(self) -> str:
        return self.version.title

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.data.train), len(self.data.dev)

    def encode(self, tokenizer: Any, max_length: int, settings: FineTuning) -> EncodedTask:
        stride = min(128, max_length // 4) if settings.stride is None else settings.stride
        train = encode_questions(tokenizer, self.data.train, max_length, stride, labelled=True)
        dev = encode_questions(tokenizer, self.data.dev, max_length, stride, labelled=False)

        def evaluate(predict: Predict) -> Evaluation:
            starts, ends = predict(dev.features)
            answers = answer_questions(
                self.data.dev, dev.windows, starts, ends, settings.n_best, settings.max_answer_length
            )
            by_id = {question.id: answer for question, answer in zip(self.data.dev, answers, strict=True)}
            metrics, answered = self._judge(by_id, settings.null_threshold)
            return Evaluation(metrics, lambda: self._files(by_id, answered))

        return EncodedTask(train.features, evaluate)

    def _judge(
        self, by_id: Mapping[str, Answers], threshold: float
    ) -> tuple[dict[str, float], dict[str, str]]:
        """The metrics, and the answers that were judged."""
        golds = {question.id: [answer.text for answer in question.answers] for question in self.data.dev}
        spans = {name: answers.span for name, answers in by_id.items()}
        if not self.version.unanswerable:
            return squad_1_metrics(golds, spans), spans
        odds = {name: answers.null_odds for name, answers in by_id.items()}
        answered = {name: "" if odds[name] > threshold else span for name, span in spans.items()}
        return squad_2_metrics(golds, answered, spans, odds), answered

    def _files(self, by_id: Mapping[str, Answers], answered: Mapping[str, str]) -> dict[str, str]:
        unanswerable = self.version.unanswerable
        contents: dict[str, Any] = {
            "predictions.json": answered,
            "nbest_predictions.json": {name: a.listed(unanswerable) for name, a in by_id.items()},
        }
        if unanswerable:
            contents["null_odds.json"] = {name: answers.null_odds for name, answers in by_id.items()}
        return {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}
