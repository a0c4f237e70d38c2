"""What came of fine-tuning: the metrics of each seed, their mean and deviation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtime.finetuning_config import FineTuning, Kept

REPORT_FORMAT = "opnas.finetuning/1"


@dataclass(frozen=True)
class SeedResult:
    """One training.

    Attributes:
        seed: of everything random in it.
        metrics: on the development data. GLUE's are those of scikit-learn and SciPy, at most 1; SQuAD's are percent.
        training_loss: the mean over all steps.
        steps: updates.
        seconds: of the training alone.
    """

    seed: int
    metrics: dict[str, float]
    training_loss: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class FineTuningReport:
    """All trainings of a task.

    Attributes:
        task: its title.
        settings: how they were done.
        results: one a seed, in the order of the seeds.
        kept_seed: the seed that `FineTuning.keep` chooses; its model is the one that is saved.
        sizes: how many examples were learnt from, and how many judged on.
    """

    task: str
    settings: FineTuning
    results: tuple[SeedResult, ...]
    kept_seed: int
    sizes: tuple[int, int]

    @property
    def mean(self) -> dict[str, float]:
        """Of each metric, over the seeds."""
        return {name: statistics.fmean(self._of(name)) for name in self.results[0].metrics}

    @property
    def deviation(self) -> dict[str, float | None]:
        """The standard deviation of each metric over the seeds (of a sample: n - 1); None for a single seed."""
        several = len(self.results) > 1
        return {
            name: statistics.stdev(self._of(name)) if several else None for name in self.results[0].metrics
        }

    def _of(self, metric: str) -> list[float]:
        return [result.metrics[metric] for result in self.results]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "format": REPORT_FORMAT,
            "task": self.task,
            "examples": {"train": self.sizes[0], "dev": self.sizes[1]},
            "settings": self.settings.to_dict(),
            "seeds": [asdict(result) for result in self.results],
            "mean": self.mean,
            "deviation": self.deviation,
            "kept_seed": self.kept_seed,
        }

    def table(self) -> str:
        """A line for each metric: every seed, the mean, the deviation."""
        mean, deviation = self.mean, self.deviation
        header = ["metric", *(f"seed {result.seed}" for result in self.results), "mean", "deviation"]
        rows = [
            [
                name,
                *(f"{value:.4f}" for value in self._of(name)),
                f"{mean[name]:.4f}",
                "-" if (spread := deviation[name]) is None else f"{spread:.4f}",
            ]
            for name in mean
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in (header, *rows)
        )


def seed_to_keep(results: Sequence[SeedResult], ranked_by: Sequence[str], keep: Kept) -> int:
    """The seed with the best mean of some metrics, or the median one (the lower of two); of equals the first."""

    def score(result: SeedResult) -> float:
        return statistics.fmean(result.metrics[name] for name in ranked_by)

    if keep == "best":
        return max(results, key=score).seed
    return sorted(results, key=score)[(len(results) - 1) // 2].seed
