"""Ahead-of-time builds of the kernels of the blocks beside attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from codegen.aot import ELEMENT_TYPES, KernelBuild, build_function, check_buildable
from codegen.block_kernels import load_blocks

_SINGLE = ("statistics_ptr", "dweight_ptr", "dbias_ptr")
"""What kernels store in float32 whatever the type of their inputs."""


@dataclass(frozen=True)
class BlockSizes:
    """Sizes of the blocks of a model; those of `base` by default.

    Attributes:
        hidden_size: E.
        heads: H, whose channels share the weights of a convolution.
        ffn_size: width between the two maps of a feed-forward block.
        kernel_sizes: of its convolutions, in tokens.
    """

    hidden_size: int = 768
    heads: int = 12
    ffn_size: int = 3072
    kernel_sizes: tuple[int, ...] = (3, 65)


def build_blocks(
    sizes: BlockSizes, target: str, dtype: str = "bfloat16", masked: bool = False, dropout: bool = False
) -> Iterator[tuple[str, KernelBuild]]:
    """Build the kernels of all blocks, forward and backward, as a launch on the device would.

    Args:
        sizes: of the blocks.
        target: one of `codegen.aot.TARGETS`.
        dtype: ``bfloat16``, ``float16`` or ``float32``; of parameters too.
        masked: convolutions with a key mask.
        dropout: LayerNorms with dropout.

    Yields:
        The name of a block, with the kernel size of a convolution, and one of its kernels, built.

    Raises:
        BackendError: where Triton is not installed or runs as an interpreter.
        InputError: for an unknown target or type.
    """
    check_buildable(target, dtype)
    module = load_blocks()
    drops = {"DROPOUT": dropout, "OWN_DX": dropout}
    cases: list[tuple[str, str, Mapping[str, Any]]] = [
        ("layer_norm", "layer_norm", module._row_settings(sizes.hidden_size) | drops),
        ("bias_gelu", "bias_gelu", module._entry_settings(sizes.ffn_size)),
        *(
            (
                f"light_conv {kernel_size}",
                "light_conv",
                _conv_settings(module, sizes, kernel_size, dtype, masked),
            )
            for kernel_size in dict.fromkeys(sizes.kernel_sizes)
            if kernel_size <= module.WIDEST_KERNEL
        ),
    ]
    for name, block, settings in cases:
        rows, columns = (
            ("BLOCK_OWN", "BLOCK_SPAN") if block == "light_conv" else ("BLOCK_ROWS", "BLOCK_COLUMNS")
        )
        tiles = (settings[rows], settings[columns], settings["num_warps"], settings["num_stages"])
        for direction in ("forward", "backward"):
            function = getattr(module, f"{block}_{direction}_kernel")
            types = _argument_types(function.arg_names, block, ELEMENT_TYPES[dtype], masked, dropout)
            constants = {
                argument: settings[argument] for argument in function.arg_names if argument not in types
            }
            build = build_function(function, types, constants, target, tiles)
            yield name, replace(build, kernel=direction)


def _conv_settings(
    module: Any, sizes: BlockSizes, kernel_size: int, dtype: str, masked: bool
) -> dict[str, Any]:
    """What a launch would choose for a convolution."""
    import torch

    gate = torch.empty(1, 1, 2 * sizes.hidden_size, dtype=getattr(torch, dtype), device="meta")
    weight = torch.empty(sizes.heads, kernel_size, device="meta")
    settings: dict[str, Any] = module._band_settings(gate, weight, gate if masked else None)
    return settings


def _argument_types(
    names: list[str], block: str, element: str, masked: bool, dropout: bool
) -> dict[str, str]:
    """The type of every argument that is no constant."""
    types = {}
    for name in names:
        if name == "mask_ptr":
            types[name] = "*u8" if masked else f"*{element}"
        elif name == "seed_ptr":
            types[name] = "*i64" if dropout else f"*{element}"
        elif name.endswith("_ptr"):
            single = name in _SINGLE or (block == "light_conv" and name == "weight_ptr")
            types[name] = "*fp32" if single else f"*{element}"
        elif name in ("dropout_p", "eps"):
            types[name] = "fp32"
        elif name.islower():
            types[name] = "i32"
    return types
