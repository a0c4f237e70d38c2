"""Ahead-of-time builds: kernels for a device that need not be here, and what their binaries tell."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.attention import BackendError, kernel_program, load_kernels
from codegen.devices import SHARED_MEMORY
from codegen.instructions import Instruction, hottest_loop, read_amdgcn, read_sass
from codegen.kernel_text import KernelText
from codegen.tile_sizes import Tiles, block_of, tiles_of
from codegen.triton_program import TritonProgram
from graphir import AttentionGraph, InputError

TARGETS = tuple(SHARED_MEMORY)
"""What kernels can be built for: ``sm_80``, ``sm_90``, ``sm_100`` and ``gfx942``."""
ELEMENT_TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True)
class KernelBuild:
    """One kernel, built.

    Attributes:
        kernel: name of its function.
        tiles: own block, tile of a loop, warps, pipeline stages.
        registers: of a thread.
        spilled: bytes of a thread's registers that went to memory (its stack).
        shared_memory: bytes of a program.
        shared_limit: bytes that a program may have on the device.
        loop: instructions of its hottest loop (`codegen.instructions.hottest_loop`); 0 without a loop.
        seconds: how long the build took.
    """

    kernel: str
    tiles: Tiles
    registers: int
    spilled: int
    shared_memory: int
    shared_limit: int
    loop: int
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether it can be launched on the device."""
        return self.shared_memory <= self.shared_limit


def build_ahead(
    graph: AttentionGraph,
    target: str,
    head_dim: int = 64,
    dtype: str = "bfloat16",
    masked: bool = False,
    dropout: bool = False,
) -> list[KernelBuild]:
    """Build all kernels of a graph, forward and backward, as a launch on the device would.

    Args:
        graph: the attention structure.
        target: one of `TARGETS`.
        head_dim: D.
        dtype: ``bfloat16``, ``float16`` or ``float32``.
        masked: with a key mask, or lengths that do not fill the last block.
        dropout: with attention dropout.

    Raises:
        BackendError: where Triton is not installed or runs as an interpreter.
        InputError: for an unknown target or type.
    """
    program = kernel_program(graph)
    check_buildable(target, dtype)
    module = load_kernels(program)
    return [
        build_kernel(program, module, kernel, target, head_dim, dtype, masked=masked, dropout=dropout)
        for kernel in program.kernels
    ]


def check_buildable(target: str, dtype: str) -> None:
    """Refuse what cannot be built.

    Raises:
        BackendError: where Triton runs as an interpreter.
        InputError: for an unknown target or type.
    """
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, not {target[:40]!r}")
    if dtype not in ELEMENT_TYPES:
        raise InputError(f"dtype must be one of {', '.join(ELEMENT_TYPES)}, not {dtype[:40]!r}")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise BackendError(
            "TRITON_INTERPRET=1 is set: nothing can be built while Triton runs as an interpreter"
        )


def build_kernel(
    program: TritonProgram,
    module: Any,
    kernel: KernelText,
    target: str,
    head_dim: int,
    dtype: str,
    tiles: Tiles | None = None,
    masked: bool = False,
    dropout: bool = False,
) -> KernelBuild:
    """Build one kernel, with other tiles than the first choice where ``tiles`` is given."""
    tiles = tiles or tiles_of(kernel, target, 4 if dtype == "float32" else 2, block_of(head_dim))
    settings = _constants(head_dim, dtype, tiles, masked, dropout)
    return build_function(
        getattr(module, f"{kernel.name}_kernel"),
        _argument_types(program, kernel, ELEMENT_TYPES[dtype], masked, dropout),
        {name: settings[name] for name in kernel.constants},
        target,
        tiles,
    )


def build_function(
    function: Any, types: Mapping[str, str], constants: Mapping[str, Any], target: str, tiles: Tiles
) -> KernelBuild:
    """Build a Triton function, told what a launch would find: pointers and strides are multiples of 16.

    Args:
        function: what ``triton.jit`` gave, called ``<name>_kernel``.
        types: of its arguments that are no constants, e.g. ``*bf16``; others that it lacks do no harm.
        constants: the values of all others.
        target: one of `TARGETS`.
        tiles: own block, tile of a loop, warps, pipeline stages.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: types.get(name, "constexpr") for name in function.arg_names}
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(function.arg_names)
        if name.endswith(("_ptr", "_batch", "_head", "_row")) or name == "chunk"
    }
    _, _, warps, stages = tiles
    hip = target.startswith("gfx")
    gpu = GPUTarget("hip", target, 64) if hip else GPUTarget("cuda", int(target[3:]), 32)
    start = time.perf_counter()
    compiled = triton.compile(
        ASTSource(function, signature, constants, attributes),
        target=gpu,
        options={"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True},
    )
    seconds = time.perf_counter() - start
    registers, spilled, code = (
        _read_amdgcn(compiled.asm["amdgcn"]) if hip else _read_cubin(compiled.asm["cubin"])
    )
    name = function.__name__.removesuffix("_kernel")
    shared, limit = compiled.metadata.shared, SHARED_MEMORY[target]
    return KernelBuild(name, tiles, registers, spilled, shared, limit, hottest_loop(code), seconds)


def _constants(head_dim: int, dtype: str, tiles: Tiles, masked: bool, dropout: bool) -> dict[str, Any]:
    import triton.language as tl

    own, loop, _, _ = tiles
    block_d = block_of(head_dim)
    return {
        "SCALE": head_dim**-0.5,
        "D": head_dim,
        "DTYPE": getattr(tl, dtype),
        "OFFSET": tl.int32,
        "PRECISION": "ieee",
        "FULL": not masked and head_dim == block_d,
        "HAS_MASK": masked,
        "DROPOUT": dropout,
        "BLOCK_OWN": own,
        "BLOCK_OTHER": loop,
        "BLOCK_LOOP": loop,
        "BLOCK_D": block_d,
    }


def _argument_types(
    program: TritonProgram, kernel: KernelText, element: str, masked: bool, dropout: bool
) -> dict[str, str]:
    """The type of every argument that is no constant."""
    narrow = {program.names[node] for node in program.narrow}
    types = {"seed_ptr": "*i64" if dropout else f"*{element}", "dropout_p": "fp32"}
    types["mask_ptr"] = "*u8" if masked else f"*{element}"
    types |= dict.fromkeys(("heads", "tokens", "blocks", "others", "chunk"), "i32")
    for name in kernel.inputs:
        types[f"{name}_ptr"] = f"*{element}"
        types |= dict.fromkeys((f"{name}_batch", f"{name}_head", f"{name}_row"), "i32")
    for name in kernel.loads:
        types[f"{name}_ptr"] = f"*{element}" if name in narrow else "*fp32"
    for stored in kernel.stores:
        types[f"{stored.name}_ptr"] = f"*{element}" if stored.dtype == "dtype" else "*fp32"
    return types


def _read_cubin(cubin: bytes) -> tuple[int, int, list[Instruction]]:
    """Registers and stack bytes of a thread, and the instructions."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage, sass = (
            subprocess.run([str(tool), option, str(path)], capture_output=True, text=True, check=True).stdout
            for option in ("-res-usage", "-sass")
        )
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return found["REG"], found["STACK"] + found["LOCAL"], read_sass(sass)


def _read_amdgcn(assembly: str) -> tuple[int, int, list[Instruction]]:
    """Vector registers of a thread, bytes that were spilled, and the instructions."""
    found = dict(re.findall(r"\.(vgpr_count|vgpr_spill_count):\s*(\d+)", assembly))
    return int(found["vgpr_count"]), 4 * int(found["vgpr_spill_count"]), read_amdgcn(assembly)
