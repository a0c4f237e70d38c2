"""Evolves attention as graphs of primitive math, and compiles what it finds: the names that users need, in one place.

Nothing is loaded before it is used: ``opnas.AttentionGraph`` needs no torch.
"""

from typing import TYPE_CHECKING

from graphir.lazy import lazy_face

if TYPE_CHECKING:
    from codegen import (
        CompiledAttention,
        backbone_source,
        build_ahead,
        compile_attention,
        compile_backbone,
        tune_attention,
    )
    from evolution import Candidate, SearchSpace, Study, mutate_graph, random_backbone, random_graph
    from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, OpnasError, presets
    from runtime import (
        FineTuning,
        FineTuningReport,
        Pretraining,
        Run,
        RunConfig,
        Setting,
        benchmark,
        benchmark_model,
        finetune,
    )
    from runtime.export import export
    from runtime.pretraining.pretrain import pretrain
    from runtime.report import report
    from runtime.search import resume, search
    from runtime.token_similarity import token_similarity

__all__ = [
    "AttentionGraph",
    "AttentionLayer",
    "Backbone",
    "Candidate",
    "CompiledAttention",
    "ConvLayer",
    "FineTuning",
    "FineTuningReport",
    "OpnasError",
    "Pretraining",
    "Run",
    "RunConfig",
    "SearchSpace",
    "Setting",
    "Study",
    "backbone_source",
    "benchmark",
    "benchmark_model",
    "build_ahead",
    "compile_attention",
    "compile_backbone",
    "export",
    "finetune",
    "mutate_graph",
    "presets",
    "pretrain",
    "random_backbone",
    "random_graph",
    "report",
    "resume",
    "search",
    "token_similarity",
    "tune_attention",
]

__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "codegen": (
            "CompiledAttention",
            "backbone_source",
            "build_ahead",
            "compile_attention",
            "compile_backbone",
            "tune_attention",
        ),
        "evolution": (
            "Candidate",
            "SearchSpace",
            "Study",
            "mutate_graph",
            "random_backbone",
            "random_graph",
        ),
        "graphir": ("AttentionGraph", "AttentionLayer", "Backbone", "ConvLayer", "OpnasError"),
        "runtime": (
            "FineTuning",
            "FineTuningReport",
            "Pretraining",
            "Run",
            "RunConfig",
            "Setting",
            "benchmark",
            "benchmark_model",
            "finetune",
        ),
        "runtime.export": ("export",),
        "runtime.pretraining.pretrain": ("pretrain",),
        "runtime.report": ("report",),
        "runtime.search": ("resume", "search"),
        "runtime.token_similarity": ("token_similarity",),
    },
    modules=("graphir.presets",),
)
