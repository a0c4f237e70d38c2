"""Text, training, runs, export and benchmarks: what a search is carried out with."""

from typing import TYPE_CHECKING

from graphir.lazy import lazy_face

if TYPE_CHECKING:
    from runtime.bench import Benchmark, Setting, benchmark
    from runtime.finetuning import finetune
    from runtime.finetuning_config import FineTuning
    from runtime.finetuning_report import FineTuningReport
    from runtime.model_bench import ModelBenchmark, ModelSetting, benchmark_model
    from runtime.model_folder import TrainedModel, load_model
    from runtime.pipeline import Outcome
    from runtime.pretraining.report import PretrainingReport
    from runtime.pretraining.settings import Pretraining
    from runtime.proxy_config import ProxyConfig
    from runtime.run import Run
    from runtime.run_config import RunConfig

__all__ = [
    "Benchmark",
    "FineTuning",
    "FineTuningReport",
    "ModelBenchmark",
    "ModelSetting",
    "Outcome",
    "Pretraining",
    "PretrainingReport",
    "ProxyConfig",
    "Run",
    "RunConfig",
    "Setting",
    "TrainedModel",
    "benchmark",
    "benchmark_model",
    "finetune",
    "load_model",
]

# The command line lives in this room, and opening a graph must not load torch.
__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "runtime.bench": ("Benchmark", "Setting", "benchmark"),
        "runtime.finetuning": ("finetune",),
        "runtime.finetuning_config": ("FineTuning",),
        "runtime.finetuning_report": ("FineTuningReport",),
        "runtime.model_bench": ("ModelBenchmark", "ModelSetting", "benchmark_model"),
        "runtime.model_folder": ("TrainedModel", "load_model"),
        "runtime.pipeline": ("Outcome",),
        "runtime.pretraining.report": ("PretrainingReport",),
        "runtime.pretraining.settings": ("Pretraining",),
        "runtime.proxy_config": ("ProxyConfig",),
        "runtime.run": ("Run",),
        "runtime.run_config": ("RunConfig",),
    },
)
