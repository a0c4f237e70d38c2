"""The compiler: graphs become readable source for PyTorch."""

from codegen.attention import BackendError, CompiledAttention, compile_attention
from codegen.backbone import backbone_source, compile_backbone
from codegen.plan import Plan, PlannedStep

__all__ = [
    "BackendError",
    "CompiledAttention",
    "Plan",
    "PlannedStep",
    "backbone_source",
    "compile_attention",
    "compile_backbone",
]
