"""The generated Python of a graph or backbone, as a user would have it in files."""

from __future__ import annotations

from codegen import Backend, backbone_source, compile_attention, kernel_files, kernel_program
from codegen.attention import choose_backend
from codegen.model_files import module_name
from graphir import AttentionGraph, Backbone


def describe_source(target: AttentionGraph | Backbone, backend: Backend = "auto") -> str:
    """The source of a form; looking at kernels needs no Triton.

    Args:
        target: a graph, for one module; or a backbone, for its modeling file and, with kernels, their files, each
            behind a comment with its name.
        backend: as of `codegen.compile_attention`.

    Raises:
        ValueError: for an unknown backend.
    """
    kernels = backend == "triton" or choose_backend(backend) == "triton"
    if isinstance(target, AttentionGraph):
        return kernel_program(target).source if kernels else compile_attention(target, "torch").source
    if not kernels:
        return backbone_source(target)
    name = f"modeling_{module_name(target.name)}.py"
    files = {name: backbone_source(target, kernels="beside"), **kernel_files(target)}
    return "\n\n".join(f"# {name}\n\n{text}" for name, text in files.items())
