"""The compiler: graphs become readable source for PyTorch and for Triton."""

from codegen.aot import TARGETS, KernelBuild, build_ahead
from codegen.attention import Backend, BackendError, CompiledAttention, compile_attention, kernel_program
from codegen.autotune import tune_attention
from codegen.backbone import backbone_source, compile_backbone, kernel_files
from codegen.block_builds import BlockSizes, build_blocks
from codegen.block_kernels import block_source
from codegen.devices import DEVICES, Device
from codegen.kernel_plan import KernelPlan, PlannedKernel, plan_kernels
from codegen.model_files import model_files
from codegen.torch_plan import Plan, PlannedStep
from codegen.triton_program import TritonProgram

__all__ = [
    "DEVICES",
    "TARGETS",
    "Backend",
    "BackendError",
    "BlockSizes",
    "CompiledAttention",
    "Device",
    "KernelBuild",
    "KernelPlan",
    "Plan",
    "PlannedKernel",
    "PlannedStep",
    "TritonProgram",
    "backbone_source",
    "block_source",
    "build_ahead",
    "build_blocks",
    "compile_attention",
    "compile_backbone",
    "kernel_files",
    "kernel_program",
    "model_files",
    "plan_kernels",
    "tune_attention",
]
