"""The kernels of the blocks beside attention on a device: right against float64, and timed beside PyTorch's calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from codegen.block_kernels import load_blocks
from runtime.accuracy import WRONG, allowed_errors, relative_errors
from runtime.bench import COMPILED, DTYPES, EAGER, GENERATED, first_line
from runtime.bench_table import aligned
from runtime.gpu_check.clock import time_forms

EPS = 1e-12
ROUNDS = 5


@dataclass(frozen=True)
class BlockSetting:
    """Which block at which size.

    Attributes:
        block: ``layer_norm``, ``bias_gelu`` or ``light_conv``.
        dtype: a name in `runtime.bench.DTYPES`.
        batch, tokens, channels, heads: of the input; the feed-forward block has four times as many channels.
        kernel_size: of the convolution, in tokens.
        dropout_p: of the LayerNorm; only timed.
    """

    block: str
    dtype: str
    batch: int
    tokens: int
    channels: int
    heads: int
    kernel_size: int = 0
    dropout_p: float = 0.0

    @property
    def name(self) -> str:
        """For tables."""
        kernel = f" {self.kernel_size}" if self.kernel_size else ""
        return self.block + kernel + (f", dropout {self.dropout_p}" if self.dropout_p else "")


@dataclass(frozen=True)
class BlockCell:
    """What came of a block.

    Attributes:
        setting: where.
        ratio: the largest error of result and gradients as a part of what may be lost; None where not judged.
        milliseconds: of forward and backward, by form; empty where not timed.
        problem: why it failed; empty where it did not.
    """

    setting: BlockSetting
    ratio: float | None = None
    milliseconds: dict[str, float] | None = None
    problem: str = ""

    @property
    def broken(self) -> bool:
        """Whether it failed, or is off by more than rounding explains."""
        return bool(self.problem) or (self.ratio is not None and not self.ratio <= WRONG)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def check_blocks(device: str, tiny: bool, tell: Callable[[str], None]) -> list[BlockCell]:
    """Judge every block in three types, then time it in bfloat16 at ``base`` size, 32 sequences of 512 tokens.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        tiny: sizes for Triton's interpreter, float32 and no torch.compile.
        tell: is told of every cell, a line each.
    """
    cells = []
    for setting in _judged(tiny):
        cells.append(_judge(setting, device))
        tell(
            f"{setting.name} {setting.dtype}: {cells[-1].problem or f'{cells[-1].ratio:.2f} of what is allowed'}"
        )
    for setting in _timed(tiny):
        cells.append(_time(setting, device, (GENERATED, EAGER) if tiny else (GENERATED, EAGER, COMPILED)))
        tell(f"{setting.name} {setting.dtype}: {cells[-1].problem or cells[-1].milliseconds}")
    return cells


def format_blocks(cells: list[BlockCell]) -> str:
    """Two tables: errors, and times."""
    judged = [
        [c.setting.name, c.setting.dtype, "-" if c.ratio is None else f"{c.ratio:.2f}", c.problem]
        for c in cells
        if c.milliseconds is None
    ]
    timed = [
        [
            c.setting.name,
            *(f"{c.milliseconds[form]:.3f}" if form in c.milliseconds else "-" for form in FORMS),
        ]
        for c in cells
        if c.milliseconds
    ]
    lines = ["blocks beside attention: largest error as a part of what is allowed"]
    lines += [f"  {line}" for line in aligned(["block", "type", "error", ""], judged)]
    if timed:
        lines += ["blocks beside attention: milliseconds of forward and backward"]
        lines += [f"  {line}" for line in aligned(["block", *FORMS], timed)]
    return "\n".join(lines)


FORMS = (GENERATED, EAGER, COMPILED)


def _settings(dtype: str, sizes: tuple[int, int, int, int], **norm: float) -> list[BlockSetting]:
    blocks = [BlockSetting(block, dtype, *sizes, **norm) for block in ("layer_norm", "bias_gelu")]  # type: ignore[arg-type]
    return [*blocks, *(BlockSetting("light_conv", dtype, *sizes, kernel_size=k) for k in (3, 17, 33, 65))]


def _judged(tiny: bool) -> list[BlockSetting]:
    sizes = (2, 21, 24, 2) if tiny else (3, 200, 768, 12)
    dtypes = ("float32",) if tiny else ("bfloat16", "float16", "float32")
    return [setting for dtype in dtypes for setting in _settings(dtype, sizes)]


def _timed(tiny: bool) -> list[BlockSetting]:
    sizes, dtype = ((2, 21, 24, 2), "float32") if tiny else ((32, 512, 768, 12), "bfloat16")
    return [BlockSetting("layer_norm", dtype, *sizes, dropout_p=0.1), *_settings(dtype, sizes)]


def _judge(setting: BlockSetting, device: str) -> BlockCell:
    leaves, grad, key_mask = _inputs(setting, device)
    try:
        wide = [x.detach().double().requires_grad_() for x in leaves]
        truth = _run(_form(EAGER, setting, key_mask), wide, grad.double())
        eager = relative_errors(_run(_form(EAGER, setting, key_mask), leaves, grad), truth)
        if key_mask is not None:  # what stands in padding must not matter
            real = key_mask[..., None]
            leaves[0] = torch.where(real, leaves[0].detach(), torch.nan).requires_grad_()
            grad = torch.where(real, grad, torch.nan)
        found = relative_errors(_run(_form(GENERATED, setting, key_mask), leaves, grad), truth)
        allowed = allowed_errors(eager, DTYPES[setting.dtype])
        return BlockCell(setting, max(mine / may for mine, may in zip(found, allowed, strict=True)))
    except Exception as error:
        return BlockCell(setting, problem=first_line(error))


def _time(setting: BlockSetting, device: str, forms: tuple[str, ...]) -> BlockCell:
    leaves, grad, _ = _inputs(setting, device)
    functions = {}
    try:
        for name in forms:
            form = _form(name, setting, None)
            functions[name] = lambda form=form: _run(form, leaves, grad)
            functions[name]()
        times = time_forms(functions, ROUNDS, device)
    except Exception as error:
        return BlockCell(setting, milliseconds={}, problem=first_line(error))
    return BlockCell(setting, milliseconds={name: 1e3 * timing.median for name, timing in times.items()})


def _run(form: Callable[..., Tensor], leaves: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    out = form(*leaves)
    return out, *torch.autograd.grad(out, leaves, grad)


def _inputs(setting: BlockSetting, device: str) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """The leaves, the gradient of the result, and a mask where padding would matter and tokens are few."""
    generator = torch.Generator(device).manual_seed(0)
    batch, tokens, channels = setting.batch, setting.tokens, setting.channels
    inner = 4 * channels
    shapes: dict[str, list[tuple[int, ...]]] = {
        "layer_norm": [(batch, tokens, channels)] * 2 + [(channels,)] * 2,
        "bias_gelu": [(batch, tokens, inner), (inner,)],
        "light_conv": [(batch, tokens, 2 * channels), (setting.heads, setting.kernel_size)],
    }
    result = (batch, tokens, inner if setting.block == "bias_gelu" else channels)
    *leaves, grad = (
        torch.randn(shape, generator=generator, device=device).to(DTYPES[setting.dtype])
        for shape in [*shapes[setting.block], result]
    )
    key_mask = None
    if setting.block == "light_conv":
        lengths = torch.arange(1, batch + 1, device=device) * tokens // batch
        key_mask = torch.arange(tokens, device=device) < lengths[:, None]
        grad = torch.where(key_mask[..., None], grad, 0.0)
    return [x.requires_grad_() for x in leaves], grad, key_mask


def _form(name: str, setting: BlockSetting, key_mask: Tensor | None) -> Callable[..., Tensor]:
    """A form as a function of the leaves."""
    module = load_blocks() if name == GENERATED else _Plain
    function = getattr(module, setting.block)
    function = torch.compile(function, fullgraph=True, dynamic=False) if name == COMPILED else function
    match setting.block:
        case "layer_norm":
            return lambda *x: function(*x, EPS, setting.dropout_p)
        case "bias_gelu":
            return lambda *x: function(*x)
    return lambda *x: function(*x, key_mask)


class _Plain:
    """The blocks as PyTorch's own calls."""

    @staticmethod
    def layer_norm(
        x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, dropout_p: float
    ) -> Tensor:
        return F.layer_norm(residual + F.dropout(x, dropout_p), x.shape[-1:], weight, bias, eps)

    @staticmethod
    def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
        return F.gelu(x + bias)

    @staticmethod
    def light_conv(gate: Tensor, kernel: Tensor, key_mask: Tensor | None) -> Tensor:
        x = F.glu(gate, -1)
        if key_mask is not None:
            x = torch.where(key_mask[..., None], x, 0.0)
        batch, tokens, channels = x.shape
        x = x.unflatten(-1, (len(kernel), -1)).permute(0, 3, 2, 1).flatten(0, 1)
        weight = torch.softmax(kernel, -1).unsqueeze(1)
        x = F.conv1d(x, weight, padding=weight.shape[-1] // 2, groups=len(kernel))
        x = x.unflatten(0, (batch, -1)).permute(0, 3, 2, 1).reshape(batch, tokens, channels)
        return x if key_mask is None else torch.where(key_mask[..., None], x, 0.0)
