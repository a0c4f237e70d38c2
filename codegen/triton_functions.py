"""The pointwise functions in Triton: one table beside `codegen.pointwise.FUNCTIONS`."""

from __future__ import annotations

from graphir.ops import COSINE_EPS, RMS_NORM_EPS

TRITON_FUNCTIONS: dict[str, str] = {
    "logsigmoid": "_logsigmoid({x})",
    "softsign": "{x} / (1.0 + tl.abs({x}))",
    "relu": "tl.maximum({x}, 0.0)",
    "sigmoid": "_sigmoid({x})",
    "tanh": "_tanh({x})",
    "exp": "tl.exp({x})",
    "abs": "tl.abs({x})",
    "inverse_norm": f"tl.rsqrt(tl.maximum({{x}}, {COSINE_EPS}))",
    "inverse_root": f"tl.rsqrt({{x}} + {RMS_NORM_EPS})",
    "inverse_count": "1.0 / tl.maximum({x}, 1.0)",
    "softsign_slope": "_softsign_slope({x})",
    "step": "tl.where({x} > 0.0, 1.0, 0.0)",
    "tanh_slope": "_tanh_slope({x})",
    "sign": "_sign({x})",
    "inverse_norm_slope": f"_inverse_norm_slope({{x}}, {COSINE_EPS})",
    "inverse_root_slope": f"_inverse_root_slope({{x}} + {RMS_NORM_EPS})",
    "inverse_or_zero": "_inverse_or_zero({x})",
}
"""Source with ``{x}`` for the operand, by function; names that begin with _ stand in ``templates/triton/functions``."""
