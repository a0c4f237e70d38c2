"""What the kernels of the blocks must pass, for the texts that are written and for texts with a fault."""

from __future__ import annotations

import re

import torch

from codegen.attention import KERNELS_STEM
from codegen.block_kernels import block_source
from codegen.generated import load_source
from tests.codegen.block_reference import (
    conv_case,
    dropped_case,
    gelu_case,
    norm_case,
    recovered_keep,
    with_nan_in_padding,
)

SINGLE, HALF = torch.float32, torch.float16
SEED = 20
"""Of the inputs of the jury; the tests of numbers draw fresh ones."""


def load(source):
    """The module of a text, whose operators have names of their own."""
    return load_source(source, KERNELS_STEM, operators=True)


def with_fault(old, new):
    """The text with a fault in it, and with another version, so that its operators are new ones."""
    source = block_source()
    assert old in source, f"the generated text does not hold {old!r}: choose another edit"
    version = re.search(r"opnas\.layer_norm_(\w{16})\(", source)[1]
    return source.replace(old, new).replace(version, f"{abs(hash((old, new))):016x}"[:16])


def objection(kernels, block):
    """What is wrong with a block of a module; empty where nothing is."""
    try:
        return _JURIES[block](kernels)
    except ValueError as error:  # NaN where a number was expected
        return str(error)


def _too_far(what, ratio):
    return f"{what}: {ratio:.2g} times what is allowed" if not ratio <= 1.0 else ""


def _judge_norm(kernels):
    for shape in ((2, 37, 24), (5, 100), (33, 16), (1, 1, 40)):
        if found := _too_far(f"layer_norm {shape}", norm_case(SEED, shape).ratio(kernels, SINGLE)):
            return found
    equal = norm_case(SEED, (3, 24))
    x, residual, *rest = equal.tensors
    flat = type(equal)(equal.block, (0 * x, torch.ones_like(residual), *rest), equal.grad, (1e-2,))
    if found := _too_far("layer_norm of equal entries", flat.ratio(kernels, SINGLE)):
        return found
    case = norm_case(SEED, (2, 9, 24))
    half = type(case)(case.block, (case.tensors[0].to(HALF), *case.tensors[1:]), case.grad, case.extra)
    return _too_far("layer_norm of two types", half.ratio(kernels, HALF))


def _judge_dropout(kernels):
    kept = recovered_keep(kernels, SEED, (40, 96), 0.3)
    deviation = (0.3 * 0.7 / kept.numel()) ** 0.5
    if abs(kept.double().mean().item() - 0.7) > 6 * deviation:
        return f"dropout keeps {kept.double().mean():.3f}, not 0.7"
    for axis, lines in (("rows", kept), ("columns", kept.T)):
        for step in range(1, 8):
            same = (lines[step:] == lines[:-step]).double().mean().item()
            # Independent entries agree with probability 0.7^2 + 0.3^2.
            if abs(same - 0.58) > 6 * (0.58 * 0.42 / lines[step:].numel()) ** 0.5:
                return f"{axis} {step} apart drop the same entries: {same:.3f}"
    for shape in ((40, 24), (3, 100)):
        case = dropped_case(kernels, SEED, shape, 0.3)
        torch.manual_seed(SEED)
        if found := _too_far(f"dropout {shape}", case.ratio(kernels, SINGLE)):
            return found
    return ""


def _judge_gelu(kernels):
    for shape in ((2, 37, 24), (5, 300), (1, 1, 40)):
        if found := _too_far(f"bias_gelu {shape}", gelu_case(SEED, shape).ratio(kernels, SINGLE)):
            return found
    return ""


def _judge_conv(kernels):
    for *sizes, masked in ((37, 24, 2, 7, True), (70, 24, 1, 65, False), (9, 40, 1, 3, True)):
        case = conv_case(SEED, *sizes, masked=masked)
        if found := _too_far(f"light_conv {sizes}, masked {masked}", case.ratio(kernels, SINGLE)):
            return found
    case = conv_case(SEED, 37, 24, 2, 7)
    for clean, poisoned in zip(
        case.run(kernels.light_conv), with_nan_in_padding(case).run(kernels.light_conv), strict=True
    ):
        if not torch.equal(clean, poisoned):
            return "light_conv: what stands at padded tokens changes something"
    return ""


_JURIES = {
    "layer_norm": _judge_norm,
    "dropout": _judge_dropout,
    "bias_gelu": _judge_gelu,
    "light_conv": _judge_conv,
}
BLOCKS = tuple(_JURIES)
