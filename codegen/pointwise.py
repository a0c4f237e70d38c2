"""The pointwise functions of the expression form: one table.

``keeps_zero`` decides where masks are needed: a value that is zero at padded positions stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphir.ops import COSINE_EPS, RMS_NORM_EPS

Array = np.ndarray


@dataclass(frozen=True)
class Function:
    """A pointwise function.

    Attributes:
        torch: PyTorch source with ``{x}`` for the operand.
        numpy: the same for the dense evaluator.
        keeps_zero: whether f(0) = 0.
        explodes: whether it can overflow on moderate operands, such as those that padding leaves behind.
    """

    torch: str
    numpy: Callable[[Array], Array]
    keeps_zero: bool = False
    explodes: bool = False


FUNCTIONS: dict[str, Function] = {
    "logsigmoid": Function("F.logsigmoid({x})", lambda x: -np.logaddexp(0.0, -x)),
    "softsign": Function("F.softsign({x})", lambda x: x / (1 + np.abs(x)), keeps_zero=True),
    "relu": Function("F.relu({x})", lambda x: np.maximum(x, 0), keeps_zero=True),
    "sigmoid": Function("torch.sigmoid({x})", lambda x: np.exp(-np.logaddexp(0.0, -x))),
    "tanh": Function("torch.tanh({x})", np.tanh, keeps_zero=True),
    "exp": Function("torch.exp({x})", np.exp, explodes=True),
    "abs": Function("torch.abs({x})", np.abs, keeps_zero=True),
    # 1 / |x| from |x|^2, clamped as cosine_similarity means it.
    "inverse_norm": Function(
        f"torch.clamp({{x}}, min={COSINE_EPS}).rsqrt()", lambda x: 1 / np.sqrt(np.maximum(x, COSINE_EPS))
    ),
    # 1 / sqrt(mean square + eps), as rms_norm means it.
    "inverse_root": Function(f"({{x}} + {RMS_NORM_EPS}).rsqrt()", lambda x: 1 / np.sqrt(x + RMS_NORM_EPS)),
    # One over a count of tokens; an empty sequence counts as one.
    "inverse_count": Function("torch.reciprocal({x})", lambda x: 1 / np.maximum(x, 1)),
    # Slopes of the functions above, for the backward; at kinks the subgradient that PyTorch takes.
    "softsign_slope": Function("(1.0 + torch.abs({x})) ** -2", lambda x: (1 + np.abs(x)) ** -2.0),
    "step": Function("torch.heaviside({x}, {x}.new_zeros(()))", lambda x: (x > 0) * 1.0, keeps_zero=True),
    "tanh_slope": Function("1.0 - torch.tanh({x}) ** 2", lambda x: 1 - np.tanh(x) ** 2),
    "sign": Function("torch.sign({x})", np.sign, keeps_zero=True),
    "inverse_norm_slope": Function(
        f"torch.where({{x}} > {COSINE_EPS}, -0.5 * torch.clamp({{x}}, min={COSINE_EPS}) ** -1.5, 0.0)",
        lambda x: np.where(x > COSINE_EPS, -0.5 * np.maximum(x, COSINE_EPS) ** -1.5, 0.0),
    ),
    "inverse_root_slope": Function(
        f"-0.5 * ({{x}} + {RMS_NORM_EPS}) ** -1.5", lambda x: -0.5 * (x + RMS_NORM_EPS) ** -1.5
    ),
    "inverse_or_zero": Function(
        "torch.where({x} > 0.0, 1.0 / {x}, 0.0)",
        lambda x: np.divide(1.0, x, out=np.zeros_like(x), where=x > 0),
        keeps_zero=True,
    ),
    # Attention dropout: an identity unless dropout_p > 0. Equal softmaxes share one mask.
    "dropout": Function("F.dropout({x}, dropout_p)", lambda x: x, keeps_zero=True),
}
